import X86

/// A processor's local APIC, by its page of registers (xAPIC) or its MSRs (x2APIC).
///
/// Source: SDM Vol. 3A chapter 10, "Advanced Programmable Interrupt Controller (APIC)", in the
/// numbering of the editions where that is chapter 10. `+Registers` and `+ModelSpecific` are the
/// two faces of the registers, `+Delivery` the priorities and the handshake with the processor,
/// `+Commands` interprocessor interrupts, `+Timer` the timer.
///
/// Left out: CMCI, remote reads and system-management interrupts, which there is nothing for.
package final class LocalAPIC: MemoryDevice {
    /// The processor's number, which is the APIC's ID in every mode.
    package let processor: Int
    let isBootstrap: Bool
    let time: any TimeSource
    let signals: MachineSignals
    let tsc: Frequency
    let crystal: Frequency
    /// Bits of IA32_APIC_BASE that must be zero.
    let reservedBase: UInt64

    /// Carries messages to other APICs; whoever owns this chip sets it.
    package weak var bus: (any InterruptMessageBus)?

    /// IA32_APIC_BASE.
    var base: UInt64 = 0
    /// Task priority, 0…255.
    var priority: UInt8 = 0
    var logicalDestination: UInt32 = 0
    var destinationFormat: UInt32 = .max
    var spurious: UInt32 = 0xff
    var inService = VectorSet()
    var requests = VectorSet()
    var triggerMode = VectorSet()
    /// What ESR reads, and what it will read after it is next written.
    var errorStatus: UInt32 = 0
    var errorsSince: UInt32 = 0
    var command: UInt64 = 0
    /// Six registers, by `LocalVector.rawValue`.
    var localVectors = [UInt32](
        repeating: LocalVectorBit.mask, count: LocalVector.allCases.count)

    var initialCount: UInt32 = 0
    var divideConfiguration: UInt32 = 0
    /// The crystal's tick at which the counter reaches zero; nil while it stands.
    var expiry: UInt64?
    /// IA32_TSC_DEADLINE; 0 is disarmed.
    var deadline: UInt64 = 0
    /// What the processor's time-stamp counter is ahead of the machine's, modulo 2⁶⁴.
    var timeStampOffset: UInt64 = 0
    /// When the timer next interrupts, in nanoseconds; nil if it will not.
    package internal(set) var nextEvent: UInt64?

    /// The level of the LINT0 input: the 8259s' output.
    var externalLevel = false
    var nonMaskablePending = false
    var initializePending = false
    var startupPending: UInt8?
    var waitsForStartup: Bool

    /// - Parameters:
    ///   - tsc: the time-stamp counter's rate.
    ///   - crystal: the rate of the timer's clock.
    ///   - physicalAddressBits: the width of physical addresses.
    ///   - hasX2APIC: whether x2APIC mode exists.
    package init(
        processor: Int, time: any TimeSource, signals: MachineSignals, tsc: Frequency,
        crystal: Frequency, physicalAddressBits: Int, hasX2APIC: Bool = true
    ) {
        self.processor = processor
        self.time = time
        self.signals = signals
        self.tsc = tsc
        self.crystal = crystal
        isBootstrap = processor == 0
        waitsForStartup = processor != 0
        // Bits 7…0 and 9, EXTD without x2APIC, and those above the physical address.
        reservedBase =
            0x2ff | (hasX2APIC ? 0 : Base.extended)
            | ~((1 << UInt64(clamping: physicalAddressBits)) &- 1)
        reset()
    }

    /// The state after power-up (§10.4.7.1), with what PC firmware adds on the bootstrap
    /// processor: LINT0 takes the 8259s' interrupts ("virtual wire mode", MultiProcessor
    /// Specification 1.4 §3.6.2.2).
    package func reset() {
        base =
            PlatformMap.Memory.localAPIC.rawValue | Base.enable
            | (isBootstrap ? Base.bootstrap : 0)
        nonMaskablePending = false
        initializePending = false
        startupPending = nil
        waitsForStartup = !isBootstrap
        timeStampOffset = 0
        resetRegisters()
        if isBootstrap {
            localVectors[LocalVector.lint0.rawValue] = UInt32(DeliveryMode.external.rawValue) << 8
        }
    }

    /// Everything that INIT, and disabling by IA32_APIC_BASE, reset (§10.4.7.3).
    func resetRegisters() {
        priority = 0
        logicalDestination = 0
        destinationFormat = .max
        spurious = 0xff
        inService = VectorSet()
        requests = VectorSet()
        triggerMode = VectorSet()
        errorStatus = 0
        errorsSince = 0
        command = 0
        for vector in LocalVector.allCases {
            localVectors[vector.rawValue] = LocalVectorBit.mask
        }
        initialCount = 0
        divideConfiguration = 0
        expiry = nil
        deadline = 0
        schedule()
    }

    var mode: Mode {
        guard base & Base.enable != 0 else { return .disabled }
        return base & Base.extended != 0 ? .x2APIC : .xAPIC
    }

    /// The address of the 4 KiB register page, or nil where there is none: not in xAPIC mode.
    package var registerPage: GuestPhysicalAddress? {
        mode == .xAPIC ? GuestPhysicalAddress(base & ~0xfff) : nil
    }

    var isSoftwareEnabled: Bool { spurious & Spurious.enable != 0 }

    func changed() { signals.interruptsChanged = true }
}
