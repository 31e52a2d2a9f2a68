/// A reference that is not retained for its use: to retain and release what is used several times in
/// each exit costs more than the rest of some exits.
@safe @frozen
public struct Unretained<Object: AnyObject> {
    // Invariant: whoever holds this value holds the object as well.
    @usableFromInline let reference: Unmanaged<Object>

    /// The holder must keep `object` for as long as it keeps this value.
    @inlinable
    public init(_ object: Object) { unsafe reference = .passUnretained(object) }

    /// Calls `body` with the object.
    @inlinable @inline(__always)
    public func with<Result>(_ body: (Object) -> Result) -> Result {
        unsafe reference._withUnsafeGuaranteedRef(body)
    }
}
