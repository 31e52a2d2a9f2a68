/// Whose turn it is, where several processors share one host thread.
///
/// *Problem.* A run with several processors is to be the same every time, under every technique.
///
/// *Approach.* Round-robin. A turn ends after a fixed number of retired instructions, or where the
/// processor halts or waits for its start-up IPI. Nothing else ends one: not an exit, not a device
/// access, not a repeated string instruction, so that what the hypervisor does leaves no trace.
///
/// *Caveats.* A processor that waits for another in a loop spends its turn. One in a REP string
/// instruction, or in exceptions without end, keeps its turn until it retires something.
struct Turn {
    /// The number of the processor that runs.
    private(set) var processor = 0
    /// The retired count of this processor at which the turn ends.
    private(set) var end: UInt64 = 0
    private let count: Int
    private let quantum: UInt64
    /// How many turns in a row ended at once, with nothing to do.
    private var idleTurns = 0

    /// - Parameters:
    ///   - processors: how many there are, at least 1.
    ///   - quantum: the instructions of one turn; 0 counts as 1.
    init(processors: Int, quantum: UInt64) {
        count = processors
        self.quantum = max(quantum, 1)
    }

    /// Begins the turn of a processor that has retired so many instructions.
    mutating func begin(_ processor: Int, retired: UInt64) {
        self.processor = processor
        let (end, overflow) = retired.addingReportingOverflow(quantum)
        self.end = overflow ? .max : end
    }

    /// The processor whose turn is next.
    var next: Int { processor + 1 < count ? processor + 1 : 0 }

    /// Something may have given an idle processor something to do.
    mutating func stir() { idleTurns = 0 }

    /// The processor has nothing to do.
    /// - Parameter worked: whether it retired instructions before.
    /// - Returns: whether all processors have nothing to do.
    mutating func halted(worked: Bool) -> Bool {
        idleTurns = worked ? 1 : idleTurns + 1
        if idleTurns < count { return false }
        idleTurns = 0
        return true
    }
}
