import Devices
import Testing
import X86

@Suite struct LocalAPICTimerTests {
    let time = ManualTime()
    let signals = MachineSignals()
    let apic: LocalAPIC
    /// Nanoseconds a tick of the timer's clock.
    let tick: UInt64 = 40

    init() {
        apic = LocalAPICTests.make(0, time, signals)
        set(0xf0, 0x1ff)
        set(0x3e0, 0xb)
    }

    func get(_ offset: UInt32) -> UInt32 { apic.readRegister(offset, size: 4) }
    func set(_ offset: UInt32, _ value: UInt32) {
        apic.writeRegister(offset, size: 4, value: value)
    }
    func go(to now: UInt64) {
        time.now = now
        apic.advance()
    }
    /// How often the timer's interrupt is there: 0 or 1, as requests of one vector merge.
    func taken() -> UInt8? {
        defer { set(0xb0, 0) }
        return apic.acknowledge()
    }

    @Test func `one shot counts down and interrupts once`() {
        set(0x320, 0x30)
        set(0x380, 1000)
        #expect(apic.nextEvent == 1000 * tick)
        go(to: 400 * tick)
        #expect(get(0x390) == 600)
        #expect(taken() == nil)
        go(to: 1000 * tick)
        #expect(get(0x390) == 0)
        #expect(taken() == 0x30)
        #expect(apic.nextEvent == nil)
        go(to: 5000 * tick)
        #expect(taken() == nil)
        #expect(get(0x380) == 1000)
    }

    @Test func `periodic interrupts every period, merging those that were missed`() {
        set(0x320, 0x20030)
        set(0x380, 1000)
        go(to: 1000 * tick)
        #expect(taken() == 0x30)
        #expect(apic.nextEvent == 2000 * tick)
        go(to: 9300 * tick)
        #expect(taken() == 0x30)
        #expect(taken() == nil)
        #expect(get(0x390) == 700)
        #expect(apic.nextEvent == 10000 * tick)
        set(0x380, 0)
        #expect(apic.nextEvent == nil)
    }

    @Test(arguments: [
        (UInt32(0x0), UInt64(2)), (0x1, 4), (0x2, 8), (0x3, 16), (0x8, 32), (0x9, 64), (0xa, 128),
        (0xb, 1),
    ])
    func `the divide configuration divides`(code: UInt32, divisor: UInt64) {
        set(0x3e0, code)
        set(0x320, 0x30)
        set(0x380, 10)
        #expect(apic.nextEvent == 10 * divisor * tick)
        #expect(get(0x3e0) == code)
    }

    @Test func `changing the divider keeps the count`() {
        set(0x320, 0x30)
        set(0x380, 1000)
        go(to: 400 * tick)
        set(0x3e0, 0x0)
        #expect(get(0x390) == 600)
        #expect(apic.nextEvent == (400 + 1200) * tick)
    }

    @Test func `a masked timer counts and interrupts nobody`() {
        set(0x320, 0x10030)
        set(0x380, 1000)
        #expect(apic.nextEvent == nil)
        go(to: 400 * tick)
        #expect(get(0x390) == 600)
        go(to: 2000 * tick)
        set(0x320, 0x30)
        #expect(taken() == nil)
    }

    @Test func `a tiny period is stretched to a microsecond`() throws {
        set(0x320, 0x20030)
        set(0x380, 1)
        go(to: tick)
        for _ in 0..<100 {
            let next = try #require(apic.nextEvent)
            #expect(next == time.now + 1000)
            go(to: next)
            #expect(taken() == 0x30)
        }
    }

    @Test func `a deadline interrupts when the time-stamp counter reaches it, and disarms`() {
        set(0x320, 0x40030)
        #expect(apic.writeModelSpecific(MSR.tscDeadline, 2001))
        #expect(apic.readModelSpecific(MSR.tscDeadline) == 2001)
        #expect(apic.nextEvent == 1001, "2 ticks a nanosecond, rounded up")
        go(to: 1000)
        #expect(taken() == nil)
        go(to: 1001)
        #expect(taken() == 0x30)
        #expect(apic.readModelSpecific(MSR.tscDeadline) == 0)
        #expect(apic.nextEvent == nil)
    }

    @Test func `a deadline in the past interrupts at once, and zero disarms`() {
        time.now = 5000
        set(0x320, 0x40030)
        #expect(apic.writeModelSpecific(MSR.tscDeadline, 1))
        #expect(taken() == 0x30)
        #expect(apic.writeModelSpecific(MSR.tscDeadline, 20000))
        #expect(apic.writeModelSpecific(MSR.tscDeadline, 0))
        go(to: 50000)
        #expect(taken() == nil)
    }

    @Test func `a deadline that never comes is not waited for in vain arithmetic`() {
        set(0x320, 0x40030)
        #expect(apic.writeModelSpecific(MSR.tscDeadline, .max))
        #expect(apic.nextEvent == UInt64.max / 2 + 1)
    }

    @Test func `each mode ignores the other's registers, and changing disarms`() {
        set(0x320, 0x30)
        #expect(apic.writeModelSpecific(MSR.tscDeadline, 5000))
        #expect(apic.readModelSpecific(MSR.tscDeadline) == 0)
        set(0x380, 1000)
        set(0x320, 0x40030)
        #expect(apic.nextEvent == nil)
        set(0x380, 1000)
        #expect(get(0x390) == 0)
        #expect(apic.writeModelSpecific(MSR.tscDeadline, 5000))
        set(0x320, 0x30)
        #expect(apic.nextEvent == nil)
        go(to: 1_000_000)
        #expect(taken() == nil)
    }

    @Test func `setting the timer tells the board to look again`() {
        set(0x320, 0x40030)
        signals.interruptsChanged = false
        #expect(apic.writeModelSpecific(MSR.tscDeadline, 5000))
        #expect(signals.interruptsChanged)
    }

    @Test func `a deadline is judged by the counter as the processor has moved it`() {
        set(0x320, 0x40030)
        for offset in [1_000_000, 0 &- 1_000_000] as [UInt64] {
            time.now = 10_000_000
            apic.setTimeStampOffset(offset)
            // 2 GHz: 20,000,000 ticks so far.
            #expect(apic.writeModelSpecific(0x6e0, 20_002_000 &+ offset))
            #expect(apic.nextEvent == 10_001_000)
            go(to: 10_000_999)
            #expect(taken() == nil)
            go(to: 10_001_000)
            #expect(taken() == 0x30)
        }
        // Moving the counter past it is enough.
        apic.setTimeStampOffset(0)
        #expect(apic.writeModelSpecific(0x6e0, 50_000_000))
        #expect(taken() == nil)
        apic.setTimeStampOffset(40_000_000)
        #expect(taken() == 0x30)
    }
}
