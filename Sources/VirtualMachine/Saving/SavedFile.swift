/// The layout of a saved machine's file; `Docs/SavedMachines.md` describes it for readers.
///
/// ```
///  offset
///  0    8   magic
///  8    4   version of the format
///  12   4   number of sections, n
///  16   8   offset of the table of sections: the file's length - 40 n
///  24   8   length of the file in bytes
///  32   8   XXH3-64 of the table
///  40   8   XXH3-64 of bytes 0…39
///  48       the sections' contents, one after the other
///           the table: for each section 16 bytes name (ASCII, padded with zeroes),
///           8 offset, 8 length in bytes, 8 XXH3-64 of the contents
/// ```
/// Integers are little-endian. Each byte of the file is covered: the header by its own checksum, the
/// table by the header's, the contents by the table's.
package enum SavedFile {
    /// Like PNG's: a byte that no text has, a name, and line ends that text transfers change.
    package static let magic: [UInt8] = [0x8e] + Array("PENU".utf8) + [0x0d, 0x0a, 0x1a]
    /// To be raised with each change of what any section holds.
    package static let version: UInt32 = 3
    package static let headerBytes = 48
    package static let entryBytes = 40
    package static let nameBytes = 16

    /// The names of the sections, in their order.
    package static func names(processors: Int) -> [String] {
        [machine, board] + (0..<processors).map { "processor\($0)" } + [chipset, memory]
    }
    package static let machine = "machine"
    package static let board = "board"
    package static let chipset = "chipset"
    package static let memory = "memory"

    /// One entry of the table.
    package struct Section: Equatable {
        package var name: String
        package var offset: UInt64
        package var length: UInt64
        package var checksum: UInt64

        package init(name: String, offset: UInt64, length: UInt64, checksum: UInt64) {
            self.name = name
            self.offset = offset
            self.length = length
            self.checksum = checksum
        }
    }
}
