import Snapshot

/// The battery-backed clock and its 128 bytes of memory: ports 0x70 and 0x71, IRQ 8.
///
/// It starts at a configured date and follows the machine's clock. Source: Motorola MC146818A data
/// sheet (1984), "Registers"; bytes above 0x0d: the conventions of the IBM AT's firmware. The
/// update cycle takes no time, so UIP is always clear; the divider bits DV are kept but do not stop
/// the clock; there is no square-wave pin.
package final class MC146818: PortDevice {
    /// The time base of the periodic interrupt.
    private static let base = Frequency(hertz: 32768)
    private static let nanosecondsPerSecond: UInt64 = 1_000_000_000

    private let time: any TimeSource
    private let signals: MachineSignals
    private let interrupt: Line

    private var index: UInt8 = 0
    /// The 128 bytes; those of the time are kept here only while SET is 1.
    private var bytes: [UInt8]
    /// Unix time at the machine's start; setting the clock moves it.
    private var epoch: Int64
    /// `time.now` when the flags of register C were last brought up to date.
    private var settled: UInt64 = 0
    private var asserted = false

    /// When an enabled interrupt is next due, in nanoseconds; nil if none is.
    package private(set) var nextEvent: UInt64?

    /// - Parameters:
    ///   - startTime: seconds since 1970 at the machine's start; at most the end of the year 9999.
    ///   - memoryBytes: the guest's memory, which firmware notes in CMOS.
    package init(
        startTime: UInt64, memoryBytes: UInt64, time: any TimeSource, signals: MachineSignals,
        interrupt: @escaping Line
    ) {
        self.time = time
        self.signals = signals
        self.interrupt = interrupt
        epoch = min(Int64(clamping: startTime), CalendarDate.last)
        bytes = [UInt8](repeating: 0, count: 128)
        bytes[Register.a] = 0x26  // a 32768 Hz crystal, 1024 Hz periodic rate
        bytes[Register.b] = RegisterB.hours24
        bytes[Register.d] = 0x80  // VRT: the contents are valid
        noteMemory(memoryBytes)
    }

    /// Base memory in KiB at 0x15; memory from 1 MiB in KiB at 0x17 and 0x30; memory from 16 MiB
    /// to 3 GiB in 64 KiB at 0x34.
    private func noteMemory(_ memoryBytes: UInt64) {
        func note(_ value: UInt64, at address: Int) {
            let value = min(value, 0xffff)
            bytes[address] = UInt8(truncatingIfNeeded: value)
            bytes[address + 1] = UInt8(truncatingIfNeeded: value >> 8)
        }
        func past(_ start: UInt64) -> UInt64 {
            min(memoryBytes, 3 << 30) - min(memoryBytes, start)
        }
        note(640, at: 0x15)
        note(min(past(1 << 20) >> 10, 63 << 10), at: 0x17)
        note(min(past(1 << 20) >> 10, 63 << 10), at: 0x30)
        note(memoryBytes > 16 << 20 ? past(16 << 20) >> 16 : 0, at: 0x34)
    }

    /// RESET clears the interrupt enables and flags; date and memory live on their battery.
    package func reset() {
        settle()
        bytes[Register.b] &= ~(RegisterB.enables | RegisterB.squareWave)
        bytes[Register.c] = 0
        index = 0
        update()
    }

    // MARK: Ports

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        // The index cannot be read on a PC.
        guard port & 1 != 0 else { return 0xff }
        settle()
        let address = Int(index)
        switch address {
        case Register.c:
            defer {
                bytes[Register.c] = 0
                update()
            }
            return UInt32(bytes[Register.c])
        case _ where Register.isTime(address) && bytes[Register.b] & RegisterB.set == 0:
            return UInt32(encoded(address, date(at: time.now)))
        default: return UInt32(bytes[address])
        }
    }

    package func writePort(_ port: UInt16, size: Int, value: UInt32) {
        let byte = UInt8(truncatingIfNeeded: value)
        guard port & 1 != 0 else {
            index = byte & 0x7f  // bit 7 masks NMI, and nothing drives that
            return
        }
        settle()
        let address = Int(index)
        switch address {
        case Register.a: bytes[address] = byte & 0x7f  // UIP is for reading
        case Register.b: writeB(byte)
        case Register.c, Register.d: break  // for reading
        case _ where Register.isTime(address):
            if bytes[Register.b] & RegisterB.set == 0 {
                hold()
                bytes[address] = byte
                release()
            } else {
                bytes[address] = byte
            }
        default: bytes[address] = byte
        }
        update()
    }

    private func writeB(_ value: UInt8) {
        let before = bytes[Register.b]
        if value & RegisterB.set != 0 && before & RegisterB.set == 0 { hold() }
        // SET going to 1 also clears UIE.
        bytes[Register.b] = value & RegisterB.set != 0 ? value & ~RegisterB.updateEnded : value
        if value & RegisterB.set == 0 && before & RegisterB.set != 0 { release() }
    }

    // MARK: The date

    private func date(at now: UInt64) -> CalendarDate {
        CalendarDate(unixTime: epoch + Int64(now / Self.nanosecondsPerSecond))
    }

    /// Copies the running time into the bytes, where it stands still.
    private func hold() {
        let date = date(at: time.now)
        for address in Register.time { bytes[address] = encoded(address, date) }
    }

    /// Makes the time in the bytes the running time.
    private func release() {
        let held = decodedDate().unixTime
        epoch = held - Int64(time.now / Self.nanosecondsPerSecond)
    }

    private var isBinary: Bool { bytes[Register.b] & RegisterB.binary != 0 }
    private var is24Hours: Bool { bytes[Register.b] & RegisterB.hours24 != 0 }

    /// A field in the format that register B chooses ("Time, Calendar, and Alarm Locations").
    private func encoded(_ address: Int, _ date: CalendarDate) -> UInt8 {
        switch address {
        case Register.second: return number(date.second)
        case Register.minute: return number(date.minute)
        case Register.hour:
            if is24Hours { return number(date.hour) }
            let hour = date.hour % 12 == 0 ? 12 : date.hour % 12
            return number(hour) | (date.hour >= 12 ? 0x80 : 0)
        case Register.dayOfWeek: return number(date.dayOfWeek)
        case Register.day: return number(date.day)
        case Register.month: return number(date.month)
        case Register.year: return number(date.year % 100)
        default: return number(date.year / 100)
        }
    }

    private func number(_ value: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: isBinary ? value : (value / 10) << 4 | value % 10)
    }

    private func value(_ byte: UInt8) -> Int {
        isBinary ? Int(byte) : Int(byte >> 4) * 10 + Int(byte & 15)
    }

    private func hourValue(_ byte: UInt8) -> Int {
        is24Hours ? value(byte) : value(byte & 0x7f) % 12 + (byte & 0x80 != 0 ? 12 : 0)
    }

    private func decodedDate() -> CalendarDate {
        var date = CalendarDate(unixTime: 0)
        date.second = value(bytes[Register.second])
        date.minute = value(bytes[Register.minute])
        date.hour = hourValue(bytes[Register.hour])
        date.day = value(bytes[Register.day])
        date.month = value(bytes[Register.month])
        date.year = value(bytes[Register.century]) * 100 + value(bytes[Register.year])
        return date
    }

    // MARK: Interrupts

    /// Raises what is due.
    package func advance() {
        guard let next = nextEvent, next <= time.now else { return }
        settle()
        update()
    }

    /// Sets the flags of register C for what happened since the last time.
    private func settle() {
        let now = time.now
        defer { settled = now }
        if let period = periodTicks,
            Self.base.ticks(at: now) / period != Self.base.ticks(at: settled) / period
        {
            bytes[Register.c] |= RegisterB.periodic
        }
        let second = now / Self.nanosecondsPerSecond
        let before = settled / Self.nanosecondsPerSecond
        guard second != before, bytes[Register.b] & RegisterB.set == 0 else { return }
        bytes[Register.c] |= RegisterB.updateEnded
        if let alarm = nextAlarm(after: before), alarm <= second {
            bytes[Register.c] |= RegisterB.alarm
        }
    }

    /// The period that RS of register A chooses, in ticks of 32768 Hz, at least 4; nil: none.
    private var periodTicks: UInt64? {
        let rate = UInt64(bytes[Register.a] & 15)
        switch rate {
        case 0: return nil
        case 1, 2: return 64 << rate
        default: return 1 << (rate - 1)
        }
    }

    /// The first second of the machine's time after `second` at which the alarm bytes match.
    private func nextAlarm(after second: UInt64) -> UInt64? {
        let today = date(at: second &* Self.nanosecondsPerSecond)
        let start = today.hour * 3600 + today.minute * 60 + today.second
        guard let match = match(from: start + 1) ?? match(from: 0) else { return nil }
        return second &+ UInt64(match > start ? match - start : match + 86400 - start)
    }

    /// The first second of a day at or after `start` that the alarm bytes match. Bytes 0xc0…0xff
    /// match anything.
    private func match(from start: Int) -> Int? {
        func matches(_ byte: UInt8, _ value: Int, _ decode: (UInt8) -> Int) -> Bool {
            byte >= 0xc0 || decode(byte) == value
        }
        for hour in start / 3600..<max(24, start / 3600)
        where matches(bytes[Register.hourAlarm], hour, hourValue) {
            for minute in 0..<60 where matches(bytes[Register.minuteAlarm], minute, value) {
                for second in 0..<60 where matches(bytes[Register.secondAlarm], second, value) {
                    let found = hour * 3600 + minute * 60 + second
                    if found >= start { return found }
                }
            }
        }
        return nil
    }

    /// Drives the line from register C and finds the next enabled interrupt.
    private func update() {
        let enabled = bytes[Register.b] & RegisterB.enables
        let pending = bytes[Register.c] & enabled != 0
        if pending { bytes[Register.c] |= 0x80 } else { bytes[Register.c] &= 0x7f }  // IRQF
        if pending != asserted {
            asserted = pending
            interrupt(pending)
        }
        let next = pending ? nil : nextDue(enabled)
        if next != nextEvent {
            nextEvent = next
            signals.interruptsChanged = true
        }
    }

    /// While the line is asserted nothing more can happen until register C is read.
    private func nextDue(_ enabled: UInt8) -> UInt64? {
        var next: UInt64?
        func consider(_ candidate: UInt64) { next = min(next ?? candidate, candidate) }
        if enabled & RegisterB.periodic != 0, let period = periodTicks {
            let tick = Self.base.ticks(at: time.now)
            consider(Self.base.time(ofTick: (tick / period &+ 1) &* period))
        }
        guard bytes[Register.b] & RegisterB.set == 0 else { return next }
        let second = time.now / Self.nanosecondsPerSecond
        if enabled & RegisterB.updateEnded != 0 {
            consider((second &+ 1) &* Self.nanosecondsPerSecond)
        }
        if enabled & RegisterB.alarm != 0, let alarm = nextAlarm(after: second) {
            consider(alarm &* Self.nanosecondsPerSecond)
        }
        return next
    }
}

// MARK: Saved machines

extension MC146818 {
    package func save(to writer: inout FieldWriter) {
        writer.put(index)
        writer.put(bytes)
        writer.put(epoch)
        writer.put(settled)
        writer.put(asserted)
        writer.put(optional: nextEvent)
    }

    /// Takes on a saved state. The line is not driven: what it leads to has been saved too.
    package func restore(from reader: inout FieldReader) throws(FieldError) {
        index = try reader.get("CMOS index", mask: 0x7f)
        let bytes = try reader.list("CMOS memory", atMost: 128)
        guard bytes.count == 128 else { throw .badValue("CMOS memory") }
        self.bytes = bytes
        // A guest can set any date from 1970 on, at any time of the machine's.
        epoch = try reader.get("CMOS date", in: -CalendarDate.last...CalendarDate.last)
        settled = try reader.get("CMOS time", in: 0...time.now)
        asserted = try reader.flag("clock interrupt line")
        nextEvent = try reader.optional("next clock interrupt")
    }
}
