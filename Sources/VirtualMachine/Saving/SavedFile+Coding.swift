import Snapshot

/// The header and the table, to and from bytes.
extension SavedFile {
    package static func table(_ sections: [Section]) -> [UInt8] {
        var bytes: [UInt8] = []
        for section in sections {
            var name = Array(section.name.utf8.prefix(nameBytes))
            name += [UInt8](repeating: 0, count: nameBytes - name.count)
            var writer = FieldWriter()
            writer.put(section.offset)
            writer.put(section.length)
            writer.put(section.checksum)
            bytes += name + writer.bytes
        }
        return bytes
    }

    /// - Parameters:
    ///   - offset: where the table lies: at the end of the file.
    ///   - table: its bytes.
    package static func header(sections: Int, at offset: UInt64, table: [UInt8]) -> [UInt8] {
        var writer = FieldWriter()
        writer.put(version)
        writer.put(UInt32(truncatingIfNeeded: sections))
        writer.put(offset)
        writer.put(offset + UInt64(table.count))
        writer.put(Checksum.of(table))
        let bytes = magic + writer.bytes
        var last = FieldWriter()
        last.put(Checksum.of(bytes))
        return bytes + last.bytes
    }

    /// What follows the magic.
    struct Header {
        var version: UInt32
        var sections: UInt32
        /// The table's offset.
        var table: UInt64
        /// The file's length.
        var length: UInt64
        var tableChecksum: UInt64
        /// Of all that is before it.
        var checksum: UInt64

        init(_ reader: inout FieldReader) throws(FieldError) {
            version = try reader.get("version")
            sections = try reader.get("number of sections")
            table = try reader.get("offset of the table")
            length = try reader.get("length")
            tableChecksum = try reader.get("checksum of the table")
            checksum = try reader.get("checksum of the header")
        }
    }

    /// The sections that a table names; nil unless they fill the file from its header to `end`.
    package static func sections(_ table: [UInt8], end: UInt64) -> [Section]? {
        var sections: [Section] = []
        var position = UInt64(headerBytes)
        for start in stride(from: 0, to: table.count, by: entryBytes) {
            let entry = table[start..<min(start + entryBytes, table.count)]
            let name = entry.prefix(nameBytes).prefix { $0 != 0 }
            var reader = FieldReader(Array(entry.dropFirst(nameBytes)))
            guard let text = String(validating: name, as: UTF8.self),
                let offset: UInt64 = try? reader.get("offset", in: position...position),
                let length: UInt64 = try? reader.get("length"),
                let checksum: UInt64 = try? reader.get("checksum"),
                offset <= end, length <= end - offset
            else { return nil }
            sections.append(
                Section(name: text, offset: offset, length: length, checksum: checksum))
            position = offset + length
        }
        return position == end ? sections : nil
    }
}
