import Devices
import Testing
import X86

/// Answers with its port's number and notes what is written.
private final class Echo: PortDevice {
    var writes: [(port: UInt16, size: Int, value: UInt32)] = []
    func readPort(_ port: UInt16, size: Int) -> UInt32 {
        size == 1 ? UInt32(port & 0xff) : 0xffff_0000 | UInt32(port)
    }
    func writePort(_ port: UInt16, size: Int, value: UInt32) {
        writes.append((port, size, value))
    }
}

private final class Window: MemoryDevice {
    var writes: [(offset: UInt32, size: Int, value: UInt32)] = []
    func readRegister(_ offset: UInt32, size: Int) -> UInt32 { 0x8000_0000 | offset }
    func writeRegister(_ offset: UInt32, size: Int, value: UInt32) {
        writes.append((offset, size, value))
    }
}

@Suite struct PortBusTests {
    @Test func `a port that nobody answers reads as all ones of the access's width`() {
        let bus = PortBus()
        #expect(bus.read(0x80, size: 1) == 0xff)
        #expect(bus.read(0x80, size: 2) == 0xffff)
        #expect(bus.read(0xffff, size: 4) == 0xffff_ffff)
        bus.write(0x80, size: 4, value: 1)
    }

    @Test func `an access wider than the chip takes is split into bytes from the lowest port`() {
        var bus = PortBus()
        let echo = Echo()
        bus.attach(echo, at: 0x10, count: 4)
        #expect(bus.read(0x10, size: 4) == 0x1312_1110)
        bus.write(0x11, size: 2, value: 0xbbaa)
        #expect(echo.writes.map(\.port) == [0x11, 0x12])
        #expect(echo.writes.map(\.value) == [0xaa, 0xbb])
    }

    @Test func `an access that the chip takes whole arrives whole and is cut to its width`() {
        var bus = PortBus()
        let echo = Echo()
        bus.attach(echo, at: 0x10, count: 4, widest: 4)
        #expect(bus.read(0x12, size: 2) == 0x0012)
        bus.write(0x10, size: 2, value: 0x1234_5678)
        #expect(echo.writes.map(\.size) == [2])
        #expect(echo.writes.map(\.value) == [0x5678])
    }

    @Test func `an access that reaches past the chip's range is split, and the rest is ones`() {
        var bus = PortBus()
        bus.attach(Echo(), at: 0x10, count: 2, widest: 4)
        #expect(bus.read(0x11, size: 4) == 0xffff_ff11)
    }

    @Test func `ports wrap at the end, and a range past the end is cut`() {
        var bus = PortBus()
        bus.attach(Echo(), at: 0xfffe, count: 8)
        #expect(bus.read(0xffff, size: 2) == 0xffff)
        bus.attach(Echo(), at: 0, count: 1)
        #expect(bus.read(0xfffe, size: 4) == 0xff00_fffe)
    }

    @Test func `the chip attached last answers where ranges overlap`() {
        var bus = PortBus()
        let first = Echo()
        let second = Echo()
        bus.attach(first, at: 0x10, count: 4)
        bus.attach(second, at: 0x11, count: 1)
        bus.write(0x10, size: 4, value: 0)
        #expect(first.writes.map(\.port) == [0x10, 0x12, 0x13])
        #expect(second.writes.map(\.port) == [0x11])
    }
}

@Suite struct MemoryBusTests {
    @Test func `an address that nobody answers reads as all ones of the access's width`() {
        let bus = MemoryBus()
        #expect(bus.read(GuestPhysicalAddress(0xfed0_0000), size: 4) == 0xffff_ffff)
        #expect(bus.read(GuestPhysicalAddress(.max), size: 8) == .max)
    }

    @Test func `an eight-byte access is two, low half first`() {
        var bus = MemoryBus()
        let window = Window()
        bus.attach(window, at: GuestPhysicalAddress(0x1000))
        #expect(bus.read(GuestPhysicalAddress(0x1010), size: 8) == 0x8000_0014_8000_0010)
        bus.write(GuestPhysicalAddress(0x1ffc), size: 8, value: 0x1_0000_0002)
        #expect(window.writes.map(\.offset) == [0xffc, 0x1000])
        #expect(window.writes.map(\.value) == [2, 1])
    }

    @Test func `a narrow read gives no more than its width`() {
        var bus = MemoryBus()
        bus.attach(Window(), at: GuestPhysicalAddress(0x1000))
        #expect(bus.read(GuestPhysicalAddress(0x1020), size: 1) == 0x20)
        #expect(bus.read(GuestPhysicalAddress(0x2020), size: 1) == 0xff)
    }
}

@Suite struct FrequencyTests {
    @Test(arguments: [
        1, 3, 1000, 32768, 1_193_182, 3_579_545, 25_000_000, 1_000_000_000,
        2_999_999_999,
    ])
    func `a tick's time is the first nanosecond at which it has happened`(hertz: UInt64) {
        let clock = Frequency(hertz: hertz)
        for tick: UInt64 in [1, 2, 17, 65535, 1 << 32, 1 << 40] {
            let time = clock.time(ofTick: tick)
            guard time < .max else { continue }
            #expect(clock.ticks(at: time) >= tick)
            #expect(clock.ticks(at: time - 1) < tick)
        }
    }

    @Test func `conversions neither trap nor go wrong at the ends of their range`() {
        #expect(Frequency(hertz: 0).hertz == 1)
        #expect(Frequency(hertz: 1).time(ofTick: .max) == .max)
        #expect(Frequency(hertz: 1_000_000_000).ticks(at: .max) == .max)
        #expect(Frequency(hertz: 500_000_000).ticks(at: .max) == UInt64.max / 2)
        _ = Frequency(hertz: .max).ticks(at: .max)
        #expect(Frequency(hertz: 1).shortestPeriod == 1)
        #expect(Frequency(hertz: 25_000_000).shortestPeriod == 25)
    }
}
