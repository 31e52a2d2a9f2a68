import Reporting
import SystemPackage

/// The file that `--symbols` names; read before the run, so that a bad one is known before any work
/// is lost.
enum SymbolFile {
    /// No kernel's table of symbols comes near this.
    private static let mostBytes = 64 << 20

    /// - Throws: `Failure.badSymbols`.
    static func read(_ path: String) throws(Failure) -> SymbolTable {
        let text = try contents(of: path)
        do throws(SymbolError) {
            return try SymbolTable(parsing: text)
        } catch {
            throw Failure.badSymbols(path: path, reason: "\(error)")
        }
    }

    private static func contents(of path: String) throws(Failure) -> [UInt8] {
        do {
            let file = try FileDescriptor.open(
                FilePath(path), .readOnly, options: .closeOnExec)
            return try file.closeAfter {
                // Files of /proc do not tell their size.
                var bytes: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 1 << 20)
                while bytes.count <= mostBytes {
                    let count = try unsafe buffer.withUnsafeMutableBytes {
                        unsafe try file.read(into: $0)
                    }
                    if count == 0 { return bytes }
                    bytes += buffer.prefix(count)
                }
                throw Errno.fileTooLarge
            }
        } catch {
            let reason = (error as? Errno).map { systemMessage($0.rawValue) } ?? "\(error)"
            throw Failure.badSymbols(path: path, reason: reason)
        }
    }
}
