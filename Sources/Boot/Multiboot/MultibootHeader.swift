/// A Multiboot 1 header.
///
/// - Source: Multiboot Specification 0.6.96 §3.1.
struct MultibootHeader {
    /// The addresses of a file that is not loaded by ELF program headers (flag bit 16).
    struct Addresses {
        /// Where the header itself lies in memory.
        var header: UInt64
        /// Where loading starts.
        var load: UInt64
        /// Where it ends; 0: the file's end.
        var loadEnd: UInt64
        /// Where zeroes after it end; 0: there are none.
        var zeroEnd: UInt64
        /// The entry point.
        var entry: UInt64
    }

    private static let magic: UInt32 = 0x1bad_b002
    /// How far into the file the header may reach, in bytes.
    private static let searched: UInt64 = 8192
    /// Bit 16: the address fields are valid.
    private static let addressFlag: UInt32 = 1 << 16
    /// Bits 3…15 are required features that no specification defines. Bits 0 (modules at pages)
    /// and 1 (memory information) are always satisfied. Bit 2 asks for a video mode; there is
    /// no video, the information structure says so, and kernels write to the serial port then.
    private static let unknownRequired: UInt32 = 0xfff8

    /// The header's offset in the file, in bytes.
    let offset: UInt64
    /// The addresses, if the file is not to be loaded as ELF.
    let addresses: Addresses?

    /// Finds the header: 4-aligned, within the first 8192 bytes, sum of three fields zero.
    /// - Returns: nil if there is none.
    static func find(in file: ImageFile) throws(BootError) -> MultibootHeader? {
        let end = min(file.size, searched)
        var offset: UInt64 = 0
        while offset + 12 <= end {
            if try file.load(UInt32.self, at: offset) == magic {
                let flags = try file.load(UInt32.self, at: offset + 4)
                let checksum = try file.load(UInt32.self, at: offset + 8)
                if magic &+ flags &+ checksum == 0 {
                    return try MultibootHeader(file, at: offset, flags: flags)
                }
            }
            offset += 4
        }
        return nil
    }

    private init(_ file: ImageFile, at offset: UInt64, flags: UInt32) throws(BootError) {
        let unknown = flags & Self.unknownRequired
        guard unknown == 0 else { throw .unsupportedMultiboot(path: file.path, flags: unknown) }
        self.offset = offset
        guard flags & Self.addressFlag != 0 else {
            addresses = nil
            return
        }
        func field(_ index: UInt64) throws(BootError) -> UInt64 {
            UInt64(try file.load(UInt32.self, at: offset + 12 + 4 * index))
        }
        addresses = Addresses(
            header: try field(0), load: try field(1), loadEnd: try field(2),
            zeroEnd: try field(3), entry: try field(4))
    }
}
