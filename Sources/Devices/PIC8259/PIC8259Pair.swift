import Snapshot

/// The two 8259As of a PC: sixteen inputs, one output, ports 0x20, 0xa0 and ELCR at 0x4d0.
package final class PIC8259Pair: PortDevice {
    private let master = PIC8259(isMaster: true, vectorBase: 0x08)
    private let slave = PIC8259(isMaster: false, vectorBase: 0x70)
    private let output: Line
    private var asserted = false

    /// - Parameter output: the master's INT, towards the processor.
    package init(output: @escaping Line) {
        self.output = output
    }

    package func reset() {
        master.reset()
        slave.reset()
        update()
    }

    /// Drives input `irq`, 0…15; the cascade input is not connected to anything outside.
    package func setInput(_ irq: Int, _ isAsserted: Bool) {
        guard irq != PlatformMap.Interrupt.cascade else { return }
        (irq & 8 == 0 ? master : slave).setInput(irq & 7, isAsserted)
        update()
    }

    /// The processor's INTA cycles: the vector, which is a spurious one (7 or 15) if the request
    /// went away.
    package func acknowledge() -> UInt8 {
        defer { update() }
        let pin = master.acknowledge()
        guard pin == PlatformMap.Interrupt.cascade else { return master.vector(of: pin) }
        return slave.vector(of: slave.acknowledge())
    }

    private func update() {
        master.setInput(PlatformMap.Interrupt.cascade, slave.pending != nil)
        let isAsserted = master.pending != nil
        guard isAsserted != asserted else { return }
        asserted = isAsserted
        output(isAsserted)
    }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        // A read may be a poll, which acknowledges.
        defer { update() }
        switch port {
        case PlatformMap.Port.primaryPIC: return UInt32(master.readCommand())
        case PlatformMap.Port.primaryPIC + 1: return UInt32(master.readData())
        case PlatformMap.Port.secondaryPIC: return UInt32(slave.readCommand())
        case PlatformMap.Port.secondaryPIC + 1: return UInt32(slave.readData())
        case PlatformMap.Port.triggerModes: return UInt32(master.levelTriggered)
        default: return UInt32(slave.levelTriggered)
        }
    }

    package func writePort(_ port: UInt16, size: Int, value: UInt32) {
        let byte = UInt8(truncatingIfNeeded: value)
        switch port {
        case PlatformMap.Port.primaryPIC: master.writeCommand(byte)
        case PlatformMap.Port.primaryPIC + 1: master.writeData(byte)
        case PlatformMap.Port.secondaryPIC: slave.writeCommand(byte)
        case PlatformMap.Port.secondaryPIC + 1: slave.writeData(byte)
        case PlatformMap.Port.triggerModes: master.setLevelTriggered(byte)
        default: slave.setLevelTriggered(byte)
        }
        update()
    }
}

// MARK: Saved machines

extension PIC8259Pair {
    package func save(to writer: inout FieldWriter) {
        master.save(to: &writer)
        slave.save(to: &writer)
        writer.put(asserted)
    }

    /// Takes on a saved state. The line is not driven: what it leads to has been saved too.
    package func restore(from reader: inout FieldReader) throws(FieldError) {
        try master.restore(from: &reader)
        try slave.restore(from: &reader)
        asserted = try reader.flag("INT")
    }
}
