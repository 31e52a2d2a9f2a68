import Foundation

/// What is wrong with a profile or a ledger that the user gave, on one line:
/// `FILE:LINE: what is wrong; what is allowed`.
public struct InputError: Error, Equatable, CustomStringConvertible {
    /// The file, as the user named it.
    public var file: String
    /// The line, from 1; nil where the file as a whole is meant.
    public var line: Int?
    /// What is wrong, and what is allowed.
    public var message: String

    public init(file: String, line: Int?, _ message: String) {
        self.file = file
        self.line = line
        self.message = message
    }

    public var description: String {
        line.map { "\(file):\($0): \(message)" } ?? "\(file): \(message)"
    }

    /// A file that the system could not read.
    static func unreadable(_ path: String, _ error: any Error) -> InputError {
        let underlying = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
        let reason: String
        switch (error as? CocoaError)?.code {
        case .fileReadNoSuchFile: reason = "there is no such file"
        case .fileReadNoPermission: reason = "you may not read it"
        default:
            reason = underlying?.localizedDescription ?? error.localizedDescription
        }
        return InputError(file: path, line: nil, "cannot be read (\(reason)); give a readable file")
    }
}
