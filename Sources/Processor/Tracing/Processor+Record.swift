import MachineMemory
import X86

/// The traced-write facility's recording half: records go into a ring in machine memory, the guest
/// write buffer, and with `TraceFormat.mask` also bits into the masks of pages.
///
/// ```
///  address   63                                              3 2   0
///           ┌─────────────────────────────────────────────────┬─────┐
///           │ machine address of the aligned quadword, 63…3   │size │ log2 of the bytes written
///           └─────────────────────────────────────────────────┴─────┘
///  value     63  60 59  56 55  52 51                               0
///           ┌──────┬──────┬──────┬──────────────────────────────────┐
///         0 │  0   │bytes │  0   │ machine address of the first byte │
///         8 │ the bytes written, zero-extended                      │
///        16 │ linear address of the guest instruction               │
///        24 │ sequence number                                       │
///           └───────────────────────────────────────────────────────┘
///  mask      63                            12 11                3 2   0
///           ┌────────────────────────────────┬───────────────────┬─────┐
///           │ machine address of the page    │         0         │group│ of 64 quadwords
///           └────────────────────────────────┴───────────────────┴─────┘
/// ```
/// A write that crosses a quadword is recorded for each quadword.
extension Processor {
    /// What a write owes beside being made.
    enum WriteNote: UInt8 {
        case none
        /// The page is traced: a record.
        case record
        /// The page is protected, and the step completes writes to it
        /// (`ControlBlock.completesProtectedWrites`).
        case complete
    }

    /// What one write of up to 8 bytes can record.
    static let widestWrite: UInt64 = 2

    /// Records waiting for the hypervisor.
    public var tracePending: UInt64 { traceProducer &- control.trace.consumer }

    /// Whether there are any, and the facility is on.
    package var hasPendingRecords: Bool { control.trace.isEnabled && tracePending != 0 }

    /// What a write to `machine` through the translation owes.
    ///
    /// The frame map is looked at whenever a translation comes to be used for a page, one 4 KiB
    /// frame at a time, whatever the size of the page that maps it. What the software TLB then
    /// keeps is what a processor would cache.
    func writeNote(_ translation: Translation, _ machine: UInt64) -> WriteNote {
        let trace = control.trace
        if translation.has(TranslationBits.traced) {
            if !translation.has(TranslationBits.dirty) { return .complete }
            if trace.indication == .entry { return trace.isEnabled ? .record : .complete }
        }
        guard trace.isEnabled, trace.indication == .frame, trace.frames.contains(machine >> 12)
        else { return .none }
        let bit = machine >> 12 &- trace.frames.lowerBound
        let byte = memory.load(UInt8.self, at: trace.frameMap + bit >> 3) ?? 0
        return byte >> UInt8(truncatingIfNeeded: bit & 7) & 1 != 0 ? .record : .none
    }

    /// Makes sure that a write has room for its records; exits before the running instruction if
    /// not.
    ///
    /// A probe reserves for a whole instruction, a single write for itself alone: so no write of
    /// an instruction that has probed finds the buffer full half-way.
    @inline(__always)
    func reserveRecords(wholeInstruction: Bool) -> Bool {
        guard control.trace.isEnabled else { return true }
        let count = wholeInstruction ? control.trace.format.widestInstruction : Self.widestWrite
        guard tracePending &+ count <= control.trace.recordCount else {
            _ = core.exitBefore(.bufferFull)
            return false
        }
        return true
    }

    /// Notes a write of the low `size` (1…8) bytes of `value` at a machine address, within one
    /// page.
    func note(_ note: WriteNote, _ address: UInt64, _ value: UInt64, size: Int) {
        let first = address & ~7
        let last = (address &+ UInt64(size) &- 1) & ~7
        let log = UInt64(size.trailingZeroBitCount) & 3
        if note == .complete {
            // The step ends with the iteration.
            noteCompletedWrite(first | log)
            if last != first { noteCompletedWrite(last | log) }
            return core.leaveBlock()
        }
        switch control.trace.format {
        case .address:
            recordAddress(first | log)
            if last != first { recordAddress(last | log) }
        case .value:
            let inFirst = last == first ? UInt64(size) : 8 &- (address & 7)
            recordValue(address, value, inFirst)
            if last != first {
                recordValue(last, value >> (inFirst &* 8), UInt64(size) &- inFirst)
            }
        case .mask:
            mark(first)
            if last != first { mark(last) }
        }
    }

    private func recordAddress(_ record: UInt64) {
        let trace = control.trace
        for slot in 0..<min(max(trace.coalesce, 0), 8) where recentRecords[slot] == record {
            statistics.coalesced += 1
            return
        }
        guard let place = place(), memory.store(record, at: place) else { return }
        if trace.coalesce > 0 {
            let count = UInt64(min(trace.coalesce, 8))
            recentRecords[Int(truncatingIfNeeded: traceProducer % count)] = record
        }
        appended()
    }

    private func recordValue(_ address: UInt64, _ value: UInt64, _ bytes: UInt64) {
        guard let place = place() else { return }
        memory.store(address | bytes << 56, at: place)
        memory.store(bytes < 8 ? value & (1 << (bytes &* 8) &- 1) : value, at: place + 8)
        memory.store(instructionAddress, at: place + 16)
        memory.store(addToCommon(TraceCommon.sequence), at: place + 24)
        appended()
    }

    /// Sets the bit of a quadword. To set the first one of its group and to append the group's
    /// record is one indivisible operation: no processor sees the one without the other.
    private func mark(_ address: UInt64) {
        let frame = address >> 12
        guard control.trace.frames.contains(frame) else { return }
        let index = address >> 3 & 511
        let first = (frame &- control.trace.frames.lowerBound) << 6
        let group = control.trace.masks + (first | (index >> 6) << 3)
        guard let old = memory.load(UInt64.self, at: group) else { return }
        memory.store(old | 1 << (index & 63), at: group)
        if old != 0 {
            statistics.coalesced += 1
            return
        }
        guard let place = place(), memory.store(frame << 12 | index >> 6, at: place) else {
            return
        }
        appended()
    }

    /// Where the next record goes; nil where the ring has no memory.
    private func place() -> MachineAddress? {
        let trace = control.trace
        let offset = (traceProducer &* trace.format.recordBytes) & (trace.capacity &- 1)
        let place = trace.base + offset
        return memory.isMemory(place, size: Int(trace.format.recordBytes)) ? place : nil
    }

    /// Model: step R2. The index counts a record once it is there.
    private func appended() {
        let trace = control.trace
        traceProducer &+= 1
        statistics.records += 1
        if trace.elides { _ = addToCommon(TraceCommon.outstanding) }
        if trace.threshold != 0 && tracePending >= trace.threshold
            && core.state.pending == .none
        {
            core.exitAfter(.bufferThreshold)
        }
    }

    /// Adds 1 to a quadword of the common block; returns what it was. Locked, among processors.
    private func addToCommon(_ offset: UInt64) -> UInt64 {
        let place = control.trace.common + offset
        let old = memory.load(UInt64.self, at: place) ?? 0
        memory.store(old &+ 1, at: place)
        return old
    }

    /// The linear address of the running instruction; of the next one while an event is delivered.
    private var instructionAddress: UInt64 {
        let offset =
            core.state.blockStart == 0
            ? core.state.rip : core.currentRIP(OpRef(core.state.currentOp))
        return core.is64 ? offset : (core[.cs].base &+ offset) & 0xffff_ffff
    }

    /// Forgets the records that coalescing compares with: the hypervisor has consumed them.
    func forgetRecentRecords() {
        // No record has all bits set; 0 is one, of machine address 0.
        for slot in 0..<8 { recentRecords[slot] = .max }
    }
}
