import Snapshot
import SystemPackage

/// A saved machine in a file: opened, and checked but for the guest's memory, which is read and
/// checked when a machine is made from it.
///
/// ```swift
/// let saved = try SavedMachine(path: "booted.pnb")
/// var configuration = saved.configuration
/// configuration.technique = .bare
/// let machine = try VirtualMachine(restoring: saved, configuration, console: console)
/// ```
///
/// *Caveats.* The file is trusted as far as the guest is: whoever can write it decides what the
/// guest does, and no more. Its contents can make Penumbra neither trap nor grow past its ceilings.
public final class SavedMachine {
    /// Where it is.
    public let path: String
    /// What the saved machine is; what is no part of it (the technique, hardware, files to boot
    /// from) has its default.
    public let configuration: MachineConfiguration

    private let file: FileDescriptor
    private let sections: [SavedFile.Section]

    /// The most that a section other than the memory can have, in bytes.
    private static let largestSection: UInt64 = 1 << 20

    /// Opens a file.
    public init(path: String) throws(SavedMachineError) {
        let file: FileDescriptor
        do {
            // Without blocking: a pipe of that name would be waited for.
            file = try FileDescriptor.open(
                FilePath(path), .readOnly, options: [.closeOnExec, .nonBlocking])
        } catch { throw .cannotRead(path: path, error as? Errno ?? .ioError) }
        do throws(SavedMachineError) {
            (sections, configuration) = try Self.parts(file, path)
        } catch {
            try? file.close()
            throw error
        }
        self.path = path
        self.file = file
    }

    deinit { try? file.close() }

    private static func parts(
        _ file: FileDescriptor, _ path: String
    ) throws(SavedMachineError) -> ([SavedFile.Section], MachineConfiguration) {
        let sections = try sections(file, path)
        var reader = FieldReader(try contents(of: sections[0], file, path))
        let configuration: MachineConfiguration
        do throws(FieldError) {
            configuration = try MachineConfiguration(restoringFrom: &reader)
            try reader.finish()
        } catch { throw .impossible(path: path, "section \(sections[0].name): \(error)") }
        let names = SavedFile.names(processors: configuration.processors)
        guard sections.map(\.name) == names else {
            throw .impossible(path: path, "its sections are not those of its processors")
        }
        return (sections, configuration)
    }

    // MARK: The header

    private static func sections(
        _ file: FileDescriptor, _ path: String
    ) throws(SavedMachineError) -> [SavedFile.Section] {
        let length: UInt64
        do { length = UInt64(try file.seek(offset: 0, from: .end)) } catch {
            throw .noSavedMachine(path: path)
        }
        let header = try read(
            file, path, at: 0, count: Int(min(length, UInt64(SavedFile.headerBytes))))
        guard header.starts(with: SavedFile.magic) else { throw .noSavedMachine(path: path) }
        var reader = FieldReader(Array(header.dropFirst(SavedFile.magic.count)))
        let fields: SavedFile.Header
        do throws(FieldError) { fields = try SavedFile.Header(&reader) } catch {
            throw .damaged(path: path, "it ends in its header")
        }
        guard fields.version == SavedFile.version else {
            throw .otherVersion(path: path, fields.version)
        }
        guard Checksum.of(Array(header.dropLast(8))) == fields.checksum else {
            throw .damaged(path: path, "its header was altered")
        }
        guard length == fields.length else {
            throw .damaged(path: path, "it has \(length) bytes of \(fields.length)")
        }
        // Of a file whose checksums are right, these are always so.
        let tableBytes = UInt64(fields.sections) * UInt64(SavedFile.entryBytes)
        guard fields.sections <= 64, fields.sections > 0, fields.table <= length,
            length - fields.table == tableBytes
        else { throw .impossible(path: path, "its header names no table") }
        let table = try read(file, path, at: fields.table, count: Int(tableBytes))
        guard Checksum.of(table) == fields.tableChecksum else {
            throw .damaged(path: path, "its table of sections was altered")
        }
        guard let sections = SavedFile.sections(table, end: fields.table) else {
            throw .impossible(path: path, "its table names no sections")
        }
        return sections
    }

    // MARK: Contents

    /// Reads bytes that the file has.
    private static func read(
        _ file: FileDescriptor, _ path: String, at offset: UInt64, count: Int
    ) throws(SavedMachineError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var filled = 0
        while filled < count {
            do {
                let start = filled
                let more = try unsafe bytes.withUnsafeMutableBytes { buffer in
                    try unsafe file.read(
                        fromAbsoluteOffset: Int64(offset) + Int64(start),
                        into: UnsafeMutableRawBufferPointer(rebasing: buffer[start...]))
                }
                guard more > 0 else { throw Errno.ioError }
                filled += more
            } catch { throw .cannotRead(path: path, error as? Errno ?? .ioError) }
        }
        return bytes
    }

    private static func contents(
        of section: SavedFile.Section, _ file: FileDescriptor, _ path: String
    ) throws(SavedMachineError) -> [UInt8] {
        guard section.length <= largestSection else {
            throw .impossible(path: path, "section \(section.name) is too long")
        }
        let bytes = try read(file, path, at: section.offset, count: Int(section.length))
        guard Checksum.of(bytes) == section.checksum else {
            throw .damaged(path: path, "section \(section.name) was altered")
        }
        return bytes
    }

    /// Gives the contents of a section to `body`, and sees to it that all are used.
    func read(
        _ name: String, _ body: (inout FieldReader) throws(FieldError) -> Void
    ) throws(SavedMachineError) {
        guard let section = sections.first(where: { $0.name == name }) else {
            throw .impossible(path: path, "it has no section \(name)")
        }
        var reader = FieldReader(try Self.contents(of: section, file, path))
        do throws(FieldError) {
            try body(&reader)
            try reader.finish()
        } catch { throw .impossible(path: path, "section \(name): \(error)") }
    }

    /// Decompresses the section of the guest's memory.
    /// - Parameter body: is given a function that fills memory with what comes next. It reads all
    ///   of the contents.
    func readMemory(
        _ body: (
            (UnsafeMutableRawBufferPointer) throws(SavedMachineError) -> Void
        ) throws(SavedMachineError) -> Void
    ) throws(SavedMachineError) {
        guard let section = sections.last, let checksum = Checksum(),
            let decompressor = Decompressor()
        else { throw .cannotRead(path: path, .noMemory) }
        var position = section.offset
        let end = section.offset + section.length
        func take(_ buffer: UnsafeMutableRawBufferPointer) throws(SavedMachineError) -> Int {
            let count = Int(min(UInt64(buffer.count), end - position))
            if count == 0 { return 0 }
            do {
                let piece = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
                let taken = try unsafe file.read(
                    fromAbsoluteOffset: Int64(position), into: piece)
                position += UInt64(taken)
                unsafe checksum.add(UnsafeRawBufferPointer(rebasing: piece[..<taken]))
                return taken
            } catch { throw .cannotRead(path: path, error as? Errno ?? .ioError) }
        }
        func fill(_ memory: UnsafeMutableRawBufferPointer) throws(SavedMachineError) {
            let isFilled = try unsafe decompressor.fill(memory, from: take)
            if !isFilled { throw .damaged(path: path, "section memory is no whole memory") }
        }
        try unsafe body(fill)
        // The frame's end, which has no contents.
        try unsafe fill(UnsafeMutableRawBufferPointer(start: nil, count: 0))
        guard decompressor.isEmpty, position == end, checksum.value == section.checksum else {
            throw .damaged(path: path, "section memory was altered")
        }
    }
}
