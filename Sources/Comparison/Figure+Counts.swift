import Hypervisor
import Processor

extension Figure {
    /// The counts of the ledger that the figure prices: it is multiplied by their sum.
    ///
    /// Some counts are priced by two figures, where two things happen at each event: an exit costs
    /// the transfer, the way to its handler, and what the handler does.
    public var counts: [CountName] {
        switch self {
        case .instruction: [CountName("execution", "instructions")]
        case .tlbMiss: [CountName("execution", "tlb-misses")]
        case .walkReference: [CountName("execution", "walk-references")]
        case .exit, .dispatch: Self.exits.map { CountName("exits", $0.rawValue) }
        case .recordAddress, .recordValue, .recordMask:
            [CountName("traced-writes", "recorded")]
        case .coalescedWrite: [CountName("traced-writes", "coalesced")]
        case .elidedOperation: CountName.each("elided", ElidedOperation.self)
        case .hiddenFault: [CountName("page-faults", "hidden")]
        case .trueFault: [CountName("page-faults", "true")]
        case .secondDimensionFault: [CountName("exits", "second-dimension-fault")]
        case .tableWrite: [CountName("exits", "table-write")]
        case .rootLoad: [CountName("exits", "root-loaded")]
        case .invalidatePage: [CountName("exits", "invalidate-page")]
        case .invalidatePCID: [CountName("exits", "invalidate-pcid")]
        case .pagingModeChange: [CountName("exits", "paging-mode-changed")]
        case .bufferThreshold: [CountName("exits", "buffer-threshold")]
        case .bufferFull: [CountName("exits", "buffer-full")]
        case .drain: CountName.each("drains", DrainCause.self)
        case .drainedRecord: [CountName("traced-writes", "drained")]
        case .entryReread: [CountName("traced-writes", "entries-reread")]
        case .tableUnsynced: [CountName("traced-writes", "tables-unsynced")]
        case .tableResynced: [CountName("traced-writes", "tables-resynced")]
        case .entryResynced: [CountName("traced-writes", "entries-resynced")]
        case .tableNested: [CountName("traced-writes", "tables-nested")]
        case .tableReturned: [CountName("traced-writes", "tables-returned")]
        case .watchEnded: [CountName("traced-writes", "watches-ended")]
        case .shadowPageMade: [CountName("shadow-pages", "made")]
        case .shadowPageDropped:
            [CountName("shadow-pages", "dropped"), CountName("shadow-pages", "reclaimed")]
        case .entryInstalled: [CountName("shadow-pages", "entries-installed")]
        case .entryDropped: [CountName("shadow-pages", "entries-dropped")]
        case .traceStarted: [CountName("shadow-pages", "traces-started")]
        case .traceStopped: [CountName("shadow-pages", "traces-stopped")]
        case .pageInvalidation: [CountName("shadow-pages", "page-invalidations")]
        case .fullInvalidation: [CountName("shadow-pages", "full-invalidations")]
        }
    }

    /// The exits that a machine with hardware virtualization would take, too.
    private static let exits: [ExitReason] = [
        .pageFault, .tableWrite, .secondDimensionFault, .rootLoaded, .invalidatePage,
        .invalidatePCID, .pagingModeChanged, .bufferThreshold, .bufferFull,
    ]

    /// The format of records that the figure is for; nil: whatever the technique.
    var format: TraceFormat? {
        switch self {
        case .recordAddress: .address
        case .recordValue: .value
        case .recordMask: .mask
        default: nil
        }
    }

    /// Whether the figure has a meaning for runs under a technique.
    public func applies(to technique: Technique) -> Bool {
        guard let format else { return true }
        guard case .traced(let parameters) = technique else { return false }
        return parameters.record == format
    }
}

/// Why a count of the ledger has no price.
public struct Unpriced: Sendable {
    public var count: CountName
    public var reason: String

    /// Every count that no figure prices.
    public static let all: [Unpriced] =
        list(
            "exits", ["limit", "halted", "stopped"],
            "the engine's own: where it looks at clocks, input and signals")
        + list("exits", ["triple-fault"], "it ends the machine")
        + list(
            "execution", ["interrupts", "exceptions"],
            "the guest's own, the same under every technique: part of its instructions")
        + list(
            "execution", ["device-accesses"],
            "the same under every technique, and answered without an exit")
        + list(
            "traced-writes", ["former-tables", "values-superseded"],
            "some of the drained records, which are priced")
        + list("traced-writes", ["empty-drains"], "some of the drains, which are priced")
        + list(
            "traced-writes", ["entries-refilled"], "some of the installed entries, which are priced"
        )
        + CountName.each("records-by-level", TableLevel.self).map {
            Unpriced(count: $0, reason: "the drained records once more, by level")
        }
        + CountName.each("table-writes", TableLevel.self).map {
            Unpriced(count: $0, reason: "the table-write exits once more, by level")
        }
        + list("page-faults", ["dirty", "spurious"], "some of the hidden faults, which are priced")
        + list(
            "shadow-pages", ["reused"], "the look-up is part of the fault or load that made it")
        + list("shadow-pages", ["abandoned"], "some of the dropped pages, which are priced")
        + list("shadow-pages", ["live", "peak"], "amounts of memory, no events")

    private static func list(_ section: String, _ rows: [String], _ reason: String) -> [Unpriced] {
        rows.map { Unpriced(count: CountName(section, $0), reason: reason) }
    }
}
