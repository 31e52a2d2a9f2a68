/// Priorities, acceptance, and the handshake with the processor (§10.8).
extension LocalAPIC {
    // MARK: Priorities

    /// PPR (§10.8.3.1): the higher of the task's class and the class being served.
    var processorPriority: UInt8 {
        let served = inService.highest ?? 0
        return priority >> 4 >= served >> 4 ? priority : served & 0xf0
    }

    /// APR (§10.6.2.4).
    var arbitrationPriority: UInt8 {
        let requested = requests.highest ?? 0
        let served = inService.highest ?? 0
        if priority >> 4 >= requested >> 4 && priority >> 4 > served >> 4 { return priority }
        return max(priority, requested, served) & 0xf0
    }

    /// CR8: the class of the task priority, 0…15 (§10.8.6).
    package var taskPriorityClass: UInt8 {
        get { priority >> 4 }
        set {
            priority = newValue << 4
            changed()
        }
    }

    // MARK: To the processor

    /// Whether the 8259s' output reaches the processor: through LINT0 as ExtINT, or because the
    /// APIC is off and its pin is the processor's INTR (§10.4.3).
    package var externalInterruptAsserted: Bool {
        guard externalLevel else { return false }
        if mode == .disabled { return true }
        let entry = localVectors[LocalVector.lint0.rawValue]
        return entry & LocalVectorBit.mask == 0
            && DeliveryMode(bits: entry >> 8 & 7) == .external
    }

    /// The vector that can be delivered now, or nil.
    private var deliverable: UInt8? {
        guard mode != .disabled, let vector = requests.highest,
            vector >> 4 > processorPriority >> 4
        else { return nil }
        return vector
    }

    /// Whether this APIC itself has an interrupt for the processor.
    package var hasInterrupt: Bool { deliverable != nil }

    /// Moves the deliverable vector from IRR to ISR; nil if there is none.
    package func acknowledge() -> UInt8? {
        guard let vector = deliverable else { return nil }
        requests.remove(vector)
        inService.insert(vector)
        changed()
        return vector
    }

    package func takeNonMaskable() -> Bool {
        defer { nonMaskablePending = false }
        return nonMaskablePending
    }

    package func takeStartup() -> StartupEvent? {
        if initializePending {
            initializePending = false
            return .initialize
        }
        guard let vector = startupPending else { return nil }
        startupPending = nil
        return .startup(vector: vector)
    }

    /// EOI (§10.8.5).
    func endInterrupt() {
        guard let vector = inService.highest else { return }
        inService.remove(vector)
        if triggerMode.contains(vector) {
            if spurious & Spurious.suppressBroadcast == 0 {
                bus?.broadcastEndOfInterrupt(vector)
            }
            let entry = localVectors[LocalVector.lint0.rawValue]
            if UInt8(truncatingIfNeeded: entry) == vector {
                localVectors[LocalVector.lint0.rawValue] &= ~LocalVectorBit.remoteIRR
                driveLocalInput(rises: false)
            }
        }
        changed()
    }

    // MARK: From outside

    /// Takes a message that is for this APIC; false if it cannot.
    package func accept(_ mode: DeliveryMode, vector: UInt8, isLevel: Bool) -> Bool {
        guard self.mode != .disabled else { return false }
        switch mode {
        case .fixed, .lowestPriority: return request(vector, isLevel: isLevel)
        case .nonMaskable:
            nonMaskablePending = true
        case .initialize:
            // The ID and IA32_APIC_BASE survive (§10.4.7.3).
            resetRegisters()
            initializePending = true
            startupPending = nil
            waitsForStartup = !isBootstrap
        case .startup:
            // Only a processor that waits after INIT hears it (§8.4.4.1).
            guard waitsForStartup else { return true }
            waitsForStartup = false
            startupPending = vector
        case .systemManagement, .reserved, .external: return false
        }
        changed()
        return true
    }

    private func request(_ vector: UInt8, isLevel: Bool) -> Bool {
        guard isSoftwareEnabled else { return false }
        guard vector >= 16 else {
            report(ErrorStatus.receiveIllegalVector)
            return false
        }
        requests.insert(vector)
        if isLevel { triggerMode.insert(vector) } else { triggerMode.remove(vector) }
        changed()
        return true
    }

    /// Whether this APIC is one that a message names (§10.6.2).
    package func matches(_ destination: InterruptMessage.Destination) -> Bool {
        switch destination {
        case .all: return true
        case .others(let sender): return sender != processor
        case .physical(let id, let wide):
            return id == (wide ? .max : 0xff) || id == UInt32(processor)
        case .logical(let address, let wide):
            if address == (wide ? .max : 0xff) { return true }
            return mode == .x2APIC ? matchesCluster(address) : matchesLogical(address)
        }
    }

    /// LDR in x2APIC mode: the cluster, and a bit in it (§10.12.10.2).
    var currentLogicalDestination: UInt32 {
        guard mode == .x2APIC else { return logicalDestination }
        return UInt32(processor >> 4) << 16 | 1 << UInt32(processor & 15)
    }

    private func matchesCluster(_ address: UInt32) -> Bool {
        let own = currentLogicalDestination
        return address >> 16 == own >> 16 && address & own & 0xffff != 0
    }

    /// The flat and the cluster model of xAPIC mode (§10.6.2.2).
    private func matchesLogical(_ address: UInt32) -> Bool {
        guard address <= 0xff else { return false }
        let own = logicalDestination >> 24
        if destinationFormat >> 28 == 0xf { return own & address != 0 }
        let cluster = address >> 4
        return (cluster == own >> 4 || cluster == 0xf) && own & address & 0xf != 0
    }

    // MARK: Local interrupts

    /// Raises a local interrupt if its entry is not masked.
    func raise(_ source: LocalVector) {
        let entry = localVectors[source.rawValue]
        guard entry & LocalVectorBit.mask == 0 else { return }
        let vector = UInt8(truncatingIfNeeded: entry)
        switch source {
        case .timer: _ = request(vector, isLevel: false)
        case .error:
            // An error vector that is itself illegal must not report itself for ever.
            if vector >= 16 { _ = request(vector, isLevel: false) }
        case .thermal, .performance, .lint0, .lint1:
            _ = accept(DeliveryMode(bits: entry >> 8 & 7), vector: vector, isLevel: false)
        }
    }

    /// Drives LINT0, which the 8259s' output is wired to.
    package func setExternalInterrupt(_ asserted: Bool) {
        let rises = asserted && !externalLevel
        externalLevel = asserted
        driveLocalInput(rises: rises)
        changed()
    }

    /// LINT0 in the modes other than ExtINT: an edge, or a level that is asserted and not yet
    /// under way, makes a request (§10.5.1). Only fixed interrupts may be level-triggered.
    func driveLocalInput(rises: Bool) {
        let entry = localVectors[LocalVector.lint0.rawValue]
        guard externalLevel, entry & LocalVectorBit.mask == 0, mode != .disabled else { return }
        switch DeliveryMode(bits: entry >> 8 & 7) {
        case .fixed where entry & LocalVectorBit.level != 0:
            guard entry & LocalVectorBit.remoteIRR == 0 else { return }
            if request(UInt8(truncatingIfNeeded: entry), isLevel: true) {
                localVectors[LocalVector.lint0.rawValue] |= LocalVectorBit.remoteIRR
            }
        case .fixed, .nonMaskable:
            if rises { raise(.lint0) }
        default: break
        }
    }
}
