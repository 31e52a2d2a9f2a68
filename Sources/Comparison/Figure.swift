/// One thing that a price profile says the cost of, in cycles an event.
///
/// This is the whole list: a profile has each of these and no other. Which counts of the ledger
/// each one prices is in `Figure+Counts.swift`. The raw value is the name that profiles, tables and
/// JSON use.
public enum Figure: String, CaseIterable, Sendable {
    // The guest and the processor's ordinary hardware.
    case instruction
    case tlbMiss = "tlb-miss"
    case walkReference = "walk-reference"
    // Transfers between guest and hypervisor.
    case exit
    case dispatch
    // The traced-write facility's hardware.
    case recordAddress = "record-address"
    case recordValue = "record-value"
    case recordMask = "record-mask"
    case coalescedWrite = "coalesced-write"
    case elidedOperation = "elided-operation"
    // The hypervisor's own work at an exit.
    case hiddenFault = "hidden-fault"
    case trueFault = "true-fault"
    case secondDimensionFault = "second-dimension-fault"
    case tableWrite = "table-write"
    case rootLoad = "root-load"
    case invalidatePage = "invalidate-page"
    case invalidatePCID = "invalidate-pcid"
    case pagingModeChange = "paging-mode-change"
    case bufferThreshold = "buffer-threshold"
    case bufferFull = "buffer-full"
    // Its work on what the guest wrote.
    case drain
    case drainedRecord = "drained-record"
    case entryReread = "entry-reread"
    case tableUnsynced = "table-unsynced"
    case tableResynced = "table-resynced"
    case entryResynced = "entry-resynced"
    case tableNested = "table-nested"
    case tableReturned = "table-returned"
    case watchEnded = "watch-ended"
    // Its work on the shadow.
    case shadowPageMade = "shadow-page-made"
    case shadowPageDropped = "shadow-page-dropped"
    case entryInstalled = "entry-installed"
    case entryDropped = "entry-dropped"
    case traceStarted = "trace-started"
    case traceStopped = "trace-stopped"
    case pageInvalidation = "page-invalidation"
    case fullInvalidation = "full-invalidation"

    /// What a figure's cycles are spent on: the parts of a bar.
    public enum Group: String, CaseIterable, Sendable {
        /// The guest's own instructions.
        case guest
        /// Misses of the TLB and the walks that follow.
        case translation
        /// Transfers to the hypervisor and back.
        case exits
        /// The facility's hardware: recording writes, and doing operations without an exit.
        case recording
        /// The hypervisor's work on faults, operations and writes.
        case handling
        /// The hypervisor's work on what it drains and reads again.
        case coherence
        /// Making, filling and dropping shadow pages.
        case shadow
    }

    public var group: Group {
        switch self {
        case .instruction: .guest
        case .tlbMiss, .walkReference: .translation
        case .exit, .dispatch: .exits
        case .recordAddress, .recordValue, .recordMask, .coalescedWrite, .elidedOperation:
            .recording
        case .hiddenFault, .trueFault, .secondDimensionFault, .tableWrite, .rootLoad,
            .invalidatePage, .invalidatePCID, .pagingModeChange, .bufferThreshold, .bufferFull:
            .handling
        case .drain, .drainedRecord, .entryReread, .tableUnsynced, .tableResynced,
            .entryResynced, .tableNested, .tableReturned, .watchEnded:
            .coherence
        case .shadowPageMade, .shadowPageDropped, .entryInstalled, .entryDropped, .traceStarted,
            .traceStopped, .pageInvalidation, .fullInvalidation:
            .shadow
        }
    }

    /// The most cycles that a profile may give: what is above is a slip of the pen.
    public var most: Double {
        switch self {
        case .instruction: 100
        case .tlbMiss, .walkReference, .recordAddress, .recordValue, .recordMask, .coalescedWrite:
            10_000
        default: 1_000_000
        }
    }
}
