import Snapshot

/// The 16550A serial port, of infinite speed: a byte written is sent at once.
///
/// Source: National Semiconductor PC16550D data sheet (June 1995), section 8, "Registers"; the
/// section is named at each register. On a PC, MCR's OUT2 gates the interrupt line (IBM AT
/// Technical Reference, "Serial/Parallel Adapter").
///
/// Consequences of infinite speed: THRE and TEMT are always set; a byte in the receive FIFO below
/// the trigger level is at once four character times old, so its time-out interrupt is there.
package final class UART16550: PortDevice {
    /// Bytes that the FIFO holds (8.5, "FIFO Control Register").
    static let fifoBytes = 16

    private let sink: (UInt8) -> Void
    private let interrupt: Line

    /// Interrupt Enable Register, bits 3…0 (8.7).
    var enables: UInt8 = 0
    /// Line Control Register (8.1).
    var lineControl: UInt8 = 0
    /// Modem Control Register, bits 4…0 (8.8).
    var modemControl: UInt8 = 0
    /// The error bits 4…1 of the Line Status Register (8.4).
    var lineErrors: UInt8 = 0
    /// The delta bits 3…0 of the Modem Status Register (8.9).
    var modemDeltas: UInt8 = 0
    /// Scratchpad Register (8.10).
    var scratch: UInt8 = 0
    /// Divisor latch (8.3); it changes nothing here.
    var divisor: UInt16 = 12
    var fifoEnabled = false
    /// Bytes in the receive FIFO at which "received data available" is raised: 1, 4, 8 or 14.
    var trigger = 1
    /// Received bytes, oldest first; never more than `capacity`.
    private var received: [UInt8] = []
    /// The THRE interrupt is pending: set when the transmitter empties or the interrupt is enabled
    /// while it is empty, cleared by reading it from IIR or by writing THR (8.6, table IV).
    private var transmitPending = false
    private var asserted = false

    /// - Parameters:
    ///   - sink: receives each byte that the guest sends, at once.
    ///   - interrupt: driven high while an enabled interrupt is pending.
    package init(sink: @escaping (UInt8) -> Void, interrupt: @escaping Line) {
        self.sink = sink
        self.interrupt = interrupt
    }

    /// Master reset (8, table III); the scratch register and the divisor survive it.
    package func reset() {
        enables = 0
        lineControl = 0
        modemControl = 0
        lineErrors = 0
        modemDeltas = 0
        fifoEnabled = false
        trigger = 1
        received.removeAll(keepingCapacity: true)
        transmitPending = false
        update()
    }

    private var capacity: Int { fifoEnabled ? Self.fifoBytes : 1 }
    private var divisorAccess: Bool { lineControl & LineControl.divisorAccess != 0 }
    private var loopback: Bool { modemControl & ModemControl.loop != 0 }

    // MARK: The outside

    /// Whether a byte from outside would be kept.
    package var canReceive: Bool { !loopback && received.count < capacity }

    /// A byte arrives from outside; one that finds no room is lost, as on a real line. In loopback
    /// the line is disconnected.
    package func receive(_ byte: UInt8) {
        guard !loopback else { return }
        push(byte)
        update()
    }

    private func push(_ byte: UInt8) {
        guard received.count < capacity else {
            lineErrors |= LineStatus.overrun
            return
        }
        received.append(byte)
    }

    // MARK: Ports

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        UInt32(read(UInt8(truncatingIfNeeded: port & 7)))
    }

    package func writePort(_ port: UInt16, size: Int, value: UInt32) {
        write(UInt8(truncatingIfNeeded: port & 7), UInt8(truncatingIfNeeded: value))
    }

    private func read(_ register: UInt8) -> UInt8 {
        switch register {
        case 0 where divisorAccess: return UInt8(truncatingIfNeeded: divisor)
        case 1 where divisorAccess: return UInt8(truncatingIfNeeded: divisor >> 8)
        case 0:
            guard !received.isEmpty else { return 0 }
            defer { update() }
            return received.removeFirst()
        case 1: return enables
        case 2:
            let identification = interruptIdentification
            if identification == .transmitterEmpty {
                transmitPending = false
                update()
            }
            return identification.rawValue | (fifoEnabled ? 0xc0 : 0)
        case 3: return lineControl
        case 4: return modemControl
        case 5:
            let status =
                LineStatus.transmitterEmpty | lineErrors
                | (received.isEmpty ? 0 : LineStatus.dataReady)
            lineErrors = 0
            update()
            return status
        case 6:
            let status = modemLines | modemDeltas
            modemDeltas = 0
            update()
            return status
        default: return scratch
        }
    }

    private func write(_ register: UInt8, _ value: UInt8) {
        switch register {
        case 0 where divisorAccess: divisor = divisor & 0xff00 | UInt16(value)
        case 1 where divisorAccess: divisor = divisor & 0x00ff | UInt16(value) << 8
        case 0: transmit(value)
        case 1:
            let enabled = value & 0x0f
            // Enabling the THRE interrupt while the transmitter is empty raises it.
            if enabled & ~enables & Enable.transmitterEmpty != 0 { transmitPending = true }
            enables = enabled
        case 2: writeFIFOControl(value)
        case 3: lineControl = value
        case 4: writeModemControl(value & 0x1f)
        case 5, 6: break  // LSR and MSR are for reading
        default: scratch = value
        }
        update()
    }

    private func transmit(_ byte: UInt8) {
        if loopback { push(byte) } else { sink(byte) }
        // The byte has left already: THRE fell and rose again.
        transmitPending = true
    }

    /// FIFO Control Register (8.5). Changing bit 0 empties both FIFOs; the others count only
    /// while it is set.
    private func writeFIFOControl(_ value: UInt8) {
        let enable = value & 0x01 != 0
        if enable != fifoEnabled || (enable && value & 0x02 != 0) {
            received.removeAll(keepingCapacity: true)
        }
        fifoEnabled = enable
        guard enable else { return }
        switch value >> 6 {
        case 0: trigger = 1
        case 1: trigger = 4
        case 2: trigger = 8
        default: trigger = 14
        }
    }

    private func writeModemControl(_ value: UInt8) {
        let before = modemLines
        modemControl = value
        let after = modemLines
        let changed = before ^ after
        modemDeltas |= changed >> 4 & (ModemStatus.deltas & ~ModemStatus.trailingRing)
        // TERI: the ring indicator went from on to off.
        if before & ~after & ModemStatus.ring != 0 { modemDeltas |= ModemStatus.trailingRing }
    }

    /// Bits 7…4 of the Modem Status Register (8.9): a terminal that is there and ready, or, in
    /// loopback, the outputs of MCR (8.8).
    private var modemLines: UInt8 {
        guard loopback else {
            return ModemStatus.carrier | ModemStatus.dataSetReady | ModemStatus.clearToSend
        }
        var lines: UInt8 = 0
        if modemControl & ModemControl.dataTerminalReady != 0 { lines |= ModemStatus.dataSetReady }
        if modemControl & ModemControl.requestToSend != 0 { lines |= ModemStatus.clearToSend }
        if modemControl & ModemControl.out1 != 0 { lines |= ModemStatus.ring }
        if modemControl & ModemControl.out2 != 0 { lines |= ModemStatus.carrier }
        return lines
    }

    // MARK: Interrupts

    /// The pending interrupt of the highest priority (8.6, table IV).
    private var interruptIdentification: InterruptIdentification {
        if enables & Enable.lineStatus != 0 && lineErrors != 0 { return .lineStatus }
        if enables & Enable.receivedData != 0 && !received.isEmpty {
            return !fifoEnabled || received.count >= trigger ? .receivedData : .characterTimeout
        }
        if enables & Enable.transmitterEmpty != 0 && transmitPending { return .transmitterEmpty }
        if enables & Enable.modemStatus != 0 && modemDeltas != 0 { return .modemStatus }
        return .none
    }

    private func update() {
        // In loopback the OUT2 pin is inactive whatever its bit says, and the line with it.
        let gate = modemControl & ModemControl.out2 != 0 && !loopback
        let level = gate && interruptIdentification != .none
        guard level != asserted else { return }
        asserted = level
        interrupt(level)
    }
}

// MARK: Saved machines

extension UART16550 {
    package func save(to writer: inout FieldWriter) {
        writer.put(enables)
        writer.put(lineControl)
        writer.put(modemControl)
        writer.put(lineErrors)
        writer.put(modemDeltas)
        writer.put(scratch)
        writer.put(divisor)
        writer.put(fifoEnabled)
        writer.put(UInt8(truncatingIfNeeded: trigger))
        writer.put(received)
        writer.put(transmitPending)
        writer.put(asserted)
    }

    /// Takes on a saved state. The line is not driven: what it leads to has been saved too.
    package func restore(from reader: inout FieldReader) throws(FieldError) {
        enables = try reader.get("IER", mask: 0x0f)
        lineControl = try reader.get("LCR")
        modemControl = try reader.get("MCR", mask: 0x1f)
        lineErrors = try reader.get("LSR", mask: 0x1e)
        modemDeltas = try reader.get("MSR", mask: 0x0f)
        scratch = try reader.get("SCR")
        divisor = try reader.get("divisor latch")
        fifoEnabled = try reader.flag("FIFO enable")
        trigger = Int(try reader.get("FIFO trigger level", UInt8.self, in: 1...14))
        received = try reader.list("receive FIFO", atMost: capacity)
        transmitPending = try reader.flag("transmit interrupt")
        asserted = try reader.flag("serial interrupt line")
    }
}
