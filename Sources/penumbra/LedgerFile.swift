import SystemPackage

/// The file that takes the ledger at the end of a run; opened before the run, so that a path that
/// cannot be written is known before any work is lost.
struct LedgerFile {
    private let path: String
    private let file: FileDescriptor

    /// - Throws: `Failure.cannotWrite`.
    init(_ path: String) throws(Failure) {
        self.path = path
        do {
            // What is there is kept until the new ledger is.
            file = try FileDescriptor.open(
                FilePath(path), .writeOnly, options: [.create, .closeOnExec],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
        } catch {
            throw Failure.writing(path, error)
        }
    }

    /// Replaces what the file holds, and closes it.
    /// - Throws: `Failure.cannotWrite`.
    func write(_ text: String) throws(Failure) {
        do {
            try file.closeAfter {
                // Pipes and terminals have no length to cut.
                try? file.resize(to: 0)
                _ = try file.writeAll(text.utf8)
            }
        } catch {
            throw Failure.writing(path, error)
        }
    }
}

extension Failure {
    /// A file that swift-system could not open or write.
    static func writing(_ path: String, _ error: any Error) -> Failure {
        .cannotWrite(path: path, errno: (error as? Errno)?.rawValue ?? 0)
    }
}
