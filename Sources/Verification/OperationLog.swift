import Processor

/// The latest operations that ended staleness, by moment: for messages.
struct OperationLog {
    /// What was done.
    enum Kind: Equatable {
        case operation(TranslationOperation)
        /// A page fault was delivered to the guest.
        case pageFault(UInt64)

        init(_ operation: TranslationOperation) { self = .operation(operation) }
    }

    struct Record {
        var moment: Moment
        var operation: Kind
        /// The PCID after it.
        var pcid: UInt16
        var processor: Int
        var rip: UInt64
        var retired: UInt64
    }

    private static let capacity = 1 << 16
    private var records: [Record] = []
    private var next = 0

    mutating func append(_ record: Record) {
        if records.count < Self.capacity {
            records.append(record)
        } else {
            records[next] = record
        }
        next = (next + 1) % Self.capacity
    }

    /// The operation of a moment; nil where it is too long ago.
    func at(_ moment: Moment) -> Record? {
        records.first { $0.moment == moment }
    }
}
