import X86

/// The fields of a bzImage's setup header that loading needs.
///
/// Offsets are from the file's start, and equally from the zero page's start.
/// - Source: Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
struct LinuxHeader {
    /// Offsets of header fields.
    enum Offset {
        static let setupSectors: UInt64 = 0x1f1
        static let systemSize: UInt64 = 0x1f4
        static let videoMode: UInt64 = 0x1fa
        static let bootFlag: UInt64 = 0x1fe
        static let jump: UInt64 = 0x200
        static let magic: UInt64 = 0x202
        static let version: UInt64 = 0x206
        static let typeOfLoader: UInt64 = 0x210
        static let code32Start: UInt64 = 0x214
        static let ramdiskImage: UInt64 = 0x218
        static let ramdiskSize: UInt64 = 0x21c
        static let commandLine: UInt64 = 0x228
        static let initrdAddressMax: UInt64 = 0x22c
        static let xloadflags: UInt64 = 0x236
        static let commandLineSize: UInt64 = 0x238
        static let setupData: UInt64 = 0x250
        static let preferredAddress: UInt64 = 0x258
        static let initSize: UInt64 = 0x260
        /// Where the header of version 2.12 ends.
        static let end212: UInt64 = 0x268
        /// Where the zero page has other things again.
        static let limit: UInt64 = 0x290
    }

    /// XLF_KERNEL_64: the entry at offset 0x200 of the protected-mode part is there.
    static let entry64: UInt16 = 1 << 0
    /// The first version that has `xloadflags`.
    static let leastVersion: UInt16 = 0x20c

    /// Whether the kernel starts in 64-bit mode; others start in 32-bit protected mode.
    let has64BitEntry: Bool
    /// The bytes of the header in the file.
    let headerRange: Range<Int>
    /// The bytes of the protected-mode part in the file.
    let kernelRange: Range<Int>
    /// Where the protected-mode part wants to lie.
    let preferredAddress: UInt64
    /// How many bytes from there the kernel uses before it has read the memory map.
    let runtimeSize: UInt64
    /// The highest address that a byte of the initrd may have.
    let initrdAddressMax: UInt64
    /// The most bytes of a command line, without its NUL.
    let commandLineSize: UInt64

    /// Whether the file claims to be a bzImage.
    static func isPresent(in file: ImageFile) -> Bool {
        (try? file.load(UInt16.self, at: Offset.bootFlag)) == 0xaa55
            && (try? file.load(UInt32.self, at: Offset.magic)) == 0x5372_6448  // "HdrS"
    }

    init(_ file: ImageFile) throws(BootError) {
        let version = try file.load(UInt16.self, at: Offset.version)
        guard version >= Self.leastVersion else {
            throw .oldBootProtocol(path: file.path, version: version)
        }
        // The second byte of the jump at 0x200 leads just past the header.
        let end = Offset.magic + UInt64(try file.load(UInt8.self, at: Offset.jump + 1))
        let size = end - Offset.setupSectors
        guard end >= Offset.end212 else {
            throw .badImage(path: file.path, .shortSetupHeader(Int(size)))
        }
        headerRange = try file.range(
            at: Offset.setupSectors, count: min(end, Offset.limit) - Offset.setupSectors)
        let flags = try file.load(UInt16.self, at: Offset.xloadflags)
        has64BitEntry = flags & Self.entry64 != 0

        // 0 means 4, for kernels long gone; the boot sector comes on top.
        let sectors = try file.load(UInt8.self, at: Offset.setupSectors)
        let start = (UInt64(sectors == 0 ? 4 : sectors) + 1) * 512
        let paragraphs = UInt64(try file.load(UInt32.self, at: Offset.systemSize))
        // The last paragraph may be incomplete. Beyond it may lie a signature.
        try file.range(at: start, count: max(paragraphs * 16, 16) - 15)
        // The entry has to be in the file, whichever it is.
        try file.range(at: start, count: LinuxBoot.entryOffset + 1)
        kernelRange = Int(start)..<file.bytes.count

        preferredAddress = try file.load(UInt64.self, at: Offset.preferredAddress)
        guard preferredAddress >= Layout.extendedMemory, preferredAddress % pageSize == 0 else {
            throw .badImage(path: file.path, .badPreferredAddress(preferredAddress))
        }
        let initSize = UInt64(try file.load(UInt32.self, at: Offset.initSize))
        runtimeSize = max(initSize, UInt64(kernelRange.count))
        initrdAddressMax = UInt64(try file.load(UInt32.self, at: Offset.initrdAddressMax))
        commandLineSize = UInt64(try file.load(UInt32.self, at: Offset.commandLineSize))
    }
}
