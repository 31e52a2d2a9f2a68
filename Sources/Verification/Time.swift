/// A moment: the number of an event that the oracle has seen. Each write to a table and each
/// operation has a moment of its own.
typealias Moment = UInt64

/// Moments from `from` up to, not including, `to`; never empty where made by `clipped`.
struct Span: Equatable {
    var from: Moment
    var to: Moment

    static let ever = Span(from: 0, to: .max)

    /// What two spans have in common; nil where that is nothing.
    func clipped(_ other: Span) -> Span? {
        let from = max(from, other.from)
        let to = min(to, other.to)
        return from < to ? Span(from: from, to: to) : nil
    }
}
