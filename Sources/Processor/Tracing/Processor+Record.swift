import MachineMemory
import X86

/// The traced-write facility's recording half: the guest write buffer is a ring of 8-byte records
/// in machine memory.
///
/// ```
///  63                                              3 2   0
/// ┌─────────────────────────────────────────────────┬─────┐
/// │ machine address of the aligned quadword, bits 63…3│size │   size: log2 of the bytes written
/// └─────────────────────────────────────────────────┴─────┘
/// ```
/// A write that crosses a quadword makes one record for each quadword.
extension Processor {
    /// What the widest instruction can record: XSAVE's 832 bytes, and one more at each end.
    static let widestInstruction: UInt64 = 112
    /// What one write of up to 8 bytes can record.
    static let widestWrite: UInt64 = 2

    /// Records waiting for the hypervisor.
    public var tracePending: UInt64 { traceProducer &- control.trace.consumer }

    /// Makes sure that `count` records have room; exits before the running instruction if not.
    ///
    /// A probe reserves for a whole instruction, a single write for itself alone: so no write of
    /// an instruction that has probed finds the buffer full half-way.
    @inline(__always)
    func reserveRecords(_ count: UInt64) -> Bool {
        guard control.trace.isEnabled else { return true }
        guard tracePending &+ count <= control.trace.capacity / 8 else {
            _ = core.exitBefore(.bufferFull)
            return false
        }
        return true
    }

    /// Appends the records of a write of `size` bytes at a machine address, within one page.
    func record(_ address: UInt64, size: Int) {
        let first = address & ~7
        let last = (address &+ UInt64(size) &- 1) & ~7
        let log = UInt64(size.trailingZeroBitCount) & 3
        if !control.trace.isEnabled {
            // A protected page (`ControlBlock.completesProtectedWrites`): the step ends with the
            // iteration.
            noteCompletedWrite(first | log)
            if last != first { noteCompletedWrite(last | log) }
            return core.leaveBlock()
        }
        append(first | log)
        if last != first { append(last | log) }
    }

    private func append(_ record: UInt64) {
        let trace = control.trace
        for slot in 0..<min(max(trace.coalesce, 0), 8) where recentRecords[slot] == record {
            statistics.coalesced += 1
            return
        }
        let offset = (traceProducer &* 8) & (trace.capacity &- 1)
        // Model: step R2. The record first, then the index that counts it.
        guard memory.store(record, at: trace.base + offset) else { return }
        if trace.coalesce > 0 {
            let count = UInt64(min(trace.coalesce, 8))
            recentRecords[Int(truncatingIfNeeded: traceProducer % count)] = record
        }
        traceProducer &+= 1
        statistics.records += 1
        if trace.threshold != 0 && tracePending >= trace.threshold
            && core.state.pending == .none
        {
            core.exitAfter(.bufferThreshold)
        }
    }

    /// Forgets the records that coalescing compares with: the hypervisor has consumed them.
    func forgetRecentRecords() {
        // No record has all bits set; 0 is one, of machine address 0.
        for slot in 0..<8 { recentRecords[slot] = .max }
    }
}
