/// The wires of the interrupt system: ISA lines to the 8259s and the I/O APIC, the 8259s to LINT0
/// of the first local APIC, and messages between APICs.
///
/// ISA interrupt 0 reaches I/O APIC pin 2, as the MADT says; the others the pin of their number.
final class InterruptFabric: InterruptMessageBus {
    let pics: PIC8259Pair
    let ioAPIC: IOAPIC
    let localAPICs: [LocalAPIC]

    /// - Parameter localAPICs: one a processor, in order; at least one.
    init(localAPICs: [LocalAPIC]) {
        let first = localAPICs[0]
        self.localAPICs = localAPICs
        pics = PIC8259Pair(output: { first.setExternalInterrupt($0) })
        // The ID after the processors'; one above 15 does not fit the register's four bits.
        ioAPIC = IOAPIC(id: UInt8(truncatingIfNeeded: min(localAPICs.count, 15)))
        ioAPIC.bus = self
        for apic in localAPICs { apic.bus = self }
    }

    func reset() {
        for apic in localAPICs { apic.reset() }
        ioAPIC.reset()
        pics.reset()
    }

    /// Drives an ISA interrupt line.
    func setLine(_ irq: Int, _ asserted: Bool) {
        // Lines 16…23 lead to the I/O APIC alone.
        if irq < 16 { pics.setInput(irq, asserted) }
        let pin = irq == PlatformMap.Interrupt.timer ? PlatformMap.Interrupt.timerPin : irq
        ioAPIC.setInput(pin, asserted)
    }

    @discardableResult
    func send(_ message: InterruptMessage) -> Bool {
        if message.mode == .lowestPriority { return sendToLowest(message) }
        var taken = false
        for apic in localAPICs where apic.matches(message.destination) {
            let accepted = apic.accept(
                message.mode, vector: message.vector, isLevel: message.isLevel)
            taken = taken || accepted
        }
        return taken
    }

    /// Lowest-priority delivery: the APIC with the lowest processor priority that can take it, and
    /// among equals the one with the lowest ID, so that runs repeat.
    private func sendToLowest(_ message: InterruptMessage) -> Bool {
        var best: LocalAPIC?
        for apic in localAPICs
        where apic.matches(message.destination) && apic.mode != .disabled && apic.isSoftwareEnabled
        {
            if let chosen = best, chosen.processorPriority <= apic.processorPriority { continue }
            best = apic
        }
        return best?.accept(.lowestPriority, vector: message.vector, isLevel: message.isLevel)
            ?? false
    }

    func broadcastEndOfInterrupt(_ vector: UInt8) { ioAPIC.endOfInterrupt(vector) }
}
