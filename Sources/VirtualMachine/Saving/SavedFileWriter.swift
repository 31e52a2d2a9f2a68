import Glibc
import SystemPackage

/// Writes a saved machine, so that at any moment there is either the old file or the whole new one.
///
/// The sections go to a temporary file in the same directory. Its header is written last, so that
/// one that was left behind by a crash does not look whole; then it takes the name. A writer that
/// goes away without `commit` removes it.
final class SavedFileWriter {
    private let path: FilePath
    private let temporary: FilePath
    private let file: FileDescriptor
    private var sections: [SavedFile.Section] = []
    private var position = UInt64(SavedFile.headerBytes)
    private var isCommitted = false

    /// Makes the temporary file.
    init(_ name: String) throws(SavedMachineError) {
        path = FilePath(name)
        var status = stat()
        if unsafe stat(name, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            throw .noFile(path: name)
        }
        temporary = FilePath("\(name).\(getpid()).partial")
        do {
            // What a process of the same number left behind, if it was killed.
            unsafe temporary.withPlatformString { _ = unsafe unlink($0) }
            file = try FileDescriptor.open(
                temporary, .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec],
                permissions: [.ownerReadWrite])
        } catch { throw .cannotWrite(path: name, error as? Errno ?? .ioError) }
    }

    deinit {
        try? file.close()
        if !isCommitted { unsafe temporary.withPlatformString { _ = unsafe unlink($0) } }
    }

    private func failure(_ error: any Error) -> SavedMachineError {
        .cannotWrite(path: path.string, error as? Errno ?? .ioError)
    }

    /// Writes a section.
    func add(_ name: String, _ bytes: [UInt8]) throws(SavedMachineError) {
        let start = position
        try unsafe bytes.span.bytes.withUnsafeBytes { (bytes) throws(SavedMachineError) in
            try unsafe write(bytes)
        }
        sections.append(
            SavedFile.Section(
                name: name, offset: start, length: position - start,
                checksum: Checksum.of(bytes)))
    }

    /// Writes a section that is one Zstandard frame.
    /// - Parameter produce: calls its parameter with the contents in pieces.
    func addCompressed(
        _ name: String,
        _ produce: (
            (UnsafeRawBufferPointer) throws(SavedMachineError) -> Void
        ) throws(SavedMachineError) -> Void
    ) throws(SavedMachineError) {
        let start = position
        guard let checksum = Checksum(), let compressor = Compressor() else {
            throw failure(Errno.noMemory)
        }
        func add(
            _ bytes: UnsafeRawBufferPointer, ends: Bool
        ) throws(SavedMachineError) {
            let isDone = try unsafe compressor.add(bytes, ends: ends) {
                (piece) throws(SavedMachineError) in
                unsafe checksum.add(piece)
                try unsafe write(piece)
            }
            if !isDone { throw failure(Errno.noMemory) }
        }
        try unsafe produce { (bytes) throws(SavedMachineError) in try unsafe add(bytes, ends: false)
        }
        try unsafe add(UnsafeRawBufferPointer(start: nil, count: 0), ends: true)
        sections.append(
            SavedFile.Section(
                name: name, offset: start, length: position - start, checksum: checksum.value))
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws(SavedMachineError) {
        var done = 0
        while done < bytes.count {
            do {
                done += try unsafe file.write(
                    toAbsoluteOffset: Int64(position) + Int64(done),
                    UnsafeRawBufferPointer(rebasing: bytes[done...]))
            } catch { throw failure(error) }
        }
        position += UInt64(bytes.count)
    }

    /// Completes the file, makes sure that it is on the disk, and gives it its name.
    func commit() throws(SavedMachineError) {
        let table = SavedFile.table(sections)
        let header = SavedFile.header(sections: sections.count, at: position, table: table)
        do {
            let end = Int64(position)
            _ = try file.writeAll(toAbsoluteOffset: end, table)
            _ = try file.writeAll(toAbsoluteOffset: 0, header)
        } catch { throw failure(error) }
        try check(fsync(file.rawValue))
        try check(unsafe rename(temporary.string, path.string))
        isCommitted = true
        let directory = path.removingLastComponent()
        do {
            let directory = try FileDescriptor.open(
                directory.isEmpty ? "." : directory, .readOnly, options: .closeOnExec)
            defer { try? directory.close() }
            try check(fsync(directory.rawValue))
        } catch { throw failure(error) }
    }

    private func check(_ result: Int32) throws(SavedMachineError) {
        if result != 0 { throw failure(Errno(rawValue: errno)) }
    }
}
