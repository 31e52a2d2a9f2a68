import Devices
import Testing

@Suite struct MC146818Tests {
    let time = ManualTime()
    let signals = MachineSignals()
    let line = Recorder<Bool>()
    let second: UInt64 = 1_000_000_000

    func clock(_ start: UInt64 = 0, memory: UInt64 = 512 << 20) -> MC146818 {
        let line = line
        return MC146818(
            startTime: start, memoryBytes: memory, time: time, signals: signals,
            interrupt: { line.append($0) })
    }

    func get(_ clock: MC146818, _ index: UInt8) -> UInt8 {
        clock.output(0x70, index)
        return clock.input(0x71)
    }

    func set(_ clock: MC146818, _ index: UInt8, _ value: UInt8) {
        clock.output(0x70, index)
        clock.output(0x71, value)
    }

    /// Century, year, month, day, hour, minute, second, day of week.
    func date(_ clock: MC146818) -> [UInt8] {
        [0x32, 9, 8, 7, 4, 2, 0, 6].map { get(clock, $0) }
    }

    static let dates: [(start: UInt64, expected: [UInt8])] = [
        (0, [0x19, 0x70, 0x01, 0x01, 0x00, 0x00, 0x00, 5]),
        (951_782_400, [0x20, 0x00, 0x02, 0x29, 0x00, 0x00, 0x00, 3]),
        (1_700_000_000, [0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20, 3]),
        (4_107_542_399, [0x21, 0x00, 0x02, 0x28, 0x23, 0x59, 0x59, 1]),
        (4_107_542_400, [0x21, 0x00, 0x03, 0x01, 0x00, 0x00, 0x00, 2]),
        (.max, [0x99, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59, 6]),
    ]

    @Test(arguments: dates)
    func `the date is the configured one, in BCD and 24 hours`(start: UInt64, expected: [UInt8]) {
        #expect(date(clock(start)) == expected)
    }

    @Test func `the clock runs, and is never seen updating`() {
        let clock = clock(1_700_000_000)
        time.now = 40 * second - 1
        #expect(get(clock, 0) == 0x59)
        time.now = 40 * second
        #expect(get(clock, 0) == 0x00)
        #expect(get(clock, 2) == 0x14)
        #expect(get(clock, 0x0a) & 0x80 == 0)
        #expect(get(clock, 0x0d) == 0x80)
    }

    @Test func `binary and twelve-hour formats`() {
        let clock = clock(1_700_000_000)
        set(clock, 0x0b, 0x06)
        #expect(date(clock) == [20, 23, 11, 14, 22, 13, 20, 3])
        set(clock, 0x0b, 0x00)
        #expect(get(clock, 4) == 0x90)
        set(clock, 4, 0x12)
        set(clock, 0x0b, 0x02)
        #expect(get(clock, 4) == 0x00)
        set(clock, 0x0b, 0x00)
        set(clock, 4, 0x92)
        set(clock, 0x0b, 0x02)
        #expect(get(clock, 4) == 0x12)
    }

    @Test func `setting the date stops it, and it goes on from there`() {
        let clock = clock(0)
        set(clock, 0x0b, 0x82)
        for (index, value) in [
            (0x32, 0x20), (9, 0x24), (8, 2), (7, 0x29), (4, 0x23), (2, 0x59),
            (0, 0x58),
        ] as [(UInt8, UInt8)] {
            set(clock, index, value)
        }
        time.now = 100 * second
        #expect(get(clock, 0) == 0x58)
        set(clock, 0x0b, 0x02)
        time.now = 102 * second
        #expect(date(clock) == [0x20, 0x24, 3, 1, 0, 0, 0, 6])
    }

    @Test func `a date that does not exist becomes one that does`() {
        let clock = clock(0)
        for index in [0x32, 9, 8, 7, 4, 2, 0] as [UInt8] { set(clock, index, 0xff) }
        let now = date(clock)
        #expect(now[2] <= 0x12 && now[3] <= 0x31 && now[4] <= 0x23 && now[5] <= 0x59)
    }

    @Test func `the update interrupt comes every second, once status C was read`() {
        let clock = clock()
        time.now = second / 2
        set(clock, 0x0b, 0x12)
        #expect(clock.nextEvent == second)
        time.now = second
        clock.advance()
        #expect(line.take() == [true])
        #expect(clock.nextEvent == nil)
        time.now = 5 * second + 1
        clock.advance()
        #expect(line.values.isEmpty)
        #expect(get(clock, 0x0c) & 0x90 == 0x90)
        #expect(line.take() == [false])
        #expect(get(clock, 0x0c) & 0x90 == 0)
        #expect(clock.nextEvent == 6 * second)
    }

    @Test(arguments: [(UInt8(1), UInt64(128)), (2, 256), (3, 4), (6, 32), (15, 16384)])
    func `the periodic interrupt has the rate that status A chooses`(rate: UInt8, ticks: UInt64) {
        let clock = clock()
        set(clock, 0x0a, 0x20 | rate)
        set(clock, 0x0b, 0x42)
        let expected = (ticks * second + 32767) / 32768
        #expect(clock.nextEvent == expected)
        time.now = expected
        clock.advance()
        #expect(line.take() == [true])
        #expect(get(clock, 0x0c) & 0xc0 == 0xc0)
    }

    @Test func `rate 0 is no periodic interrupt`() {
        let clock = clock()
        set(clock, 0x0a, 0x20)
        set(clock, 0x0b, 0x42)
        #expect(clock.nextEvent == nil)
    }

    @Test func `the alarm interrupts at its time of day, today or tomorrow`() {
        let clock = clock(1_700_000_000)  // 22:13:20
        for (index, value) in [(1, 0x30), (3, 0x13), (5, 0x22)] as [(UInt8, UInt8)] {
            set(clock, index, value)
        }
        set(clock, 0x0b, 0x22)
        #expect(clock.nextEvent == 10 * second)
        time.now = 10 * second
        clock.advance()
        #expect(line.take() == [true])
        #expect(get(clock, 0x0c) & 0xa0 == 0xa0)
        #expect(clock.nextEvent == (86400 + 10) * second)
    }

    @Test func `alarm bytes from 0xc0 match anything`() {
        let clock = clock(1_700_000_000)
        for (index, value) in [(1, 0x05), (3, 0xff), (5, 0xc0)] as [(UInt8, UInt8)] {
            set(clock, index, value)
        }
        set(clock, 0x0b, 0x22)
        #expect(clock.nextEvent == 45 * second)
    }

    @Test func `an alarm that can never match never comes`() {
        let clock = clock()
        set(clock, 1, 0x99)
        set(clock, 0x0b, 0x22)
        #expect(clock.nextEvent == nil)
    }

    @Test func `flags are set without being enabled, and drive nothing`() {
        let clock = clock()
        time.now = 3 * second
        #expect(get(clock, 0x0c) & 0xd0 == 0x50)
        #expect(line.values.isEmpty)
    }

    @Test func `memory keeps what is written, and tells how much memory there is`() {
        let clock = clock(memory: 512 << 20)
        set(clock, 0x40, 0xa5)
        #expect(get(clock, 0x40) == 0xa5)
        #expect(get(clock, 0xc0) == 0xa5, "bit 7 of the index is the NMI mask")
        #expect(Int(get(clock, 0x15)) + Int(get(clock, 0x16)) << 8 == 640)
        #expect(Int(get(clock, 0x34)) + Int(get(clock, 0x35)) << 8 == (512 - 16) * 16)
    }

    @Test func `reset disables interrupts and keeps the date`() {
        let clock = clock(1_700_000_000)
        set(clock, 0x0b, 0x12)
        time.now = second
        clock.advance()
        clock.reset()
        #expect(line.take() == [true, false])
        #expect(clock.nextEvent == nil)
        #expect(get(clock, 0) == 0x21)
    }
}
