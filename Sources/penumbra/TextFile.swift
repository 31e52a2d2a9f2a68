import SystemPackage

/// A text that is written bit by bit, up to a ceiling.
struct TextFile {
    private let path: String
    private let file: FileDescriptor
    private var buffer: [UInt8] = []
    private var room: Int
    /// The first error: nothing is written after it.
    private var failure: Failure?

    /// Makes the file anew.
    /// - Parameter isOwn: a link in its place is not followed.
    /// - Throws: `Failure.cannotWrite`.
    init(_ path: String, mostBytes: Int, isOwn: Bool = false) throws(Failure) {
        self.path = path
        room = mostBytes
        do {
            file = try FileDescriptor.open(
                FilePath(path), .writeOnly,
                options: isOwn
                    ? [.create, .truncate, .closeOnExec, .noFollow]
                    : [.create, .truncate, .closeOnExec],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
        } catch {
            throw .writing(path, error)
        }
    }

    init(standardError mostBytes: Int) {
        path = "standard error"
        file = .standardError
        room = mostBytes
    }

    /// Adds to the text; past the ceiling nothing more is kept.
    mutating func append(_ text: String) {
        guard failure == nil, room > 0 else { return }
        let bytes = text.utf8
        if bytes.count > room {
            room = 0
            StandardStreams.report("\(path) is full: nothing more is written to it")
            return
        }
        room -= bytes.count
        buffer += bytes
        if buffer.count >= 1 << 16 { flush() }
    }

    private mutating func flush() {
        do {
            _ = try file.writeAll(buffer)
        } catch {
            failure = .writing(path, error)
        }
        buffer.removeAll(keepingCapacity: true)
    }

    /// Writes the rest.
    /// - Throws: `Failure.cannotWrite` where any of it could not be written.
    mutating func close() throws(Failure) {
        if failure == nil { flush() }
        if file != .standardError { try? file.close() }
        if let failure { throw failure }
    }
}
