extension ELFFile {
    /// XEN_ELFNOTE_PHYS32_ENTRY: the note that holds the PVH entry point.
    private static let entryNote: UInt32 = 18

    /// The physical address of the PVH entry point, from the note of owner "Xen" and type 18.
    /// - Returns: nil if the file has no such note.
    /// - Source: Xen, "PVH boot ABI" and public/elfnote.h.
    func pvhEntry(in file: ImageFile) throws(BootError) -> UInt64? {
        for segment in segments where segment.type == 4 {  // PT_NOTE
            let range = try file.range(at: segment.offset, count: segment.fileSize)
            // Every offset below stays at or below the file's size plus two 32-bit sizes.
            var offset = UInt64(range.lowerBound)
            while offset + 12 <= UInt64(range.upperBound) {
                let nameSize = UInt64(try file.load(UInt32.self, at: offset))
                let size = UInt64(try file.load(UInt32.self, at: offset + 4))
                let type = try file.load(UInt32.self, at: offset + 8)
                let value = offset + 12 + (nameSize + 3) & ~3
                let name = try file.range(at: offset + 12, count: nameSize)
                if type == Self.entryNote, file.bytes[name].elementsEqual([0x58, 0x65, 0x6e, 0]) {
                    let entry =
                        size >= 8
                        ? try file.load(UInt64.self, at: value)
                        : UInt64(try file.load(UInt32.self, at: value))
                    return try checkEntry(entry, path: file.path)
                }
                offset = value + (size + 3) & ~3
            }
        }
        return nil
    }
}
