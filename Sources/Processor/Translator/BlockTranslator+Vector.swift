import CZydis
import X86

/// SSE and x87 instructions, which are themselves on the host: their registers are there
/// (`VectorTransfer`).
extension BlockTranslator {
    mutating func vector(_ i: Instruction, _ op: OpRef) -> Bool {
        switch VectorSelection.residence(i) {
        case .none:
            // Its handler may load FIP.
            hasInstructionPage = false
            return false
        case .xmm: return sse(i, op)
        case .x87: return x87(i, op)
        }
    }

    /// Records FIP behind an x87 instruction that was executed here; a handler does so itself.
    private mutating func notePointer(_ i: Instruction, _ op: OpRef) {
        guard !X87Control.keepsPointers(i.mnemonic), !nextRecordsPointer else { return }
        if !hasInstructionPage {
            assembler.load(GuestRegisters.scratch, StateField.pageRIP)
            assembler.store(
                GuestRegisters.scratch, StateField.vector(VectorBlock.instructionPage))
            hasInstructionPage = true
        }
        assembler.instruction(
            .moveImmediate, 0, StateField.vector(VectorBlock.instructionOffset), wide: false)
        assembler.imm32(Int32(op.nextOffset) - Int32(i.length))
    }

    /// Whether the next instruction records FIP before anything can look at it: it is an x87
    /// instruction on registers, which cannot fault.
    private var nextRecordsPointer: Bool {
        let next = index + 1
        guard next < instructions.count, !op(next).isUndefined else { return false }
        let i = instructions[next]
        return i.encoding.hasModRM && i.encoding.mod == 3
            && VectorSelection.residence(i) == .x87 && !X87Control.keepsPointers(i.mnemonic)
    }

    private mutating func sse(_ i: Instruction, _ op: OpRef) -> Bool {
        let isMemory = i.encoding.mod != 3
        var misses: [Int] = []
        var rm = HostOperand.register(i.rm)
        var reg = i.reg
        if isMemory {
            guard canAddress(op) else { return false }
            let bytes = Self.memoryBytes(i)
            linearAddress(op)
            let probed = probe(
                size: bytes, write: i[0].isMemory,
                aligned: bytes == 16 && !VectorSelection.allowsMisalignment(i.mnemonic))
            misses = [probed.miss]
            rm = probed.operand
        }
        // A general register takes part at most once, in reg or in rm.
        var general: (number: UInt8, host: UInt8, isWritten: Bool)?
        for index in 0..<i.operandCount {
            guard let number = VectorRegister.general(i[index].register) else { continue }
            let host = GuestRegisters.host(number)
            general = (number, host ?? GuestRegisters.second, index == 0)
            if VectorSelection.generalIsReg(i.encoding) {
                reg = host ?? GuestRegisters.second
            } else {
                rm = .register(host ?? GuestRegisters.second)
            }
        }
        if let general, general.host == GuestRegisters.second, !general.isWritten {
            assembler.load(general.host, GuestRegisters.guest(general.number))
        }
        let prefix: UInt8 =
            i.prefixes & OpPrefix.rep != 0 ? 0xf3 : i.prefixes & OpPrefix.repne != 0 ? 0xf2 : 0
        assembler.instruction(
            HostEncoding(map: i.encoding.map, opcode: i.encoding.opcode, prefix: prefix), reg, rm,
            wide: Self.isWide(i), narrow: i.prefixes & OpPrefix.operandSize != 0)
        appendImmediate(i)
        if VectorSelection.isIndexed(i.mnemonic) {
            assembler.move(GuestRegisters.counter, GuestRegisters.scratch)
        }
        if let general, general.host == GuestRegisters.second, general.isWritten {
            assembler.store(general.host, GuestRegisters.guest(general.number))
        }
        if !misses.isEmpty { slowPath(misses) }
        return true
    }

    private mutating func x87(_ i: Instruction, _ op: OpRef) -> Bool {
        // No exception is unmasked, so none is pending.
        if i.mnemonic == ZYDIS_MNEMONIC_FWAIT { return true }
        let encoding = HostEncoding(opcode: i.encoding.opcode)
        guard i.encoding.mod != 3 else {
            assembler.instruction(
                encoding, i.encoding.reg, .register(i.encoding.rm), wide: false)
            notePointer(i, op)
            return true
        }
        guard canAddress(op) else { return false }
        linearAddress(op)
        let probed = probe(
            size: Self.memoryBytes(i), write: VectorSelection.writesMemory(i, isX87: true))
        if i.mnemonic == ZYDIS_MNEMONIC_FLDCW {
            loadControl(probed)
            return true
        }
        assembler.instruction(encoding, i.encoding.reg, probed.operand, wide: false)
        notePointer(i, op)
        slowPath([probed.miss])
        return true
    }

    /// FLDCW. What unmasks an exception is the handler's.
    private mutating func loadControl(_ probed: (operand: HostOperand, miss: Int)) {
        let word = HostOperand.at(GuestRegisters.first)
        assembler.lea(GuestRegisters.first, probed.operand)
        // movzx
        assembler.instruction(
            HostEncoding(map: 1, opcode: 0xb7), GuestRegisters.second, word, wide: false)
        assembler.extract(
            GuestRegisters.scratch, GuestRegisters.second, mask: StateField.x87ExceptionMask)
        assembler.lea(
            GuestRegisters.scratch,
            .at(GuestRegisters.scratch, -Int32(X87Status.exceptions)))
        let masked = assembler.jumpIfRCXZero()
        let unmasks = assembler.jump()
        assembler.bindShort(masked)
        assembler.instruction(HostEncoding(opcode: 0xd9), 5, word, wide: false)
        slowPath([probed.miss, unmasks])
    }
}

extension VectorSelection {
    /// What of the vector state an instruction has in host registers where it is translated;
    /// `.none`: it is a call of its handler.
    static func residence(_ i: Instruction) -> VectorResidence {
        guard i.encoding.isLegacy, i.encoding.hasModRM || i.mnemonic == ZYDIS_MNEMONIC_FWAIT else {
            return .none
        }
        if isX87(i) { return isPlainX87(i.mnemonic) ? .x87 : .none }
        guard i.encoding.map != 0, feature(i.isaSet) != nil,
            i.prefixes & (OpPrefix.rep | OpPrefix.repne) != OpPrefix.rep | OpPrefix.repne,
            i.mnemonic != ZYDIS_MNEMONIC_MASKMOVDQU
        else { return .none }
        var hasXMM = false
        for index in 0..<i.operandCount {
            switch i[index] {
            case .register(let register, _):
                if VectorRegister.xmm(register) != nil {
                    hasXMM = true
                } else if VectorRegister.general(register) == nil {
                    return .none
                }
            case .memory(let memory): if memory.bytes > 16 { return .none }
            default: break
            }
        }
        return hasXMM ? .xmm : .none
    }

    /// Whether the host's instruction leaves an index in ECX.
    static func isIndexed(_ mnemonic: ZydisMnemonic) -> Bool {
        mnemonic == ZYDIS_MNEMONIC_PCMPESTRI || mnemonic == ZYDIS_MNEMONIC_PCMPISTRI
    }

    /// Whether it handles numbers, or single control registers, and not all of the environment.
    private static func isPlainX87(_ mnemonic: ZydisMnemonic) -> Bool {
        switch mnemonic {
        case ZYDIS_MNEMONIC_FNCLEX, ZYDIS_MNEMONIC_FNINIT,
            ZYDIS_MNEMONIC_FENI8087_NOP, ZYDIS_MNEMONIC_FDISI8087_NOP,
            ZYDIS_MNEMONIC_FSETPM287_NOP, ZYDIS_MNEMONIC_FNSTENV, ZYDIS_MNEMONIC_FLDENV,
            ZYDIS_MNEMONIC_FNSAVE, ZYDIS_MNEMONIC_FRSTOR:
            false
        default: true
        }
    }
}
