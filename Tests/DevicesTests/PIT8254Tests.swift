import Devices
import Testing

@Suite struct PIT8254Tests {
    let time = ManualTime()
    let signals = MachineSignals()
    let line = Recorder<Bool>()
    let pit: PIT8254

    init() {
        let line = line
        pit = PIT8254(time: time, signals: signals, interrupt: { line.append($0) })
        pit.reset()
    }

    /// Moves the clock to tick `tick` of the timer's clock and lets the timer act.
    func go(to tick: UInt64) {
        time.now = PIT8254.frequency.time(ofTick: tick)
        pit.advance()
    }

    /// Programs counter `index` with both bytes of a count.
    func program(_ index: UInt8, mode: UInt8, count: UInt16, bcd: Bool = false) {
        pit.output(0x43, index << 6 | 0x30 | mode << 1 | (bcd ? 1 : 0))
        pit.output(0x40 + UInt16(index), UInt8(truncatingIfNeeded: count))
        pit.output(0x40 + UInt16(index), UInt8(truncatingIfNeeded: count >> 8))
    }

    func count(_ index: UInt8) -> UInt16 {
        pit.output(0x43, index << 6)
        let low = UInt16(pit.input(0x40 + UInt16(index)))
        return low | UInt16(pit.input(0x40 + UInt16(index))) << 8
    }

    func status(_ index: UInt8) -> UInt8 {
        pit.output(0x43, 0xe0 | 2 << index)
        return pit.input(0x40 + UInt16(index))
    }

    func out(_ index: UInt8) -> Bool { status(index) & 0x80 != 0 }

    @Test func `after reset nothing is going to happen`() {
        #expect(pit.nextEvent == nil)
        #expect(line.values.isEmpty)
    }

    @Test func `mode 0 interrupts once, at terminal count, and counts on`() {
        program(0, mode: 0, count: 100)
        #expect(!out(0))
        #expect(pit.nextEvent == PIT8254.frequency.time(ofTick: 100))
        go(to: 99)
        #expect(count(0) == 1 && !out(0) && line.values.isEmpty)
        go(to: 100)
        #expect(count(0) == 0 && out(0))
        #expect(line.take() == [true])
        #expect(pit.nextEvent == nil)
        go(to: 101)
        #expect(count(0) == 0xffff)
        program(0, mode: 0, count: 5)
        #expect(line.take() == [false])
    }

    @Test func `the first byte of a count stops mode 0`() {
        program(0, mode: 0, count: 100)
        pit.output(0x40, 200)
        #expect(pit.nextEvent == nil)
        go(to: 500)
        #expect(!out(0))
        pit.output(0x40, 0)
        #expect(pit.nextEvent == PIT8254.frequency.time(ofTick: 700))
    }

    @Test func `mode 2 interrupts every period, and makes up for none that were missed`() {
        program(0, mode: 2, count: 1000)
        _ = line.take()
        go(to: 999)
        #expect(count(0) == 1 && !out(0))
        go(to: 1000)
        #expect(count(0) == 1000 && out(0))
        #expect(line.take() == [false, true])
        #expect(pit.nextEvent == PIT8254.frequency.time(ofTick: 2000))
        go(to: 1_000_300)
        #expect(line.take() == [false, true])
        #expect(count(0) == 700)
        #expect(pit.nextEvent == PIT8254.frequency.time(ofTick: 1_001_000))
    }

    @Test func `a new count in mode 2 waits for the end of the period`() {
        program(0, mode: 2, count: 1000)
        go(to: 400)
        pit.output(0x40, 100)
        pit.output(0x40, 0)
        #expect(count(0) == 600)
        #expect(status(0) & 0x40 != 0, "null count: not yet in the counting element")
        go(to: 1000)
        #expect(count(0) == 100)
        #expect(status(0) & 0x40 == 0)
        #expect(pit.nextEvent == PIT8254.frequency.time(ofTick: 1100))
    }

    @Test func `mode 3 is high for the longer half and counts by two`() {
        program(0, mode: 3, count: 7)
        var wave: [Bool] = []
        for tick in UInt64(0)..<14 {
            go(to: tick)
            wave.append(out(0))
        }
        let period = [true, true, true, true, false, false, false]
        #expect(wave == period + period)
    }

    @Test func `mode 3 goes through its count twice a period`() {
        program(0, mode: 3, count: 1000)
        for (tick, expected) in [
            (UInt64(0), UInt16(1000)), (100, 800), (499, 2), (500, 1000),
            (999, 2), (1000, 1000),
        ] {
            go(to: tick)
            #expect(count(0) == expected)
        }
    }

    @Test func `modes 4 and 5 strobe low for one tick`() {
        program(0, mode: 4, count: 10)
        #expect(out(0))
        go(to: 10)
        #expect(!out(0))
        go(to: 11)
        #expect(out(0))
        go(to: 70000)
        #expect(out(0))
        // Counter 2 has a gate to trigger mode 5 with.
        program(2, mode: 5, count: 10)
        go(to: 70100)
        #expect(out(2))
        pit.output(0x61, 1)
        go(to: 70110)
        #expect(!out(2))
        go(to: 70111)
        #expect(out(2))
    }

    @Test func `mode 1 is low from the gate's rise for the count`() {
        program(2, mode: 1, count: 50)
        #expect(out(2))
        pit.output(0x61, 1)
        #expect(!out(2))
        go(to: 49)
        #expect(!out(2))
        pit.output(0x61, 0)
        pit.output(0x61, 1)  // triggered again
        go(to: 98)
        #expect(!out(2))
        go(to: 99)
        #expect(out(2))
    }

    @Test func `the gate suspends mode 0 of counter 2, and port 0x61 shows its output`() {
        program(2, mode: 0, count: 100)
        go(to: 1000)
        #expect(pit.input(0x61) & 0x20 == 0)
        #expect(count(2) == 100)
        pit.output(0x61, 0x01)
        go(to: 1060)
        #expect(count(2) == 40)
        pit.output(0x61, 0x00)
        go(to: 5000)
        #expect(count(2) == 40)
        pit.output(0x61, 0x01)
        go(to: 5040)
        #expect(pit.input(0x61) & 0x21 == 0x21)
        #expect(line.values.isEmpty)
    }

    @Test func `a count of zero is 65536, or 10000 in BCD`() {
        program(0, mode: 0, count: 0)
        #expect(pit.nextEvent == PIT8254.frequency.time(ofTick: 65536))
        program(0, mode: 0, count: 0, bcd: true)
        #expect(pit.nextEvent == PIT8254.frequency.time(ofTick: 10000))
        program(0, mode: 0, count: 0x1234, bcd: true)
        #expect(pit.nextEvent == PIT8254.frequency.time(ofTick: 1234))
        go(to: 235)
        #expect(count(0) == 0x0999)
    }

    @Test func `single-byte access writes and reads one byte`() {
        pit.output(0x43, 0x10)  // counter 0, low byte, mode 0
        pit.output(0x40, 80)
        #expect(pit.nextEvent == PIT8254.frequency.time(ofTick: 80))
        go(to: 30)
        #expect(pit.input(0x40) == 50)
        #expect(pit.input(0x40) == 50)
        pit.output(0x43, 0x20)  // high byte
        pit.output(0x40, 2)
        go(to: 30 + 256)
        #expect(pit.input(0x40) == 1)
    }

    @Test func `a latched count stays until it is read, and a second latch does nothing`() {
        program(0, mode: 2, count: 1000)
        go(to: 100)
        pit.output(0x43, 0x00)
        go(to: 200)
        pit.output(0x43, 0x00)
        #expect(UInt16(pit.input(0x40)) | UInt16(pit.input(0x40)) << 8 == 900)
        #expect(count(0) == 800)
    }

    @Test func `read-back gives status first, then the count`() {
        program(0, mode: 2, count: 1000)
        go(to: 100)
        pit.output(0x43, 0xc2)
        #expect(pit.input(0x40) == 0xb4)
        #expect(UInt16(pit.input(0x40)) | UInt16(pit.input(0x40)) << 8 == 900)
    }

    @Test func `a count of 1 in mode 2 does not make the timer run away`() throws {
        program(0, mode: 2, count: 1)
        for _ in 0..<100 {
            let next = try #require(pit.nextEvent)
            #expect(next >= time.now + 1000)
            time.now = next
            pit.advance()
        }
    }

    @Test func `the control word cannot be read`() {
        #expect(pit.input(0x43) == 0xff)
    }
}
