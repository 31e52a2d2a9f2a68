import CZydis
import X86

/// Chooses the handlers of x87, MMX and SSE instructions.
enum VectorSelection {
    /// Sets the op's handler if the instruction is one of the vector unit's.
    static func select(
        _ instruction: Instruction, _ op: inout Op, _ mode: CodeMode, _ processor: Processor
    ) -> Bool {
        let unit = processor.vector
        guard unit.canExecute else { return false }
        guard instruction.encoding.isLegacy else {
            return WideSelection.select(instruction, &op, mode, processor)
        }
        let isX87 = isX87(instruction)
        guard isX87 || feature(instruction.isaSet).map(processor.model.has) == true else {
            return false
        }
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_XGETBV, ZYDIS_MNEMONIC_XSETBV, ZYDIS_MNEMONIC_CRC32,
            ZYDIS_MNEMONIC_MOVNTI, ZYDIS_MNEMONIC_LFENCE, ZYDIS_MNEMONIC_MFENCE,
            ZYDIS_MNEMONIC_SFENCE:
            // Members of these extensions that have nothing to do with vector state.
            return false
        default: break
        }
        let immediate = op.immediate
        op.immediate = UInt64(unit.block.address)
        if StateImages.select(instruction, &op, processor.model)
            || (isX87 ? X87Control.select(instruction, &op) : VectorMoves.select(instruction, &op))
            || selectStub(instruction, &op, isX87: isX87, unit)
        {
            return true
        }
        op.immediate = immediate
        return false
    }

    /// None of these instructions changes RIP or the mode.
    static func endsBlock(_ mnemonic: ZydisMnemonic) -> Bool { false }

    /// FWAIT and the escape opcodes D8…DF.
    static func isX87(_ instruction: Instruction) -> Bool {
        let encoding = instruction.encoding
        return encoding.map == 0 && (encoding.opcode & 0xf8 == 0xd8 || encoding.opcode == 0x9b)
    }

    /// The feature that an extension belongs to, beside the x87 one; nil: it is not implemented.
    static func feature(_ set: ZydisISASet) -> ProcessorModel.Feature? {
        switch set {
        case ZYDIS_ISA_SET_PENTIUMMMX: .mmx
        case ZYDIS_ISA_SET_SSE, ZYDIS_ISA_SET_SSEMXCSR: .sse
        case ZYDIS_ISA_SET_SSE2, ZYDIS_ISA_SET_SSE2MMX: .sse2
        case ZYDIS_ISA_SET_SSE3: .sse3
        case ZYDIS_ISA_SET_SSSE3, ZYDIS_ISA_SET_SSSE3MMX: .ssse3
        case ZYDIS_ISA_SET_SSE4: .sse41
        case ZYDIS_ISA_SET_SSE42: .sse42
        case ZYDIS_ISA_SET_FXSAVE, ZYDIS_ISA_SET_FXSAVE64: .fxsr
        case ZYDIS_ISA_SET_XSAVE: .xsave
        case ZYDIS_ISA_SET_XSAVEOPT: .xsaveopt
        case ZYDIS_ISA_SET_XSAVEC: .xsavec
        case ZYDIS_ISA_SET_XSAVES: .xsaves
        default: nil
        }
    }

    // MARK: Stubs

    private static func selectStub(
        _ instruction: Instruction, _ op: inout Op, isX87: Bool, _ unit: VectorUnit
    ) -> Bool {
        guard let plan = plan(instruction, isX87: isX87) else { return false }
        var code: UInt16 = 0
        var hasXMM = false
        var hasMMX = instruction.mnemonic == ZYDIS_MNEMONIC_EMMS
        for index in 0..<instruction.operandCount {
            let register = instruction[index].register
            if VectorRegister.xmm(register) != nil { hasXMM = true }
            if VectorRegister.mmx(register) != nil { hasMMX = true }
        }
        if isX87 {
            code |= VectorCode.x87
            // FOP, should it be recorded: three bits here, and the ModRM byte.
            let encoding = instruction.encoding
            code |= UInt16(encoding.opcode & 7) << VectorCode.variantShift
            op.sourceWidth = encoding.mod << 6 | (encoding.reg & 7) << 3 | encoding.rm & 7
        }
        if hasXMM { code |= VectorCode.sse }
        if hasMMX { code |= VectorCode.mmx }
        op.width = 0
        for index in 0..<instruction.operandCount {
            guard case .memory(let memory) = instruction[index] else { continue }
            guard memory.bytes <= 16 else { return false }
            op.width = UInt8(memory.bytes)
            if writesMemory(instruction, isX87: isX87) {
                code |= VectorCode.writes
                if plan.usesX87 { code |= VectorCode.probes }
            } else {
                code |= VectorCode.reads
            }
            if memory.bytes == 16 && !allowsMisalignment(instruction.mnemonic) {
                code |= VectorCode.aligned
            }
        }
        if plan.readsFlags { code |= VectorCode.readsFlags }
        if plan.writesFlags { code |= VectorCode.writesFlags }
        op.code = code
        let special =
            VectorCode.writes | VectorCode.readsFlags | VectorCode.writesFlags
        if code & special != 0 {
            op.handler = VectorStubs.general
        } else {
            op.handler = code & VectorCode.reads != 0 ? VectorStubs.load : VectorStubs.registers
        }
        unit.place(plan, &op)
        return true
    }

    /// Whether the memory operand is the destination. Zydis has x87 operands in an order of its
    /// own; elsewhere the destination comes first and is never read.
    static func writesMemory(_ instruction: Instruction, isX87: Bool) -> Bool {
        guard isX87 else { return instruction[0].isMemory }
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_FST, ZYDIS_MNEMONIC_FSTP, ZYDIS_MNEMONIC_FIST, ZYDIS_MNEMONIC_FISTP,
            ZYDIS_MNEMONIC_FISTTP, ZYDIS_MNEMONIC_FBSTP, ZYDIS_MNEMONIC_FNSTCW,
            ZYDIS_MNEMONIC_FNSTSW:
            return true
        default: return false
        }
    }

    /// The 16-byte operands that need no alignment (SDM Vol. 2A Table 2-20, exception type 4
    /// without alignment check).
    static func allowsMisalignment(_ mnemonic: ZydisMnemonic) -> Bool {
        switch mnemonic {
        case ZYDIS_MNEMONIC_MOVUPS, ZYDIS_MNEMONIC_MOVUPD, ZYDIS_MNEMONIC_MOVDQU,
            ZYDIS_MNEMONIC_LDDQU, ZYDIS_MNEMONIC_PCMPESTRI, ZYDIS_MNEMONIC_PCMPESTRM,
            ZYDIS_MNEMONIC_PCMPISTRI, ZYDIS_MNEMONIC_PCMPISTRM:
            true
        default: false
        }
    }
}

/// Zydis's vector registers as numbers.
enum VectorRegister {
    /// 0…15 of XMM0…XMM15.
    static func xmm(_ register: ZydisRegister) -> UInt8? {
        number(register, ZYDIS_REGISTER_XMM0, count: 16)
    }

    /// 0…7 of MM0…MM7.
    static func mmx(_ register: ZydisRegister) -> UInt8? {
        number(register, ZYDIS_REGISTER_MM0, count: 8)
    }

    /// 0…15 of the 32- and 64-bit general registers.
    static func general(_ register: ZydisRegister) -> UInt8? {
        number(register, ZYDIS_REGISTER_RAX, count: 16)
            ?? number(register, ZYDIS_REGISTER_EAX, count: 16)
    }

    private static func number(
        _ register: ZydisRegister, _ first: ZydisRegister, count: UInt32
    ) -> UInt8? {
        let distance = UInt32(register.rawValue) &- UInt32(first.rawValue)
        return distance < count ? UInt8(truncatingIfNeeded: distance) : nil
    }
}
