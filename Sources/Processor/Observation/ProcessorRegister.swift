import X86

/// A register of a processor, as debuggers name it.
public enum ProcessorRegister: Hashable, Sendable {
    case general(GeneralRegister)
    /// The offset in CS of the next instruction.
    case rip
    case flags
    case selector(SegmentRegister)
    case base(SegmentRegister)
    /// IA32_KERNEL_GS_BASE.
    case kernelGSBase
    /// ST(0)…ST(7): 80 bits.
    case x87(UInt8)
    case x87Control, x87Status
    /// The full tag word: two bits a physical register.
    case x87Tags
    /// FIP and FDP, as offsets, and FOP.
    case x87InstructionPointer, x87OperandPointer, x87Opcode
    /// XMM0…XMM15: 128 bits.
    case xmm(UInt8)
    /// The upper halves of YMM0…YMM15: 128 bits.
    case upper(UInt8)
    case mxcsr
    case cr0, cr2, cr3, cr4, cr8, xcr0, efer
    /// DR0…DR3, DR6 and DR7.
    case debug(UInt8)
    case localTable, task
    case globalTableBase, globalTableLimit, interruptTableBase, interruptTableLimit
    /// IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK.
    case star, longSTAR, compatibilitySTAR, systemCallFlagMask
}

extension Processor {
    /// What a register holds, zero-extended. Reading it changes nothing.
    public func value(of register: ProcessorRegister) -> UInt128 {
        let state = core.state
        switch register {
        case .x87(let number):
            let (mantissa, exponent) = vector.block.register(number & 7)
            return UInt128(exponent) << 64 | UInt128(mantissa)
        case .xmm(let number):
            let low: UInt64 = vector.block[VectorBlock.xmm(number)]
            let high: UInt64 = vector.block[VectorBlock.xmm(number) + 8]
            return UInt128(high) << 64 | UInt128(low)
        case .upper(let number):
            let low: UInt64 = vector.block[VectorBlock.upper(number)]
            let high: UInt64 = vector.block[VectorBlock.upper(number) + 8]
            return UInt128(high) << 64 | UInt128(low)
        case .general(let register): return UInt128(core[register])
        case .rip: return UInt128(state.rip)
        case .flags: return UInt128(core.flags)
        case .selector(let segment): return UInt128(core[segment].selector)
        case .base(let segment): return UInt128(core[segment].base)
        case .kernelGSBase: return UInt128(state.kernelGSBase)
        case .x87Control: return UInt128(vector.block.fcw)
        case .x87Status: return UInt128(vector.block.fsw)
        case .x87Tags: return UInt128(vector.block.fullTags)
        case .x87InstructionPointer: return UInt128(vector.block.instructionPointer)
        case .x87OperandPointer:
            return UInt128(vector.block[VectorBlock.operandPointer, as: UInt64.self])
        case .x87Opcode: return UInt128(vector.block[VectorBlock.opcode, as: UInt16.self])
        case .mxcsr: return UInt128(vector.block.mxcsr)
        case .cr0: return UInt128(state.cr0)
        case .cr2: return UInt128(state.cr2)
        case .cr3: return UInt128(state.cr3)
        case .cr4: return UInt128(state.cr4)
        case .cr8: return UInt128(platform.taskPriority(processor: index))
        case .xcr0: return UInt128(state.xcr0)
        case .efer: return UInt128(state.efer)
        case .debug(6): return UInt128(state.dr6)
        case .debug(7): return UInt128(state.dr7)
        case .debug(let number): return UInt128(state.debugAddresses[Int(number & 3)])
        case .localTable: return UInt128(state.ldtr.selector)
        case .task: return UInt128(state.taskRegister.selector)
        case .globalTableBase: return UInt128(state.gdtr.base)
        case .globalTableLimit: return UInt128(state.gdtr.limit)
        case .interruptTableBase: return UInt128(state.idtr.base)
        case .interruptTableLimit: return UInt128(state.idtr.limit)
        case .star: return UInt128(state.star)
        case .longSTAR: return UInt128(state.longSTAR)
        case .compatibilitySTAR: return UInt128(state.compatibilitySTAR)
        case .systemCallFlagMask: return UInt128(state.systemCallFlagMask)
        }
    }

    /// Sets a register, between two instructions. What the architecture ties to more than the
    /// register itself (selectors, control registers but CR2, tables, MSRs) cannot be set.
    /// - Returns: false where it cannot be, or not to this value; then nothing has changed.
    public func set(_ register: ProcessorRegister, to value: UInt128) -> Bool {
        let word = UInt64(truncatingIfNeeded: value)
        switch register {
        case .general(let register): core[register] = word
        case .rip:
            guard core.is64 ? core.isStorable(word) : word >> 32 == 0 else { return false }
            // Asked to go elsewhere, it does not wait any more.
            if word != core.state.rip && !core.state.waitsForStartup { jump(to: word) }
        case .flags:
            // VM is part of the mode.
            let mode = RFLAGS.virtual8086
            core.setFlags(word & ~mode | core.flags & mode)
        case .base(let segment):
            guard segment == .fs || segment == .gs, core.is64, core.isStorable(word) else {
                return false
            }
            core[segment].base = word
        case .kernelGSBase:
            guard core.isStorable(word) else { return false }
            core.state.kernelGSBase = word
        case .x87(let number):
            vector.block.setRegister(number & 7, word, UInt16(truncatingIfNeeded: value >> 64))
        case .x87Control: vector.block.setFCW(UInt16(truncatingIfNeeded: word))
        case .x87Status: vector.block.setFSWTurning(UInt16(truncatingIfNeeded: word))
        case .x87Tags: vector.block.fullTags = UInt16(truncatingIfNeeded: word)
        case .xmm(let number):
            vector.block[VectorBlock.xmm(number)] = word
            vector.block[VectorBlock.xmm(number) + 8] = UInt64(truncatingIfNeeded: value >> 64)
        case .upper(let number) where model.has(.avx):
            vector.block[VectorBlock.upper(number)] = word
            vector.block[VectorBlock.upper(number) + 8] = UInt64(truncatingIfNeeded: value >> 64)
        // Debuggers know 32 bits of them: what reads as it is written stays.
        case .x87InstructionPointer:
            let old = UInt32(truncatingIfNeeded: vector.block.instructionPointer)
            if UInt32(truncatingIfNeeded: word) != old { vector.block.instructionPointer = word }
        case .x87OperandPointer:
            let old: UInt32 = vector.block[VectorBlock.operandPointer]
            if UInt32(truncatingIfNeeded: word) != old {
                vector.block[VectorBlock.operandPointer] = word
            }
        case .x87Opcode:
            vector.block[VectorBlock.opcode] = UInt16(truncatingIfNeeded: word) & 0x7ff
        case .mxcsr: vector.block.setMXCSR(UInt32(truncatingIfNeeded: word))
        case .cr2: core.state.cr2 = word
        default: return value == self.value(of: register)
        }
        return true
    }

    /// What the processor is doing: for a debugger's list of threads.
    public var activity: String {
        if core.state.waitsForStartup { return "waits for its start-up" }
        return core.state.isHalted ? "halted" : "running"
    }

    /// The size of code in bits: 16, 32 or 64.
    public var codeBits: Int {
        switch core.state.mode {
        case .real16, .virtual8086, .protected16: 16
        case .protected32: 32
        case .long64: 64
        }
    }
}
