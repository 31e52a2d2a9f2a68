import Snapshot

/// Whose turn it is, where several processors share one host thread.
///
/// *Problem.* A run with several processors is to be the same every time, under every technique.
///
/// *Approach.* Round-robin. A turn ends after a number of retired instructions, or where the
/// processor halts, waits for its start-up IPI, or takes exceptions without end, by their number
/// and not retiring anything (`Processor.takeStandstill`). Nothing else ends one: not an exit, not a device
/// access, not a repeated string instruction, so that what the hypervisor does leaves no trace.
///
/// The number is the quantum; or, to meet other interleavings of the same processors, it follows
/// from a seed, the machine's retired instructions at that moment and the processor. It is drawn
/// from nothing else, so that turns in which nobody has anything to do, of which there are more or
/// less as the host pleases, change none of the others.
///
/// *Caveats.* A processor that waits for another in a loop spends its turn. One in a REP string
/// instruction keeps its turn until that has retired.
struct Turn {
    /// The number of the processor that runs.
    private(set) var processor = 0
    /// The retired count of this processor at which the turn ends.
    private(set) var end: UInt64 = 0
    private let count: Int
    private let quantum: UInt64
    private let seed: UInt64?
    /// How many turns in a row ended at once, with nothing to do.
    private var idleTurns = 0

    /// - Parameters:
    ///   - processors: how many there are, at least 1.
    ///   - quantum: the instructions of one turn; 0 counts as 1.
    ///   - seed: nil for turns of one length; else the length is from 1 to `quantum`, each order
    ///     of magnitude (of two) as likely as the others.
    init(processors: Int, quantum: UInt64, seed: UInt64? = nil) {
        count = processors
        self.quantum = max(quantum, 1)
        self.seed = seed
    }

    /// Begins the turn of a processor that has retired so many instructions; `total`: all
    /// processors together.
    mutating func begin(_ processor: Int, retired: UInt64, total: UInt64) {
        self.processor = processor
        let (end, overflow) = retired.addingReportingOverflow(length(processor, total))
        self.end = overflow ? .max : end
    }

    private func length(_ processor: Int, _ total: UInt64) -> UInt64 {
        guard let seed else { return quantum }
        // The finalizer of SplitMix64, over all that the length depends on.
        var bits = (seed &+ 0x9e37_79b9_7f4a_7c15) &* 0xd1b5_4a32_d192_ed03
        bits ^= total &* 0x9e37_79b9_7f4a_7c15 &+ UInt64(processor)
        bits = (bits ^ bits >> 30) &* 0xbf58_476d_1ce4_e5b9
        bits = (bits ^ bits >> 27) &* 0x94d0_49bb_1331_11eb
        bits ^= bits >> 31
        let magnitudes = UInt64(UInt64.bitWidth - quantum.leadingZeroBitCount)
        let most = max(quantum >> ((bits >> 32) % magnitudes), 1)
        return 1 &+ (bits & 0xffff_ffff) % most
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

// MARK: Saved machines

extension Turn {
    func save(to writer: inout FieldWriter) {
        writer.put(UInt8(truncatingIfNeeded: processor))
        writer.put(end)
        writer.put(UInt8(truncatingIfNeeded: idleTurns))
    }

    mutating func restore(from reader: inout FieldReader) throws(FieldError) {
        let last = UInt8(truncatingIfNeeded: count - 1)
        processor = Int(try reader.get("processor of the turn", in: 0...last))
        end = try reader.get("end of the turn")
        idleTurns = Int(try reader.get("idle turns", in: 0...last))
    }
}
