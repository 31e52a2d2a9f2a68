import X86

/// The registers by number, and the xAPIC page that shows them.
extension LocalAPIC {
    /// Version 0x14 with six local vectors and EOI-broadcast suppression (§10.4.8).
    private static let version: UInt32 =
        1 << 24 | UInt32(LocalVector.allCases.count - 1) << 16 | 0x14

    // MARK: The xAPIC page

    /// Registers are 32 bits at multiples of 16 bytes (§10.4.1); narrower reads give their part.
    package func readRegister(_ offset: UInt32, size: Int) -> UInt32 {
        guard offset & 15 < 4 else { return 0 }
        return read(offset >> 4) >> (8 * (offset & 3))
    }

    /// Only whole registers can be written.
    package func writeRegister(_ offset: UInt32, size: Int, value: UInt32) {
        guard offset & 15 == 0, size == 4 else { return }
        write(offset >> 4, value)
    }

    // MARK: Reading

    /// The value of a register; one that does not exist is an error for ESR and reads 0.
    func read(_ register: UInt32) -> UInt32 {
        switch register {
        case Register.id: return mode == .x2APIC ? UInt32(processor) : UInt32(processor) << 24
        case Register.version: return Self.version
        case Register.taskPriority: return UInt32(priority)
        case Register.arbitrationPriority: return UInt32(arbitrationPriority)
        case Register.processorPriority: return UInt32(processorPriority)
        case Register.endOfInterrupt, Register.remoteRead: return 0
        case Register.logicalDestination: return currentLogicalDestination
        case Register.destinationFormat: return destinationFormat
        case Register.spuriousVector: return spurious
        case Register.inService: return inService.word(Int(register & 7))
        case Register.triggerMode: return triggerMode.word(Int(register & 7))
        case Register.requests: return requests.word(Int(register & 7))
        case Register.errorStatus: return errorStatus
        case Register.commandLow: return UInt32(truncatingIfNeeded: command)
        case Register.commandHigh: return UInt32(truncatingIfNeeded: command >> 32)
        case Register.localVectors:
            return localVectors[Int(register - Register.localVectors.lowerBound)]
        case Register.initialCount: return initialCount
        case Register.currentCount: return currentCount()
        case Register.divideConfiguration: return divideConfiguration
        default:
            report(ErrorStatus.illegalRegister)
            return 0
        }
    }

    // MARK: Writing

    /// Writes a register; bits that cannot be written are left out.
    func write(_ register: UInt32, _ value: UInt32) {
        switch register {
        case Register.taskPriority:
            priority = UInt8(truncatingIfNeeded: value)
            changed()
        case Register.endOfInterrupt: endInterrupt()
        case Register.logicalDestination: logicalDestination = value & 0xff00_0000
        case Register.destinationFormat: destinationFormat = value | 0x0fff_ffff
        case Register.spuriousVector: writeSpurious(value)
        case Register.errorStatus:
            // Writing makes what has gathered readable (§10.5.3).
            errorStatus = errorsSince
            errorsSince = 0
        case Register.commandLow:
            command = command & ~0xffff_ffff | UInt64(value & Self.commandWritable)
            sendCommand()
        case Register.commandHigh:
            command = command & 0xffff_ffff | UInt64(value & 0xff00_0000) << 32
        case Register.localVectors:
            let index = Int(register - Register.localVectors.lowerBound)
            if let vector = LocalVector(rawValue: index) { writeLocalVector(vector, value) }
        case Register.initialCount: writeInitialCount(value)
        case Register.divideConfiguration: writeDivideConfiguration(value)
        case Register.id, Register.version, Register.arbitrationPriority,
            Register.processorPriority, Register.remoteRead, Register.inService,
            Register.triggerMode, Register.requests, Register.currentCount:
            break  // for reading
        default: report(ErrorStatus.illegalRegister)
        }
    }

    /// Vector, delivery and destination mode, level, trigger, shorthand; not delivery status.
    static let commandWritable: UInt32 = 0x000c_cfff

    private func writeSpurious(_ value: UInt32) {
        // The timer's expiries so far still follow the old masks.
        advance()
        spurious = value & Spurious.writable
        if !isSoftwareEnabled {
            // §10.4.7.2: disabling masks every local vector.
            for vector in LocalVector.allCases {
                localVectors[vector.rawValue] |= LocalVectorBit.mask
            }
        }
        schedule()
        changed()
    }

    private func writeLocalVector(_ vector: LocalVector, _ value: UInt32) {
        advance()
        let before = localVectors[vector.rawValue]
        let previousMode = timerMode
        var after = value & vector.writable | before & LocalVectorBit.readOnly
        if after & LocalVectorBit.level == 0 { after &= ~LocalVectorBit.remoteIRR }
        // While software-disabled the masks cannot be cleared.
        if !isSoftwareEnabled { after |= LocalVectorBit.mask }
        localVectors[vector.rawValue] = after
        switch vector {
        case .timer: timerModeChanged(from: previousMode)
        case .lint0: driveLocalInput(rises: false)
        default: break
        }
        changed()
    }

    // MARK: Errors

    /// Notes errors for ESR and raises the error interrupt (§10.5.3).
    func report(_ errors: UInt32) {
        let isNew = errorsSince & errors != errors
        errorsSince |= errors
        if isNew { raise(.error) }
    }
}
