import Foundation
import Glibc

/// What the user or the host got wrong in a comparison; each case is one line.
public enum ComparisonError: Error, Equatable, CustomStringConvertible {
    /// Nothing to compare.
    case empty(String)
    /// The same was asked for twice.
    case doubled(String, String)
    /// A process cannot be started; the system's error number.
    case cannotStart(String, errno: Int32)
    /// The guest could not be saved where runs are to start; why, and where its console is.
    case notSaved(String, console: String)
    /// A file cannot be written; the system's words.
    case cannotWrite(path: String, reason: String)
    /// A database that is none, or of another program or version.
    case badDatabase(path: String, reason: String)
    /// One of Slurm's commands is not there.
    case noSlurm(String)
    /// One of Slurm's commands failed; its words.
    case slurm(String, String)
    /// Another comparison is using the folder.
    case busy(String)

    public var description: String {
        switch self {
        case .empty(let what): "there is no \(what) to compare: give at least one"
        case .doubled(let what, let name): "the \(what) '\(name)' is given twice: give it once"
        case .cannotStart(let program, let errno):
            "cannot start \(program): \(Self.words(errno))"
        case .notSaved(let reason, let console):
            "the guest was not saved: \(reason); its console is in \(console)"
        case .cannotWrite(let path, let reason): "cannot write \(path): \(reason)"
        case .badDatabase(let path, let reason):
            "\(path) \(reason): give a new file, or one that 'penumbra compare --sqlite' made"
        case .noSlurm(let command):
            "there is no \(command): run this where Slurm's commands are, or give --executor local"
        case .slurm(let command, let reason): "\(command) failed: \(reason)"
        case .busy(let path):
            "another comparison is using \(path): wait for it, or give another --output"
        }
    }

    static func words(_ number: Int32) -> String {
        guard let text = unsafe strerror(number) else { return "error \(number)" }
        return unsafe String(cString: text)
    }

    /// A file that could not be written.
    static func writing(_ path: String, _ error: any Error) -> ComparisonError {
        let underlying = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
        if let underlying, underlying.domain == NSPOSIXErrorDomain {
            return .cannotWrite(path: path, reason: words(Int32(underlying.code)))
        }
        return .cannotWrite(path: path, reason: error.localizedDescription)
    }
}

/// Writing a file so that it is there whole or not at all.
public enum WholeFile {
    /// Writes to a temporary file beside it, has that reach the disk, and renames it.
    public static func write(_ text: String, to path: String) throws(ComparisonError) {
        let temporary = path + ".new"
        let file = unsafe open(
            temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw failure(path) }
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { bytes in
                // Writes at most the buffer's own length.
                unsafe Glibc.write(file, bytes.baseAddress, bytes.count)
            }
            if count < 0 {
                if errno == EINTR { continue }
                let error = failure(path)
                close(file)
                unsafe unlink(temporary)
                throw error
            }
            rest = rest.dropFirst(count)
        }
        let synced = fsync(file)
        // Terminals and devices cannot be synchronized, and need not be.
        guard synced == 0 || errno == EINVAL else {
            let error = failure(path)
            close(file)
            throw error
        }
        close(file)
        guard unsafe rename(temporary, path) == 0 else { throw failure(path) }
    }

    private static func failure(_ path: String) -> ComparisonError {
        .cannotWrite(path: path, reason: ComparisonError.words(errno))
    }
}
