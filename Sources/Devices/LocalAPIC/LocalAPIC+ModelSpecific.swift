import X86

/// The MSRs: IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC registers.
extension LocalAPIC {
    /// Reads an MSR; nil is #GP.
    package func readModelSpecific(_ register: UInt32) -> UInt64? {
        switch register {
        case MSR.apicBase: return base
        case MSR.tscDeadline:
            // §10.5.4.1: outside deadline mode it reads zero.
            advance()
            return timerMode == .deadline ? deadline : 0
        case MSR.x2apicFirst...MSR.x2apicLast:
            return readExtended(register - MSR.x2apicFirst)
        default: return nil
        }
    }

    /// Writes an MSR; false is #GP.
    package func writeModelSpecific(_ register: UInt32, _ value: UInt64) -> Bool {
        switch register {
        case MSR.apicBase: return writeBase(value)
        case MSR.tscDeadline:
            writeDeadline(value)
            return true
        case MSR.x2apicFirst...MSR.x2apicLast:
            return writeExtended(register - MSR.x2apicFirst, value)
        default: return false
        }
    }

    /// The legal transitions are those of Figure 10-27 (§10.12.5): x2APIC mode is entered from
    /// xAPIC mode only and left to the disabled state only. BSP is for reading.
    private func writeBase(_ value: UInt64) -> Bool {
        guard value & reservedBase == 0 else { return false }
        let before = mode
        let enable = value & Base.enable != 0
        let extended = value & Base.extended != 0
        guard enable || !extended else { return false }
        switch before {
        case .disabled where extended: return false
        case .x2APIC where enable && !extended: return false
        default: break
        }
        base = value & ~Base.bootstrap | (isBootstrap ? Base.bootstrap : 0)
        if before != .disabled && !enable {
            // §10.4.3: what was set up before may be lost, and is.
            resetRegisters()
        }
        changed()
        return true
    }

    // MARK: x2APIC (§10.12.1.2, Table 10-6)

    private func readExtended(_ register: UInt32) -> UInt64? {
        guard mode == .x2APIC else { return nil }
        switch register {
        case Register.commandLow: return command
        case Register.id, Register.version, Register.taskPriority, Register.processorPriority,
            Register.logicalDestination, Register.spuriousVector, Register.inService,
            Register.triggerMode, Register.requests, Register.errorStatus, Register.localVectors,
            Register.initialCount, Register.currentCount, Register.divideConfiguration:
            return UInt64(read(register))
        default: return nil  // no such register, or one for writing only
        }
    }

    private func writeExtended(_ register: UInt32, _ value: UInt64) -> Bool {
        guard mode == .x2APIC else { return false }
        if register == Register.commandLow {
            guard value & 0xffff_ffff & ~UInt64(Self.commandWritable) == 0 else { return false }
            command = value
            sendCommand()
            return true
        }
        guard let writable = Self.extendedWritable(register), value & ~UInt64(writable) == 0 else {
            return false
        }
        let value = UInt32(truncatingIfNeeded: value)
        if register == Register.selfInterrupt {
            interruptSelf(UInt8(truncatingIfNeeded: value))
        } else {
            write(register, value)
        }
        return true
    }

    /// The bits of an x2APIC register that are not reserved; nil where writing is #GP.
    private static func extendedWritable(_ register: UInt32) -> UInt32? {
        switch register {
        case Register.taskPriority, Register.selfInterrupt: 0xff
        case Register.endOfInterrupt, Register.errorStatus: 0
        case Register.spuriousVector: Spurious.writable
        case Register.localVectors:
            LocalVector(rawValue: Int(register - Register.localVectors.lowerBound)).map {
                $0.writable | $0.readable
            }
        case Register.initialCount: .max
        case Register.divideConfiguration: 0x0b
        default: nil
        }
    }
}
