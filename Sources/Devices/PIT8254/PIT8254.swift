import Snapshot

/// The 8254 interval timer of a PC and system control port B: ports 0x40…0x43 and 0x61.
///
/// Counter 0 drives IRQ 0, counter 1 once refreshed memory and drives nothing, counter 2 is gated
/// and read back through port 0x61 (and would drive a speaker). Source: Intel 8254 data sheet
/// (order 231164-005); port 0x61: Intel 82371AB data sheet, "NMISC—NMI Status and Control".
///
/// A rising edge of counter 0 is given to the line as a low and a high; edges that came while
/// nobody looked are given as one.
package final class PIT8254: PortDevice {
    /// The PC's timer clock: 105/88 MHz.
    package static let frequency = Frequency(hertz: 1_193_182)

    private let time: any TimeSource
    private let signals: MachineSignals
    private let interrupt: Line
    private var counters = [PITCounter(), PITCounter(), PITCounter()]
    private var output = false
    private var nextEdge: UInt64?
    /// The bits of port 0x61 that can be written: gate 2, speaker and two that do nothing.
    private var control: UInt8 = 0

    /// When counter 0 next interrupts, in nanoseconds; nil if it never will.
    package private(set) var nextEvent: UInt64?

    /// - Parameter interrupt: the output of counter 0.
    package init(time: any TimeSource, signals: MachineSignals, interrupt: @escaping Line) {
        self.time = time
        self.signals = signals
        self.interrupt = interrupt
        counters[2].setGate(false, at: 0)
    }

    package func reset() {
        counters = [PITCounter(), PITCounter(), PITCounter()]
        counters[2].setGate(false, at: now)
        control = 0
        schedule()
    }

    private var now: UInt64 { Self.frequency.ticks(at: time.now) }

    /// Raises the interrupt if an edge is due.
    package func advance() {
        guard let edge = nextEdge, edge <= now else { return }
        drive(false)
        drive(true)
        computeNextEdge()
    }

    private func schedule() {
        drive(counters[0].output(at: now))
        computeNextEdge()
        signals.interruptsChanged = true
    }

    private func computeNextEdge() {
        nextEdge = counters[0].nextRisingEdge(after: now)
        nextEvent = nextEdge.map { Self.frequency.time(ofTick: $0) }
    }

    private func drive(_ level: Bool) {
        guard level != output else { return }
        output = level
        interrupt(level)
    }

    // MARK: Ports

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        if port == PlatformMap.Port.systemControlB { return UInt32(readControl()) }
        let index = Int(port & 3)
        // The control word cannot be read ("Programming the 8254").
        guard index < 3 else { return 0xff }
        return UInt32(counters[index].read(at: now))
    }

    package func writePort(_ port: UInt16, size: Int, value: UInt32) {
        // An edge that is due must not be lost by programming the counter anew.
        advance()
        let byte = UInt8(truncatingIfNeeded: value)
        if port == PlatformMap.Port.systemControlB {
            control = byte & 0x0f
            counters[2].setGate(byte & 0x01 != 0, at: now)
            return
        }
        let index = Int(port & 3)
        if index < 3 {
            counters[index].write(byte, at: now)
        } else {
            writeControlWord(byte)
        }
        // A latch command (RW = 0) changes nothing that is seen outside.
        let programs = index == 3 ? byte >> 6 == 0 && byte & 0x30 != 0 : index == 0
        if programs { schedule() }
    }

    /// "Control Word Format" and, for counter number 3, "Read-Back Command".
    private func writeControlWord(_ value: UInt8) {
        let index = Int(value >> 6)
        guard index == 3 else {
            counters[index].writeControlWord(value, at: now)
            return
        }
        for counter in 0..<3 where value & (2 << UInt8(counter)) != 0 {
            if value & 0x10 == 0 { counters[counter].latchStatus(at: now) }
            if value & 0x20 == 0 { counters[counter].latchCount(at: now) }
        }
    }

    /// Port 0x61: bit 5 is the output of counter 2, bit 4 toggles with each refresh request, about
    /// every 15 µs.
    private func readControl() -> UInt8 {
        let refresh: UInt8 = now / 18 & 1 == 0 ? 0 : 0x10
        let tone: UInt8 = counters[2].output(at: now) ? 0x20 : 0
        return control | refresh | tone
    }
}

// MARK: Saved machines

extension PIT8254 {
    package func save(to writer: inout FieldWriter) {
        for counter in counters { counter.save(to: &writer) }
        writer.put(output)
        writer.put(optional: nextEdge)
        writer.put(control)
    }

    /// Takes on a saved state. The line is not driven: what it leads to has been saved too.
    package func restore(from reader: inout FieldReader) throws(FieldError) {
        for index in counters.indices {
            counters[index] = try PITCounter(restoringFrom: &reader)
        }
        output = try reader.flag("timer output")
        nextEdge = try reader.optional("next timer edge")
        nextEvent = nextEdge.map { Self.frequency.time(ofTick: $0) }
        control = try reader.get("port 0x61", mask: 0x0f)
    }
}
