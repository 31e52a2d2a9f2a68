/// The timer (§10.5.4): a counter of the crystal clock, or a deadline of the time-stamp counter.
///
/// Nothing counts: the tick at which the counter reaches zero is kept. A periodic timer skips the
/// periods that nobody saw, and is never faster than `Frequency.shortestPeriod`.
extension LocalAPIC {
    var timerMode: TimerMode {
        TimerMode(rawValue: localVectors[LocalVector.timer.rawValue] >> 17 & 3) ?? .reserved
    }

    private var isTimerMasked: Bool {
        localVectors[LocalVector.timer.rawValue] & LocalVectorBit.mask != 0
    }

    /// Divide Configuration Register: bits 3, 1, 0 are the logarithm less one; all ones is 1
    /// (Figure 10-10).
    private var divisor: UInt64 {
        let code = (divideConfiguration >> 1 & 4) | divideConfiguration & 3
        return code == 7 ? 1 : 2 << UInt64(code)
    }

    private var ticks: UInt64 { crystal.ticks(at: time.now) }

    /// Fires the timer if it is due.
    package func advance() {
        if deadline != 0, tsc.ticks(at: time.now) &+ timeStampOffset >= deadline {
            deadline = 0
            raise(.timer)
            schedule()
        }
        guard let due = expiry else { return }
        let now = ticks
        guard now >= due else { return }
        if timerMode == .periodic {
            let period = max(UInt64(initialCount) &* divisor, crystal.shortestPeriod)
            expiry = due &+ ((now &- due) / period &+ 1) &* period
        } else {
            expiry = nil
        }
        raise(.timer)
        schedule()
    }

    /// Computes when the board must look again.
    func schedule() {
        var next: UInt64?
        if !isTimerMasked {
            if deadline != 0 {
                // It is not past, as `advance` would have found: nothing is lost in wrapping.
                next = tsc.time(ofTick: deadline &- timeStampOffset)
            } else if let expiry {
                next = crystal.time(ofTick: expiry)
            }
        }
        guard next != nextEvent else { return }
        nextEvent = next
        changed()
    }

    func writeInitialCount(_ value: UInt32) {
        advance()
        // §10.5.4.1: in deadline mode the write is ignored.
        guard timerMode != .deadline else { return }
        initialCount = value
        start(value)
        schedule()
    }

    private func start(_ count: UInt32) {
        guard count != 0 else {
            expiry = nil
            return
        }
        expiry = ticks &+ UInt64(count) &* divisor
    }

    func currentCount() -> UInt32 {
        advance()
        guard let expiry else { return 0 }
        let now = ticks
        guard expiry > now else { return 0 }
        let left = (expiry &- now &+ divisor &- 1) / divisor
        return UInt32(truncatingIfNeeded: min(left, UInt64(initialCount)))
    }

    /// The count goes on from where it is, at the new rate.
    func writeDivideConfiguration(_ value: UInt32) {
        let left = currentCount()
        divideConfiguration = value & 0x0b
        if expiry != nil { start(left) }
        schedule()
    }

    func writeDeadline(_ value: UInt64) {
        advance()
        guard timerMode == .deadline else { return }
        deadline = value
        // A deadline in the past fires at once.
        advance()
        schedule()
    }

    /// The processor's time-stamp counter has been written.
    package func setTimeStampOffset(_ offset: UInt64) {
        advance()
        timeStampOffset = offset
        advance()
        schedule()
    }

    /// §10.5.4.1: going to or from deadline mode disarms the timer.
    func timerModeChanged(from previous: TimerMode) {
        let mode = timerMode
        if mode != previous && (mode == .deadline || previous == .deadline) {
            expiry = nil
            deadline = 0
        }
        schedule()
    }
}
