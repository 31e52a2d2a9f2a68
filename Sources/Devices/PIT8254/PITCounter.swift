import Snapshot

/// One counter of the 8254. Times are ticks of its clock.
///
/// Nothing counts: the counter keeps when it was started and computes what it would hold. Source:
/// Intel 8254 data sheet, "Mode Definitions". The one clock that loading takes is left out.
struct PITCounter {
    /// The mode, 0…5; nil before the first control word.
    private var mode: UInt8?
    private var isBCD = false
    /// RW1, RW0: 1 low byte, 2 high byte, 3 low then high.
    private var access: UInt8 = 3
    /// The initial count, 1…65536 (mode 2 and 3: at least 2).
    private var count: UInt64 = 65536
    /// The tick at which counting began; nil while there is no count, or no trigger yet.
    private var origin: UInt64?
    /// Ticks that had been counted when the gate stopped counting (modes 0, 2, 3, 4).
    private var stopped: UInt64?
    /// A count that takes the place of the present one at the end of its period (modes 2 and 3) or
    /// at the next trigger (modes 1 and 5).
    private var successor: (count: UInt64, at: UInt64)?
    private var gate = true
    /// A count was written that is not in the counting element yet.
    private var nullCount = true

    private var firstByte: UInt8?
    private var readsHigh = false
    private var latchedCount: UInt16?
    private var latchedStatus: UInt8?

    private var modulus: UInt64 { isBCD ? 10000 : 65536 }
    private var isPeriodic: Bool { mode == 2 || mode == 3 }
    private var isTriggered: Bool { mode == 1 || mode == 5 }

    // MARK: Programming

    /// A control word for this counter; RW = 0 is the counter latch command.
    mutating func writeControlWord(_ value: UInt8, at now: UInt64) {
        let access = value >> 4 & 3
        guard access != 0 else {
            latchCount(at: now)
            return
        }
        self.access = access
        let mode = value >> 1 & 7
        self.mode = mode > 5 ? mode & 3 : mode  // X10 and X11 are modes 2 and 3
        isBCD = value & 1 != 0
        origin = nil
        stopped = nil
        successor = nil
        firstByte = nil
        readsHigh = false
        latchedCount = nil
        latchedStatus = nil
        nullCount = true
    }

    /// A byte of a count ("Write Operations").
    mutating func write(_ value: UInt8, at now: UInt64) {
        guard mode != nil else { return }
        settle(at: now)
        switch access {
        case 1: load(UInt16(value), at: now)
        case 2: load(UInt16(value) << 8, at: now)
        default:
            if let low = firstByte {
                firstByte = nil
                load(UInt16(value) << 8 | UInt16(low), at: now)
            } else {
                firstByte = value
                // In mode 0 the first byte stops the counting and lowers OUT.
                if mode == 0 {
                    origin = nil
                    stopped = nil
                }
            }
        }
    }

    private mutating func load(_ raw: UInt16, at now: UInt64) {
        var value = isBCD ? Self.binary(raw) : UInt64(raw)
        if value == 0 { value = modulus }
        if isPeriodic {
            value = max(value, 2)  // a count of 1 is illegal
            if let origin, stopped == nil {
                let elapsed = now &- origin
                let end = origin &+ elapsed &- elapsed % count &+ count
                successor = (value, end)
                nullCount = true
                return
            }
        }
        if isTriggered {
            // The next trigger loads it; a pulse that is under way keeps its length.
            successor = (value, .max)
            nullCount = true
            return
        }
        count = value
        nullCount = false
        origin = now
        stopped = gate ? nil : 0
    }

    /// The GATE input ("Gate Pin Operations Summary").
    mutating func setGate(_ level: Bool, at now: UInt64) {
        settle(at: now)
        guard level != gate else { return }
        gate = level
        guard let mode else { return }
        switch mode {
        case 1, 5:
            // A trigger, if there is a count; the level itself means nothing.
            guard level, origin != nil || successor != nil else { return }
            takeSuccessor()
            origin = now
        case 2, 3:
            // Low disables counting and sets OUT high; rising reloads and starts again.
            guard origin != nil else { return }
            takeSuccessor()
            stopped = level ? nil : 0
            origin = now
        default:
            guard let origin else { return }
            if level {
                self.origin = now &- (stopped ?? 0)
                stopped = nil
            } else {
                stopped = now &- origin
            }
        }
    }

    /// Puts a count whose period has begun in place.
    private mutating func settle(at now: UInt64) {
        guard isPeriodic, let successor, now >= successor.at, stopped == nil else { return }
        origin = successor.at
        takeSuccessor()
    }

    private mutating func takeSuccessor() {
        guard let successor else { return }
        count = successor.count
        self.successor = nil
        nullCount = false
    }

    // MARK: What it holds

    private func elapsed(at now: UInt64) -> UInt64? {
        guard let origin else { return nil }
        return stopped ?? now &- origin
    }

    /// The OUT pin.
    mutating func output(at now: UInt64) -> Bool {
        settle(at: now)
        guard let mode else { return false }
        guard let elapsed = elapsed(at: now) else { return mode != 0 }
        switch mode {
        case 0: return elapsed >= count
        case 1: return elapsed >= count
        case 2: return stopped != nil || elapsed % count != count &- 1
        case 3: return stopped != nil || elapsed % count < (count &+ 1) / 2
        default: return elapsed != count
        }
    }

    /// The tick of the next change of OUT from low to high after `now`, or nil.
    mutating func nextRisingEdge(after now: UInt64) -> UInt64? {
        settle(at: now)
        guard let mode, let origin, stopped == nil else { return nil }
        let elapsed = now &- origin
        switch mode {
        case 0, 1: return elapsed < count ? origin &+ count : nil
        case 2, 3: return origin &+ elapsed &- elapsed % count &+ count
        default: return elapsed <= count ? origin &+ count &+ 1 : nil
        }
    }

    /// What the counting element holds, as software sees it (in BCD if so programmed).
    private mutating func currentCount(at now: UInt64) -> UInt16 {
        settle(at: now)
        var value = count
        if let elapsed = elapsed(at: now) {
            switch mode {
            case 2: value = count &- elapsed % count
            case 3:
                // It counts by two, twice a period, from the even number at or below the count.
                let phase = elapsed % count
                let high = (count &+ 1) / 2
                let even = count & ~1
                let steps = 2 &* (phase < high ? phase : phase &- high)
                value = even > steps ? even &- steps : 0
            default:
                // After the terminal count it wraps and goes on.
                value = (count &+ modulus &- elapsed % modulus) % modulus
            }
        }
        value %= modulus
        return isBCD ? Self.decimal(value) : UInt16(truncatingIfNeeded: value)
    }

    // MARK: Reading

    /// "Counter Latch Command": a second one before the first is read does nothing.
    mutating func latchCount(at now: UInt64) {
        if latchedCount == nil { latchedCount = currentCount(at: now) }
    }

    /// "Status Byte" of the read-back command.
    mutating func latchStatus(at now: UInt64) {
        guard latchedStatus == nil else { return }
        let out: UInt8 = output(at: now) ? 0x80 : 0
        latchedStatus =
            out | (nullCount ? 0x40 : 0) | access << 4 | (mode ?? 0) << 1 | (isBCD ? 1 : 0)
    }

    /// A byte from the counter's port: the latched status, the latched count, or the count.
    mutating func read(at now: UInt64) -> UInt8 {
        if let status = latchedStatus {
            latchedStatus = nil
            return status
        }
        let value = latchedCount ?? currentCount(at: now)
        let isHigh = access == 2 || (access == 3 && readsHigh)
        if access == 3 { readsHigh.toggle() }
        if access != 3 || isHigh { latchedCount = nil }
        return UInt8(truncatingIfNeeded: isHigh ? value >> 8 : value)
    }

    /// Four decimal digits as a number; a digit above 9 counts as what it is.
    private static func binary(_ digits: UInt16) -> UInt64 {
        let digits = UInt64(digits)
        return (digits >> 12) * 1000 + (digits >> 8 & 15) * 100 + (digits >> 4 & 15) * 10
            + (digits & 15)
    }

    private static func decimal(_ value: UInt64) -> UInt16 {
        let digits =
            (value / 1000 % 10) << 12 | (value / 100 % 10) << 8 | (value / 10 % 10) << 4
            | value % 10
        return UInt16(truncatingIfNeeded: digits)
    }
}

// MARK: Saved machines

extension PITCounter {
    func save(to writer: inout FieldWriter) {
        writer.put(optional: mode)
        writer.put(isBCD)
        writer.put(access)
        writer.put(count)
        writer.put(optional: origin)
        writer.put(optional: stopped)
        writer.put(optional: successor?.count)
        writer.put(optional: successor?.at)
        writer.put(gate)
        writer.put(nullCount)
        writer.put(optional: firstByte)
        writer.put(readsHigh)
        writer.put(optional: latchedCount)
        writer.put(optional: latchedStatus)
    }

    init(restoringFrom reader: inout FieldReader) throws(FieldError) {
        mode = try reader.optional("counter mode", in: 0...5)
        isBCD = try reader.flag("counter BCD")
        access = try reader.get("counter access", in: 1...3)
        // Never zero: counts divide.
        count = try reader.get("count", in: 1...65536)
        origin = try reader.optional("count origin")
        stopped = try reader.optional("stopped count")
        let next: UInt64? = try reader.optional("next count", in: 1...65536)
        let start: UInt64? = try reader.optional("start of the next count")
        guard (next == nil) == (start == nil) else { throw .badValue("start of the next count") }
        if let next, let start { successor = (next, start) }
        gate = try reader.flag("counter gate")
        nullCount = try reader.flag("null count")
        firstByte = try reader.optional("first byte of a count")
        readsHigh = try reader.flag("byte of a count to be read")
        latchedCount = try reader.optional("latched count")
        latchedStatus = try reader.optional("latched status")
    }
}
