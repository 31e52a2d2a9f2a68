import X86

/// What distinguishes the ops of vector instructions: bits of `Op.code`.
enum VectorCode {
    /// It needs SSE to be enabled.
    static let sse: UInt16 = 1 << 0
    /// It touches MMX registers.
    static let mmx: UInt16 = 1 << 1
    /// It is an x87 instruction that reports pending exceptions.
    static let x87: UInt16 = 1 << 2
    /// Its memory operand must be aligned to 16 bytes.
    static let aligned: UInt16 = 1 << 3
    static let reads: UInt16 = 1 << 4
    static let writes: UInt16 = 1 << 5
    static let readsFlags: UInt16 = 1 << 6
    static let writesFlags: UInt16 = 1 << 7
    /// Its stub changes registers beside what it stores: the store must be known to succeed.
    static let probes: UInt16 = 1 << 8
    /// Where the handlers of moves keep a number of their own, and x87 instructions the low bits of
    /// their opcode.
    static let variantShift: UInt16 = 12
}

/// Permission, memory operands and exceptions of vector instructions.
extension Core {
    /// Whether CR0, CR4 and pending x87 exceptions allow the instruction; raises #UD, #NM or #MF
    /// if not (SDM Vol. 3A §2.5, Tables 12-1, 13-1; Vol. 2A §2.4).
    @inline(__always)
    func permitsVector(_ code: UInt16, _ block: VectorBlock) -> Bool {
        let blocked = state.cr0 & (CR0.emulation | CR0.taskSwitched)
        if code & (VectorCode.mmx | VectorCode.x87) == 0 {
            if blocked == 0 && state.cr4 & CR4.osFXSR != 0 { return true }
        } else if blocked == 0 && block.fsw & X87Status.errorSummary == 0
            && (code & VectorCode.sse == 0 || state.cr4 & CR4.osFXSR != 0)
        {
            return true
        }
        return refuseVector(code, block)
    }

    @inline(never)
    private func refuseVector(_ code: UInt16, _ block: VectorBlock) -> Bool {
        let isX87 = code & VectorCode.x87 != 0
        if code & VectorCode.sse != 0 && state.cr4 & CR4.osFXSR == 0
            || !isX87 && state.cr0 & CR0.emulation != 0
        {
            _ = raise(.invalidOpcode)
        } else if state.cr0 & (CR0.taskSwitched | CR0.emulation) != 0 {
            _ = raise(.deviceNotAvailable)
        } else if passesPendingError(block) {
            block.fsw &= ~(X87Status.errorSummary | X87Status.busy | X87Status.exceptions)
            return true
        }
        return false
    }

    /// Reports a pending x87 exception (SDM Vol. 1 §8.7): by #MF or, where CR0.NE is clear, by
    /// FERR#, for whose interrupt the processor then waits with RIP at the instruction.
    /// - Returns: whether the instruction is executed all the same, for IGNNE# is asserted. The
    ///   exception must not meet the host's processor then: whoever runs a stub forgets it.
    func passesPendingError(_ block: VectorBlock) -> Bool {
        if state.cr0 & CR0.numericError != 0 {
            _ = raise(.floatingPoint)
            return false
        }
        if signalPendingError(block) { return true }
        state.isHalted = true
        leaveBlock()
        return false
    }

    /// Drives FERR#, where CR0.NE has it so. To be called where the status or the control word
    /// changed.
    /// - Returns: IGNNE#.
    @discardableResult
    func signalPendingError(_ block: VectorBlock) -> Bool {
        guard state.cr0 & CR0.numericError == 0 else { return false }
        return withProcessor { processor in
            processor.statistics.deviceAccesses += 1
            return processor.platform.signalFloatingPointError(
                block.fsw & X87Status.errorSummary != 0, processor: processor.index)
        }
    }

    /// Whether CR0.TS allows an instruction that is defined; raises #UD or #NM if not.
    func permitsState(isDefined: Bool) -> Bool {
        if !isDefined {
            _ = invalidOpcode()
        } else if state.cr0 & CR0.taskSwitched != 0 {
            _ = raise(.deviceNotAvailable)
        } else {
            return true
        }
        return false
    }

    /// The linear address of a vector memory operand, alignment checked; nil after a fault.
    @inline(__always)
    func vectorAddress(_ op: OpRef, size: UInt64, alignment: UInt64, write: Bool) -> UInt64? {
        guard let address = linearAddress(op, size: size, write: write) else { return nil }
        if address & (alignment &- 1) != 0 {
            _ = generalProtection()
            return nil
        }
        return address
    }

    /// `address + offset`, wrapped as the mode has it.
    @inline(__always)
    func advance(_ address: UInt64, _ offset: UInt64) -> UInt64 {
        is64 ? address &+ offset : (address &+ offset) & 0xffff_ffff
    }

    // MARK: 16 bytes

    /// Reads 16 bytes; nil after a fault.
    @inline(__always)
    func read16(linear address: UInt64) -> (low: UInt64, high: UInt64)? {
        guard let low = read(UInt64.self, linear: address),
            let high = read(UInt64.self, linear: advance(address, 8))
        else { return nil }
        return (low, high)
    }

    /// Writes 16 bytes, all or (after a fault) none.
    @inline(__always)
    func write16(_ low: UInt64, _ high: UInt64, linear address: UInt64) -> Bool {
        let entry = SoftwareTLB.entry(state.bank, address)
        if SoftwareTLB.hits(entry.writeTag, address, 16) {
            let pointer = unsafe host(address &+ entry.addend)
            unsafe pointer.storeBytes(of: low, as: UInt64.self)
            unsafe pointer.storeBytes(of: high, toByteOffset: 8, as: UInt64.self)
            return true
        }
        return processor.probe(address, size: 16, write: true)
            && write(low, linear: address) && write(high, linear: advance(address, 8))
    }

    // MARK: Operands of stubs

    /// Fills the block's operand slot from memory; false after a fault.
    @inline(__always)
    func fillOperand(_ block: VectorBlock, linear address: UInt64, size: UInt8) -> Bool {
        switch size {
        case 16:
            guard let value = read16(linear: address) else { return false }
            block[0] = value.low
            block[8] = value.high
        case 8:
            guard let value = read(UInt64.self, linear: address) else { return false }
            block[0] = value
        case 4:
            guard let value = read(UInt32.self, linear: address) else { return false }
            block[0] = value
        case 2:
            guard let value = read(UInt16.self, linear: address) else { return false }
            block[0] = value
        case 10:
            guard let low = read(UInt64.self, linear: address),
                let high = read(UInt16.self, linear: advance(address, 8))
            else { return false }
            block[0] = low
            block[8] = high
        default:
            guard let value = read(UInt8.self, linear: address) else { return false }
            block[0] = value
        }
        return true
    }

    /// Writes the block's operand slot to memory, all or (after a fault) none.
    func storeOperand(_ block: VectorBlock, linear address: UInt64, size: UInt8) -> Bool {
        switch size {
        case 16: write16(block[0], block[8], linear: address)
        case 8: write(block[0, as: UInt64.self], linear: address)
        case 4: write(block[0, as: UInt32.self], linear: address)
        case 2: write(block[0, as: UInt16.self], linear: address)
        case 10:
            processor.probe(address, size: 10, write: true)
                && write(block[0, as: UInt64.self], linear: address)
                && write(block[8, as: UInt16.self], linear: advance(address, 8))
        default: write(block[0, as: UInt8.self], linear: address)
        }
    }

    /// Records unmasked SIMD exceptions and raises #XM, or #UD without CR4.OSXMMEXCPT
    /// (SDM Vol. 1 §11.5.3).
    @inline(never)
    func raiseSIMD(_ flags: UInt32, _ block: VectorBlock) -> Status {
        // Invalid, denormal and divide-by-zero are found before the operation: where one of them
        // is unmasked the others do not come up.
        let before = flags & 7
        let unmasked: UInt32 = block[VectorBlock.unmaskedFlags]
        let reported = before & unmasked != 0 ? before : flags
        block[VectorBlock.image + 24] = block.mxcsr | reported
        return state.cr4 & CR4.osSIMDExceptions != 0 ? raise(.simdFloatingPoint) : invalidOpcode()
    }
}
