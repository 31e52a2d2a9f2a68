/// A clock's rate, and the exact conversion between its ticks and nanoseconds.
///
/// Tick `t` is the instant at which the clock's counter, zero at the machine's start, becomes `t`.
/// Timers keep ticks, never durations in nanoseconds, so they do not drift.
package struct Frequency: Hashable, Sendable {
    /// Ticks a second; at least 1.
    package let hertz: UInt64

    private static let second: UInt64 = 1_000_000_000

    package init(hertz: UInt64) { self.hertz = max(hertz, 1) }

    /// How many ticks have happened at `time` nanoseconds, modulo 2^64.
    package func ticks(at time: UInt64) -> UInt64 {
        let (product, overflow) = time.multipliedReportingOverflow(by: hertz)
        if !overflow { return product / Self.second }
        return UInt64(truncatingIfNeeded: UInt128(time) * UInt128(hertz) / UInt128(Self.second))
    }

    /// The first nanosecond at which `ticks(at:)` has reached `tick`; `UInt64.max` if none does.
    package func time(ofTick tick: UInt64) -> UInt64 {
        let rate = UInt128(hertz)
        let time = (UInt128(tick) * UInt128(Self.second) + rate - 1) / rate
        return UInt64(clamping: time)
    }

    /// The shortest period that a repeating timer of this clock is given, in ticks: 1 µs, or one
    /// tick where that is longer. A guest that asks for less is served at this rate, so that no
    /// timer can keep the machine from doing anything else.
    package var shortestPeriod: UInt64 { max(hertz / 1_000_000, 1) }
}
