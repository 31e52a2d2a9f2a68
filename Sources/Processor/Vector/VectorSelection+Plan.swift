import CZydis

/// From a guest instruction to the stub that executes it.
extension VectorSelection {
    /// The stub's plan; nil for an operand that no stub provides for.
    static func plan(_ instruction: Instruction, isX87: Bool) -> StubBuilder.Plan? {
        let encoding = instruction.encoding
        var plan = StubBuilder.Plan()
        if isX87 {
            plan.usesX87 = true
            plan.instruction = [encoding.opcode]
            if encoding.hasModRM {
                // A register form keeps its ModRM; in a memory form it becomes [RDI].
                plan.instruction.append(
                    (encoding.mod == 3 ? 0xc0 | encoding.rm : 7) | encoding.reg << 3)
            }
            switch instruction.mnemonic {
            case ZYDIS_MNEMONIC_FCOMI, ZYDIS_MNEMONIC_FCOMIP, ZYDIS_MNEMONIC_FUCOMI,
                ZYDIS_MNEMONIC_FUCOMIP:
                plan.writesFlags = true
            default:
                plan.readsFlags = instruction.isaSet == ZYDIS_ISA_SET_FCMOV
            }
            return plan
        }
        var general: UInt8?
        for index in 0..<instruction.operandCount {
            let register = instruction[index].register
            if let number = VectorRegister.xmm(register) {
                if !plan.loads.contains(number) { plan.loads.append(number) }
                if index == 0 { plan.stores = [number] }
            } else if VectorRegister.mmx(register) != nil {
                plan.usesX87 = true
            } else if let number = VectorRegister.general(register) {
                general = number
                if index == 0 { plan.output = number } else { plan.input = number }
            } else if register != ZYDIS_REGISTER_NONE {
                return nil
            }
        }
        if instruction.mnemonic == ZYDIS_MNEMONIC_EMMS { plan.usesX87 = true }
        if plan.usesX87 { (plan.loads, plan.stores) = ([], []) }
        addImplicit(instruction.mnemonic, &plan)
        plan.usesMXCSR = usesMXCSR(encoding)
        plan.instruction = reencode(instruction, hasGeneral: general != nil)
        return plan
    }

    /// What the instruction uses without naming it.
    private static func addImplicit(_ mnemonic: ZydisMnemonic, _ plan: inout StubBuilder.Plan) {
        switch mnemonic {
        case ZYDIS_MNEMONIC_PBLENDVB, ZYDIS_MNEMONIC_BLENDVPS, ZYDIS_MNEMONIC_BLENDVPD:
            if !plan.loads.contains(0) { plan.loads.append(0) }
        case ZYDIS_MNEMONIC_PCMPESTRI, ZYDIS_MNEMONIC_PCMPISTRI:
            plan.readsLengths = mnemonic == ZYDIS_MNEMONIC_PCMPESTRI
            plan.writesIndex = true
            plan.writesFlags = true
            plan.stores = []
        case ZYDIS_MNEMONIC_PCMPESTRM, ZYDIS_MNEMONIC_PCMPISTRM:
            plan.readsLengths = mnemonic == ZYDIS_MNEMONIC_PCMPESTRM
            plan.writesFlags = true
            plan.stores = [0]
        case ZYDIS_MNEMONIC_COMISS, ZYDIS_MNEMONIC_COMISD, ZYDIS_MNEMONIC_UCOMISS,
            ZYDIS_MNEMONIC_UCOMISD, ZYDIS_MNEMONIC_PTEST:
            plan.writesFlags = true
            plan.stores = []
        default: break
        }
    }

    /// Whether the instruction rounds, or may raise a SIMD floating-point exception.
    private static func usesMXCSR(_ encoding: Instruction.Encoding) -> Bool {
        switch (encoding.map, encoding.opcode) {
        case (1, 0x2a), (1, 0x2c...0x2f), (1, 0x51), (1, 0x58...0x5f), (1, 0x7c), (1, 0x7d),
            (1, 0xc2), (1, 0xd0), (1, 0xe6), (3, 0x08...0x0b), (3, 0x40), (3, 0x41):
            true
        default: false
        }
    }

    /// The instruction with its memory operand at [RDI] and its general register as RAX: the
    /// prefixes 66, F2, F3 and REX.W, the opcode and the immediate stay as they are.
    private static func reencode(_ instruction: Instruction, hasGeneral: Bool) -> [UInt8] {
        let encoding = instruction.encoding
        var code: [UInt8] = []
        if instruction.prefixes & OpPrefix.operandSize != 0 { code.append(0x66) }
        if instruction.prefixes & OpPrefix.rep != 0 { code.append(0xf3) }
        if instruction.prefixes & OpPrefix.repne != 0 { code.append(0xf2) }
        var rex: UInt8 = 0
        if encoding.hasREX { rex = instruction.bytes[Int(encoding.rexOffset) % 15] & 0x0d }
        var reg = encoding.reg
        var rm = encoding.rm
        if hasGeneral {
            if generalIsReg(encoding) {
                reg = 0
                rex &= ~4
            } else {
                rm = 0
                rex &= ~1
            }
        }
        if encoding.mod != 3 {
            rm = 7
            rex &= ~1
        }
        if rex != 0 { code.append(0x40 | rex) }
        code.append(0x0f)
        if encoding.map == 2 { code.append(0x38) }
        if encoding.map == 3 { code.append(0x3a) }
        code.append(encoding.opcode)
        if encoding.hasModRM {
            code.append((encoding.mod == 3 ? 0xc0 : 0) | reg << 3 | rm)
        }
        for byte in 0..<Int(encoding.immediateBytes) {
            code.append(instruction.bytes[(Int(encoding.immediateOffset) + byte) % 15])
        }
        return code
    }

    /// Whether the general register is in the reg field: MOVMSKPx, PMOVMSKB, PEXTRW (0F C5) and
    /// the conversions to integers. Elsewhere it is in r/m.
    static func generalIsReg(_ encoding: Instruction.Encoding) -> Bool {
        guard encoding.map == 1 else { return false }
        switch encoding.opcode {
        case 0x2c, 0x2d, 0x50, 0xc5, 0xd7: return true
        default: return false
        }
    }
}
