import Glibc

/// The guest that `make setup` fetches and builds: what `penumbra run` boots without `--kernel`.
struct DefaultGuest {
    /// The kernel's file.
    var kernel: String
    /// The initramfs's file.
    var initrd: String

    /// Prints to the serial port, leaves out the kernel's cryptographic self-tests (half of a boot),
    /// and ends the machine where the kernel panics.
    static let commandLine = "console=ttyS0 cryptomgr.notests panic=-1"

    /// Has it wait for workloads, a line on the console, where `waitingRegion` begins.
    static let waitingCommandLine = commandLine + " quiet penumbra.script=wait"
    static let waitingRegion: UInt16 = 65535

    /// Where it is looked for: in `PENUMBRA_GUESTS` where that is set, else under the working
    /// directory.
    static var directories: [String] {
        if let directory = unsafe getenv("PENUMBRA_GUESTS") {
            return unsafe [String(cString: directory)]
        }
        return ["Guests/.fetched"]
    }

    /// - Throws: `Failure.noDefaultGuest` where no directory holds both files.
    static func find() throws(Failure) -> DefaultGuest {
        for directory in directories {
            let guest = DefaultGuest(
                kernel: directory + "/vmlinuz", initrd: directory + "/initramfs.cpio.gz")
            if canRead(guest.kernel) && canRead(guest.initrd) { return guest }
        }
        throw .noDefaultGuest(directories)
    }

    private static func canRead(_ path: String) -> Bool { unsafe access(path, R_OK) == 0 }
}
