/// The one clock that every timer of the machine is derived from.
///
/// `now` never goes back. Its meaning (virtual or host time) is the board's business.
public protocol TimeSource: AnyObject {
    /// Nanoseconds since the machine's start.
    var now: UInt64 { get }
}
