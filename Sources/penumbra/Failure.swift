import Glibc

/// What the user or the host got wrong, as far as the command line itself notices; each case is one
/// line that says what to do.
enum Failure: Error, Equatable, CustomStringConvertible {
    /// There is no default guest: the directories that were searched.
    case noDefaultGuest([String])
    /// Standard output was closed before the program started.
    case outputClosed
    /// The console cannot be written or read any more; the system's error number.
    case consoleGone(errno: Int32)
    /// A file cannot be written; the system's error number.
    case cannotWrite(path: String, errno: Int32)
    /// A file of symbols cannot be read, or is none.
    case badSymbols(path: String, reason: String)
    /// The guest ended after so many instructions, before the point at which it was to be saved.
    case endedBeforeSaving(at: UInt64, point: UInt64)
    /// The same, where it was to be saved at a region.
    case endedBeforeRegion(at: UInt64, region: UInt16)
    /// The restored machine is past the point at which it is to be saved.
    case savePointIsPast(at: UInt64, point: UInt64)

    var description: String {
        switch self {
        case .noDefaultGuest(let directories):
            return "no default guest in \(directories.joined(separator: " or ")): "
                + "run `make setup` in the project, set PENUMBRA_GUESTS, or give --kernel FILE"
        case .outputClosed:
            return "standard output is closed: the guest's console has nowhere to go"
        case .consoleGone(let errno):
            return "the guest's console went away (\(systemMessage(errno))): the machine was ended"
        case .cannotWrite(let path, let errno):
            return "cannot write \(path): \(systemMessage(errno))"
        case .badSymbols(let path, let reason):
            return "--symbols \(path): \(reason)"
        case .endedBeforeSaving(let count, let point):
            return "the guest ended after \(count) instructions, before --save-at \(point): "
                + "nothing was saved"
        case .endedBeforeRegion(let count, let region):
            return "the guest ended after \(count) instructions, before --save-at-region "
                + "\(region): nothing was saved"
        case .savePointIsPast(let count, let point):
            return "the machine has retired \(count) instructions already: --save-at \(point) is "
                + "past"
        }
    }
}

/// The system's text for an error number: strerror(3).
func systemMessage(_ number: Int32) -> String {
    guard let text = unsafe strerror(number) else { return "error \(number)" }
    return unsafe String(cString: text)
}
