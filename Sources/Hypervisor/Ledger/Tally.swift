/// A thing that a `Tally` counts by: a closed set of cases with stable names for reports.
public protocol TallyKey: CaseIterable, Hashable, RawRepresentable, Sendable
where RawValue == String, AllCases == [Self] {
    /// The case's place in `allCases`.
    var index: Int { get }
}

/// One exact count for each case of `Key`, of which there are at most 24.
public struct Tally<Key: TallyKey>: Equatable, Sendable, BitwiseCopyable {
    // Inline, so that to count is one addition.
    private var counts = InlineArray<24, UInt64>(repeating: 0)

    public init() {}

    public static func == (one: Tally, other: Tally) -> Bool {
        one.counts.indices.allSatisfy { one.counts[$0] == other.counts[$0] }
    }

    /// How often `key` was counted.
    public subscript(key: Key) -> UInt64 {
        get { counts[key.index] }
        set { counts[key.index] = newValue }
    }

    /// All counts together.
    public var sum: UInt64 { counts.indices.reduce(0) { $0 &+ counts[$1] } }

    /// Each case with its count, in the order of the cases.
    public var pairs: [(key: Key, count: UInt64)] {
        Key.allCases.map { ($0, self[$0]) }
    }
}

/// Why the guest stopped executing: the cases of `Exit`, and what a page-fault exit turned out to
/// be. The end of a completed write is part of its exit and is not counted again. The raw value is the name that
/// reports and JSON use.
public enum ExitReason: String, TallyKey {
    case limit = "limit"
    case halted = "halted"
    case stopped = "stopped"
    case tripleFault = "triple-fault"
    case pageFault = "page-fault"
    case rootLoaded = "root-loaded"
    case invalidatePage = "invalidate-page"
    case invalidatePCID = "invalidate-pcid"
    case pagingModeChanged = "paging-mode-changed"
    case bufferThreshold = "buffer-threshold"
    case bufferFull = "buffer-full"
    /// A page-fault exit that was a write to a protected guest page table.
    case tableWrite = "table-write"
    case secondDimensionFault = "second-dimension-fault"

    /// The case's place in `allCases`.
    public var index: Int {
        switch self {
        case .limit: 0
        case .halted: 1
        case .stopped: 2
        case .tripleFault: 3
        case .pageFault: 4
        case .rootLoaded: 5
        case .invalidatePage: 6
        case .invalidatePCID: 7
        case .pagingModeChanged: 8
        case .bufferThreshold: 9
        case .bufferFull: 10
        case .tableWrite: 11
        case .secondDimensionFault: 12
        }
    }
}

/// The operations that the processor does without an exit where no record is pending.
public enum ElidedOperation: String, TallyKey {
    case rootLoaded = "root-loaded"
    case invalidatePage = "invalidate-page"
    case invalidatePCID = "invalidate-pcid"

    /// The case's place in `allCases`.
    public var index: Int {
        switch self {
        case .rootLoaded: 0
        case .invalidatePage: 1
        case .invalidatePCID: 2
        }
    }
}

/// What made a drain of the guest write buffers necessary.
public enum DrainCause: String, TallyKey {
    case pageFault = "page-fault"
    case rootLoaded = "root-loaded"
    case invalidatePage = "invalidate-page"
    case invalidatePCID = "invalidate-pcid"
    case pagingModeChanged = "paging-mode-changed"
    case bufferThreshold = "buffer-threshold"
    case bufferFull = "buffer-full"
    case deviceWrite = "device-write"
    case completedWrite = "completed-write"

    /// The case's place in `allCases`.
    public var index: Int {
        switch self {
        case .pageFault: 0
        case .rootLoaded: 1
        case .invalidatePage: 2
        case .invalidatePCID: 3
        case .pagingModeChanged: 4
        case .bufferThreshold: 5
        case .bufferFull: 6
        case .deviceWrite: 7
        case .completedWrite: 8
        }
    }
}

/// The levels of guest page tables, named for reports.
public enum TableLevel: String, TallyKey {
    case table = "page-table"
    case directory = "page-directory"
    case directoryPointer = "page-directory-pointer-table"
    case pml4 = "pml4-table"
    case pml5 = "pml5-table"

    /// The case's place in `allCases`.
    public var index: Int {
        switch self {
        case .table: 0
        case .directory: 1
        case .directoryPointer: 2
        case .pml4: 3
        case .pml5: 4
        }
    }
}
