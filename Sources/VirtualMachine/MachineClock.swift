import Devices
import Glibc

/// The machine's time in nanoseconds since its start.
///
/// The virtual clock advances by one nanosecond an instruction and is moved on while the guest is
/// halted, so that a run is the same every time; the host clock follows the host's.
///
/// With several processors the virtual clock is the sum over all of them, as if one took turns in
/// being them: N busy processors are each N times slower than one. So there is one order of all
/// instructions of the machine and one clock that never goes back along it: every processor's
/// time-stamp counter is that clock, none is ever seen ahead of another, and a timer is due at one
/// exact instruction, whoever executes it. (The maximum over the processors would make busy ones
/// run at full speed, but would stand still, or go back, while the others catch up.)
final class MachineClock: TimeSource {
    /// The guest's time-stamp counter: one tick a nanosecond.
    static let tscFrequency: UInt64 = 1_000_000_000

    let kind: ClockKind
    /// What the processor whose turn it is has retired.
    var retired: () -> UInt64 = { 0 }
    /// What the others have.
    var retiredByOthers: UInt64 = 0
    /// The time that halts have skipped, modulo 2^64: a machine that was saved with the host clock
    /// may have retired more instructions than nanoseconds have passed.
    private var skipped: UInt64 = 0
    private var hostStart: UInt64

    init(_ kind: ClockKind) {
        self.kind = kind
        hostStart = Self.hostNow
    }

    var now: UInt64 { now(retired: retired()) }

    /// The same where the processor whose turn it is has retired so many instructions.
    func now(retired: UInt64) -> UInt64 {
        switch kind {
        case .virtual: retiredByOthers &+ retired &+ skipped
        case .host: Self.hostNow &- hostStart
        }
    }

    /// The retired count at which the virtual clock will show `time`.
    func retiredCount(at time: UInt64) -> UInt64 { time > now ? time &- skipped : 0 }

    /// Makes it show `time`, in a machine that is restored.
    func set(_ time: UInt64) {
        skipped = time &- retiredByOthers &- retired()
        hostStart = Self.hostNow &- time
    }

    /// Moves the virtual clock on to `time`, if that lies ahead.
    func skip(to time: UInt64) {
        let present = now
        if kind == .virtual && time > present { skipped &+= time - present }
    }

    private static var hostNow: UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
