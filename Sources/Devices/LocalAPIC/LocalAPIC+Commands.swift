/// Interprocessor interrupts (§10.6).
extension LocalAPIC {
    /// The shorthands of ICR bits 19…18.
    private enum Shorthand: UInt32 { case none, itself, all, others }

    /// Sends what ICR says. Combinations that Table 10-3 calls invalid send nothing.
    func sendCommand() {
        let low = UInt32(truncatingIfNeeded: command)
        let mode = DeliveryMode(bits: low >> 8 & 7)
        let vector = UInt8(truncatingIfNeeded: low)
        let asserts = low >> 14 & 1 != 0
        let isLevel = low >> 15 & 1 != 0
        switch mode {
        case .fixed, .lowestPriority:
            guard vector >= 16 else { return report(ErrorStatus.sendIllegalVector) }
        // The level de-assert form of INIT does nothing since the Pentium 4.
        case .initialize: if isLevel && !asserts { return }
        case .nonMaskable, .startup: break
        case .systemManagement, .reserved, .external: return
        }
        let destination: InterruptMessage.Destination
        switch Shorthand(rawValue: low >> 18 & 3) ?? .none {
        case .none: destination = addressed(isLogical: low >> 11 & 1 != 0)
        // The manual calls NMIs by these two invalid; processors send them.
        case .itself:
            guard mode == .fixed || mode == .nonMaskable else { return }
            destination = .physical(UInt32(processor), wide: true)
        case .all:
            guard mode == .fixed || mode == .nonMaskable else { return }
            destination = .all
        case .others: destination = .others(than: processor)
        }
        // IPIs are edge-triggered whatever the trigger bit says (§10.6.1).
        bus?.send(InterruptMessage(destination: destination, mode: mode, vector: vector))
    }

    private func addressed(isLogical: Bool) -> InterruptMessage.Destination {
        let wide = mode == .x2APIC
        let field = UInt32(truncatingIfNeeded: command >> (wide ? 32 : 56))
        return isLogical ? .logical(field, wide: wide) : .physical(field, wide: wide)
    }

    /// The SELF IPI register (§10.12.11).
    func interruptSelf(_ vector: UInt8) {
        guard vector >= 16 else { return report(ErrorStatus.sendIllegalVector) }
        _ = accept(.fixed, vector: vector, isLevel: false)
    }
}
