import CZydis
import X86

/// Chooses the handlers of AVX, AVX2, FMA and F16C instructions: those with a VEX prefix on vector
/// registers (SDM Vol. 2A §2.3).
///
/// As the others (`VectorUnit`) they are executed by the host's processor, in stubs that load whole
/// YMM registers (`StubBuilder`). What touches memory by elements, or only state, has handlers
/// of its own (`WideMoves`).
enum WideSelection {
    /// Sets the op's handler if the instruction is one of these and the model has it.
    static func select(
        _ instruction: Instruction, _ op: inout Op, _ mode: CodeMode, _ processor: Processor
    ) -> Bool {
        guard mode != .real16, mode != .virtual8086, HostVectors.hasAVX2,
            let feature = feature(instruction.isaSet), processor.model.has(feature)
        else { return false }
        let immediate = op.immediate
        op.immediate = UInt64(processor.vector.block.address)
        if WideMoves.select(instruction, &op) || selectStub(instruction, &op, processor.vector) {
            return true
        }
        op.immediate = immediate
        return false
    }

    private static func feature(_ set: ZydisISASet) -> ProcessorModel.Feature? {
        switch set {
        case ZYDIS_ISA_SET_AVX: .avx
        case ZYDIS_ISA_SET_AVX2, ZYDIS_ISA_SET_AVX2GATHER: .avx2
        case ZYDIS_ISA_SET_FMA: .fma
        case ZYDIS_ISA_SET_F16C: .f16c
        default: nil
        }
    }

    // MARK: Stubs

    private static func selectStub(
        _ instruction: Instruction, _ op: inout Op, _ unit: VectorUnit
    ) -> Bool {
        guard let prefix = VEX(instruction), let plan = plan(instruction, prefix) else {
            return false
        }
        var code: UInt16 = 0
        op.width = 0
        for index in 0..<instruction.operandCount {
            guard case .memory(let memory) = instruction[index] else { continue }
            guard memory.bytes <= 32 else { return false }
            op.width = UInt8(memory.bytes)
            code |= index == 0 ? VectorCode.writes : VectorCode.reads
            if index != 0 { op.source = .memory }
            if isAligned(instruction.mnemonic) { code |= VectorCode.aligned }
        }
        if plan.writesFlags { code |= VectorCode.writesFlags }
        op.code = code
        op.handler = WideMoves.execute
        unit.place(plan, &op)
        return true
    }

    /// The stub's plan; nil for an operand that no stub provides for.
    private static func plan(_ instruction: Instruction, _ prefix: VEX) -> StubBuilder.Plan? {
        var plan = StubBuilder.Plan()
        plan.isWide = true
        var hasGeneral = false
        for index in 0..<instruction.operandCount {
            let register = instruction[index].register
            if let number = vector(register) {
                if !plan.loads.contains(number) { plan.loads.append(number) }
                if index == 0 { plan.stores = [number] }
            } else if let number = VectorRegister.general(register) {
                hasGeneral = true
                if index == 0 { plan.output = number } else { plan.input = number }
            } else if register != ZYDIS_REGISTER_NONE {
                return nil
            }
        }
        addImplicit(instruction.mnemonic, &plan)
        // String comparisons leave an index in RCX, which the look at MXCSR would overwrite, and
        // do not use it.
        plan.usesMXCSR = instruction.isaSet != ZYDIS_ISA_SET_AVX2 && !plan.writesIndex
        plan.instruction = reencode(instruction, prefix, hasGeneral: hasGeneral)
        return plan
    }

    /// The number of an XMM or YMM register.
    static func vector(_ register: ZydisRegister) -> UInt8? {
        if let number = VectorRegister.xmm(register) { return number }
        let distance = UInt32(register.rawValue) &- UInt32(ZYDIS_REGISTER_YMM0.rawValue)
        return distance < 16 ? UInt8(truncatingIfNeeded: distance) : nil
    }

    /// What the instruction uses without naming it.
    private static func addImplicit(_ mnemonic: ZydisMnemonic, _ plan: inout StubBuilder.Plan) {
        switch mnemonic {
        case ZYDIS_MNEMONIC_VPCMPESTRI, ZYDIS_MNEMONIC_VPCMPISTRI:
            plan.readsLengths = mnemonic == ZYDIS_MNEMONIC_VPCMPESTRI
            plan.writesIndex = true
            plan.writesFlags = true
            plan.stores = []
        case ZYDIS_MNEMONIC_VPCMPESTRM, ZYDIS_MNEMONIC_VPCMPISTRM:
            plan.readsLengths = mnemonic == ZYDIS_MNEMONIC_VPCMPESTRM
            plan.writesFlags = true
            plan.stores = [0]
        case ZYDIS_MNEMONIC_VCOMISS, ZYDIS_MNEMONIC_VCOMISD, ZYDIS_MNEMONIC_VUCOMISS,
            ZYDIS_MNEMONIC_VUCOMISD, ZYDIS_MNEMONIC_VPTEST, ZYDIS_MNEMONIC_VTESTPS,
            ZYDIS_MNEMONIC_VTESTPD:
            plan.writesFlags = true
            plan.stores = []
        default: break
        }
    }

    /// The moves whose memory operand must be aligned to its size.
    private static func isAligned(_ mnemonic: ZydisMnemonic) -> Bool {
        switch mnemonic {
        case ZYDIS_MNEMONIC_VMOVAPS, ZYDIS_MNEMONIC_VMOVAPD, ZYDIS_MNEMONIC_VMOVDQA,
            ZYDIS_MNEMONIC_VMOVNTDQA, ZYDIS_MNEMONIC_VMOVNTPS, ZYDIS_MNEMONIC_VMOVNTPD,
            ZYDIS_MNEMONIC_VMOVNTDQ:
            true
        default: false
        }
    }

    /// The instruction with its memory operand at [RDI] and its general register as RAX.
    private static func reencode(
        _ instruction: Instruction, _ prefix: VEX, hasGeneral: Bool
    ) -> [UInt8] {
        let encoding = instruction.encoding
        var prefix = prefix
        // Outside 64-bit code W does not make a general register or its memory operand wide.
        if !encoding.is64 && takesWidth(encoding) { prefix.last &= 0x7f }
        var reg = encoding.reg
        var rm = encoding.rm
        if hasGeneral {
            if generalIsReg(encoding) {
                reg = 0
                prefix.extendsReg = false
            } else {
                rm = 0
                prefix.extendsRM = false
            }
        }
        if encoding.mod != 3 {
            rm = 7
            prefix.extendsRM = false
        }
        var code = prefix.bytes + [encoding.opcode]
        code.append((encoding.mod == 3 ? 0xc0 : 0) | reg << 3 | rm)
        for byte in 0..<Int(encoding.immediateBytes) {
            code.append(instruction.bytes[(Int(encoding.immediateOffset) + byte) % 15])
        }
        // Outside 64-bit code a register in the immediate is one of 8, and bit 7 ignored
        // (SDM Vol. 2A §2.3.7).
        if !encoding.is64 && encoding.map == 3 && (0x4a...0x4c).contains(encoding.opcode) {
            code[code.count - 1] &= 0x7f
        }
        return code
    }

    /// Whether W chooses between 32 and 64 bits of a general register or of memory in its place:
    /// VMOVD, VPEXTRD, VPINSRD, conversions from and to integers, and VPCMPESTRx's lengths.
    private static func takesWidth(_ encoding: Instruction.Encoding) -> Bool {
        switch (encoding.map, encoding.opcode) {
        case (1, 0x2a), (1, 0x2c), (1, 0x2d), (1, 0x6e), (1, 0x7e), (3, 0x16), (3, 0x22),
            (3, 0x60), (3, 0x61):
            true
        default: false
        }
    }

    /// As of the legacy encodings: VMOVMSKPx, VPMOVMSKB, VPEXTRW (C5) and conversions to integers.
    private static func generalIsReg(_ encoding: Instruction.Encoding) -> Bool {
        guard encoding.map == 1 else { return false }
        switch encoding.opcode {
        case 0x2c, 0x2d, 0x50, 0xc5, 0xd7: return true
        default: return false
        }
    }
}

/// The fields of a VEX prefix (SDM Vol. 2A Figure 2-9).
struct VEX {
    var extendsReg = false
    var extendsRM = false
    var map: UInt8 = 1
    /// W, the second source as it is encoded, L and the mandatory prefix: the last byte's bits.
    var last: UInt8 = 0x78

    init(map: UInt8, last: UInt8, reg: UInt8 = 0) {
        self.map = map
        self.last = last
        extendsReg = reg > 7
    }

    /// The prefix of an instruction; nil where it has none.
    init?(_ instruction: Instruction) {
        var index = 0
        while index < 12,
            [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67].contains(instruction.bytes[index])
        {
            index += 1
        }
        let second = instruction.bytes[index + 1]
        extendsReg = second & 0x80 == 0
        switch instruction.bytes[index] {
        case 0xc5: last = second & 0x7f
        case 0xc4:
            extendsRM = second & 0x20 == 0
            map = second & 0x1f
            last = instruction.bytes[index + 2]
        default: return nil
        }
    }

    /// The three-byte form, without an index register.
    var bytes: [UInt8] {
        [0xc4, (extendsReg ? 0 : 0x80) | 0x40 | (extendsRM ? 0 : 0x20) | map, last]
    }
}
