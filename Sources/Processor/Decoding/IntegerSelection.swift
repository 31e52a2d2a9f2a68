// A table: one row an instruction.
import CZydis
import X86

/// Chooses the handlers of the integer instructions.
enum IntegerSelection {
    /// Instructions after which the next one is not the sequentially following one, or which end
    /// a block for another reason.
    static func endsBlock(_ mnemonic: ZydisMnemonic) -> Bool {
        switch mnemonic {
        case ZYDIS_MNEMONIC_JMP, ZYDIS_MNEMONIC_CALL, ZYDIS_MNEMONIC_RET: true
        default: condition(jump: mnemonic) != nil || loopCode(mnemonic) != nil
        }
    }

    static func select(
        _ i: Instruction, _ op: inout Op, _ mode: CodeMode, _ processor: Processor
    ) -> Bool {
        // What names a register that is not a general one belongs to the other selections.
        for index in 0..<i.operandCount {
            if case .register(let register, _) = i[index], !RegisterOffset.isGeneral(register),
                !isFlagsOrStack(register)
            {
                return false
            }
        }
        if let handler = handler(i, &op, mode, processor) {
            op.handler = handler
            return true
        }
        return false
    }

    private static func isFlagsOrStack(_ register: ZydisRegister) -> Bool { false }

    private static func handler(
        _ i: Instruction, _ op: inout Op, _ mode: CodeMode, _ processor: Processor
    ) -> Handler? {
        let bytes = UInt8(truncatingIfNeeded: i[0].bytes)
        switch i.mnemonic {
        case ZYDIS_MNEMONIC_ADD: return binary(BinaryTable.add, &op, bytes)
        case ZYDIS_MNEMONIC_ADC: return binary(BinaryTable.addWithCarry, &op, bytes)
        case ZYDIS_MNEMONIC_SUB: return binary(BinaryTable.subtract, &op, bytes)
        case ZYDIS_MNEMONIC_SBB: return binary(BinaryTable.subtractWithBorrow, &op, bytes)
        case ZYDIS_MNEMONIC_CMP: return binary(BinaryTable.compare, &op, bytes)
        case ZYDIS_MNEMONIC_AND: return binary(BinaryTable.and, &op, bytes)
        case ZYDIS_MNEMONIC_OR: return binary(BinaryTable.or, &op, bytes)
        case ZYDIS_MNEMONIC_XOR: return binary(BinaryTable.exclusiveOr, &op, bytes)
        case ZYDIS_MNEMONIC_TEST: return binary(BinaryTable.test, &op, bytes)
        case ZYDIS_MNEMONIC_INC:
            op.width = bytes
            return { sized(Increment.self, $0, $1) }
        case ZYDIS_MNEMONIC_DEC:
            op.width = bytes
            return { sized(Decrement.self, $0, $1) }
        case ZYDIS_MNEMONIC_NEG:
            op.width = bytes
            return { sized(Negate.self, $0, $1) }
        case ZYDIS_MNEMONIC_NOT:
            op.width = bytes
            return { sized(Not.self, $0, $1) }
        case ZYDIS_MNEMONIC_MOV:
            op.width = bytes
            if op.destination == .register && op.source == .immediate && bytes == 4 {
                op.immediate &= 0xffff_ffff
            }
            return MoveHandlers.handler(op)
        case ZYDIS_MNEMONIC_MOVNTI:
            op.width = bytes
            return MoveHandlers.handler(op)
        case ZYDIS_MNEMONIC_MOVZX:
            op.width = bytes
            op.sourceWidth = UInt8(truncatingIfNeeded: i[1].bytes)
            return Extend.zero
        case ZYDIS_MNEMONIC_MOVSX, ZYDIS_MNEMONIC_MOVSXD:
            op.width = bytes
            op.sourceWidth = UInt8(truncatingIfNeeded: i[1].bytes)
            return Extend.sign
        case ZYDIS_MNEMONIC_LEA:
            op.width = bytes
            return bytes == 8 && op.addressing & OpAddressing.address32 == 0
                && mode == .long64
                ? LoadEffectiveAddress.wide : LoadEffectiveAddress.handler
        case ZYDIS_MNEMONIC_XCHG:
            op.width = bytes
            if op.source == .memory {
                // Zydis puts the register first in one encoding: the memory operand leads here.
                op.b = op.a
                op.source = .register
                op.destination = .memory
            }
            return { sized(Exchange.self, $0, $1) }
        case ZYDIS_MNEMONIC_XADD:
            op.width = bytes
            return { sized(ExchangeAdd.self, $0, $1) }
        case ZYDIS_MNEMONIC_CMPXCHG:
            op.width = bytes
            return { sized(CompareExchange.self, $0, $1) }
        case ZYDIS_MNEMONIC_CMPXCHG8B: return CompareExchangeWide.handler8
        case ZYDIS_MNEMONIC_CMPXCHG16B where processor.model.has(.cx16):
            return CompareExchangeWide.handler16
        case ZYDIS_MNEMONIC_BSWAP:
            op.width = bytes
            return { sized(SwapBytes.self, $0, $1) }
        case ZYDIS_MNEMONIC_ROL: return shift(ShiftOperation.rol, &op, bytes)
        case ZYDIS_MNEMONIC_ROR: return shift(ShiftOperation.ror, &op, bytes)
        case ZYDIS_MNEMONIC_RCL: return shift(ShiftOperation.rcl, &op, bytes)
        case ZYDIS_MNEMONIC_RCR: return shift(ShiftOperation.rcr, &op, bytes)
        case ZYDIS_MNEMONIC_SHL: return shift(ShiftOperation.shl, &op, bytes)
        case ZYDIS_MNEMONIC_SHR: return shift(ShiftOperation.shr, &op, bytes)
        case ZYDIS_MNEMONIC_SAR: return shift(ShiftOperation.sar, &op, bytes)
        case ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD:
            op.width = bytes
            op.code =
                (i.mnemonic == ZYDIS_MNEMONIC_SHRD ? 1 : 0) | (i[2].isRegister ? 2 : 0)
            return { sized(DoubleShift.self, $0, $1) }
        case ZYDIS_MNEMONIC_BT: return bitTest(0, &op, bytes)
        case ZYDIS_MNEMONIC_BTS: return bitTest(1, &op, bytes)
        case ZYDIS_MNEMONIC_BTR: return bitTest(2, &op, bytes)
        case ZYDIS_MNEMONIC_BTC: return bitTest(3, &op, bytes)
        case ZYDIS_MNEMONIC_BSF, ZYDIS_MNEMONIC_BSR:
            op.width = bytes
            op.code = i.mnemonic == ZYDIS_MNEMONIC_BSR ? 1 : 0
            return { sized(BitScan.self, $0, $1) }
        case ZYDIS_MNEMONIC_POPCNT where processor.model.has(.popcnt):
            op.width = bytes
            return { sized(PopulationCount.self, $0, $1) }
        case ZYDIS_MNEMONIC_CRC32 where processor.model.has(.sse42):
            op.sourceWidth = UInt8(truncatingIfNeeded: i[1].bytes)
            return CyclicRedundancyCheck.handler
        case ZYDIS_MNEMONIC_MUL, ZYDIS_MNEMONIC_IMUL, ZYDIS_MNEMONIC_DIV, ZYDIS_MNEMONIC_IDIV:
            return multiplyOrDivide(i, &op, bytes)
        case ZYDIS_MNEMONIC_CBW, ZYDIS_MNEMONIC_CWDE, ZYDIS_MNEMONIC_CDQE:
            return Miscellaneous.extendAccumulator
        case ZYDIS_MNEMONIC_CWD, ZYDIS_MNEMONIC_CDQ, ZYDIS_MNEMONIC_CQO:
            return Miscellaneous.signIntoDX
        case ZYDIS_MNEMONIC_PUSH:
            op.width = i.operandBytes
            return op.destination == .register && op.width == 8
                ? Push.register64 : { sized(Push.self, $0, $1) }
        case ZYDIS_MNEMONIC_POP:
            op.width = i.operandBytes
            return op.destination == .register && op.width == 8
                ? Pop.register64 : { sized(Pop.self, $0, $1) }
        case ZYDIS_MNEMONIC_PUSHA, ZYDIS_MNEMONIC_PUSHAD: return StackFrame.pushAll
        case ZYDIS_MNEMONIC_POPA, ZYDIS_MNEMONIC_POPAD: return StackFrame.popAll
        case ZYDIS_MNEMONIC_LEAVE: return StackFrame.leave
        case ZYDIS_MNEMONIC_ENTER:
            if case .immediate(let size, _) = i[0] { op.immediate = size & 0xffff }
            if case .immediate(let level, _) = i[1] { op.code = UInt16(level & 31) }
            return StackFrame.enter
        case ZYDIS_MNEMONIC_JMP, ZYDIS_MNEMONIC_CALL: return nearBranch(i, &op, mode)
        case ZYDIS_MNEMONIC_RET:
            // The far form has its opcodes CA and CB.
            if i.encoding.opcode & 8 != 0 { return nil }
            op.width = branchWidth(i, mode)
            if i.operandCount == 0 { op.immediate = 0 }
            return Branch.returnNear
        case ZYDIS_MNEMONIC_NOP, ZYDIS_MNEMONIC_PAUSE, ZYDIS_MNEMONIC_PREFETCHNTA,
            ZYDIS_MNEMONIC_PREFETCHT0, ZYDIS_MNEMONIC_PREFETCHT1, ZYDIS_MNEMONIC_PREFETCHT2,
            ZYDIS_MNEMONIC_PREFETCHW, ZYDIS_MNEMONIC_PREFETCH, ZYDIS_MNEMONIC_LFENCE,
            ZYDIS_MNEMONIC_MFENCE, ZYDIS_MNEMONIC_SFENCE:
            return Miscellaneous.nothing
        case ZYDIS_MNEMONIC_CLFLUSH where processor.model.has(.clflush),
            ZYDIS_MNEMONIC_CLFLUSHOPT where processor.model.has(.clflushopt),
            ZYDIS_MNEMONIC_CLWB where processor.model.has(.clwb):
            return Miscellaneous.touch
        case ZYDIS_MNEMONIC_CLC: return coded(0, &op, Miscellaneous.carry)
        case ZYDIS_MNEMONIC_STC: return coded(1, &op, Miscellaneous.carry)
        case ZYDIS_MNEMONIC_CMC: return coded(2, &op, Miscellaneous.carry)
        case ZYDIS_MNEMONIC_CLD: return coded(0, &op, Miscellaneous.direction)
        case ZYDIS_MNEMONIC_STD: return coded(1, &op, Miscellaneous.direction)
        // Outside 64-bit mode they always were there.
        case ZYDIS_MNEMONIC_LAHF where mode != .long64 || processor.model.has(.lahf):
            return Miscellaneous.loadFlagsIntoAH
        case ZYDIS_MNEMONIC_SAHF where mode != .long64 || processor.model.has(.lahf):
            return Miscellaneous.storeAHIntoFlags
        case ZYDIS_MNEMONIC_XLAT:
            op.segment = i.implicitSegment
            return Miscellaneous.translate
        case ZYDIS_MNEMONIC_SALC: return Miscellaneous.setALFromCarry
        case ZYDIS_MNEMONIC_AAA: return coded(0, &op, Decimal.asciiAdjust)
        case ZYDIS_MNEMONIC_AAS: return coded(1, &op, Decimal.asciiAdjust)
        case ZYDIS_MNEMONIC_DAA: return coded(0, &op, Decimal.decimalAdjust)
        case ZYDIS_MNEMONIC_DAS: return coded(1, &op, Decimal.decimalAdjust)
        case ZYDIS_MNEMONIC_AAM: return Decimal.multiplyAdjust
        case ZYDIS_MNEMONIC_AAD: return Decimal.divideAdjust
        default: break
        }
        if let string = stringHandler(i, &op) { return string }
        if let code = condition(jump: i.mnemonic) {
            op.code = code
            op.width = branchWidth(i, mode)
            return Branch.conditional
        }
        if let code = loopCode(i.mnemonic) {
            op.code = code
            op.width = branchWidth(i, mode)
            return Branch.loop
        }
        if let code = condition(set: i.mnemonic) {
            op.code = code
            op.width = 1
            return SetByte.handler
        }
        if let code = condition(move: i.mnemonic) {
            op.code = code
            op.width = bytes
            return { sized(ConditionalMove.self, $0, $1) }
        }
        return BitManipulation.select(i, &op, mode, processor.model)
    }

    private static func coded(_ code: UInt16, _ op: inout Op, _ handler: Handler) -> Handler {
        op.code = code
        return handler
    }

    private static func binary(_ rows: [BinaryHandlers], _ op: inout Op, _ bytes: UInt8) -> Handler?
    {
        op.width = bytes
        return BinaryTable.row(rows, bytes).handler(op)
    }

    private static func shift(_ operation: UInt16, _ op: inout Op, _ bytes: UInt8)
        -> Handler
    {
        op.width = bytes
        op.code = operation
        if op.source == .none {
            op.source = .immediate
            op.immediate = 1
        }
        return { sized(Shift.self, $0, $1) }
    }

    private static func bitTest(_ code: UInt16, _ op: inout Op, _ bytes: UInt8) -> Handler {
        op.code = code
        op.width = bytes
        return { sized(BitTest.self, $0, $1) }
    }

    private static func multiplyOrDivide(_ i: Instruction, _ op: inout Op, _ bytes: UInt8)
        -> Handler?
    {
        // The one-operand forms are F6/F7; Zydis shows their accumulator as a hidden operand.
        let isWide = i.encoding.opcode & 0xfe == 0xf6 && i.encoding.map == 0
        op.width = bytes
        switch i.mnemonic {
        case ZYDIS_MNEMONIC_DIV: return coded(0, &op) { sized(Divide.self, $0, $1) }
        case ZYDIS_MNEMONIC_IDIV: return coded(1, &op) { sized(Divide.self, $0, $1) }
        case ZYDIS_MNEMONIC_MUL: return coded(0, &op) { sized(MultiplyWide.self, $0, $1) }
        default:
            if isWide { return coded(1, &op) { sized(MultiplyWide.self, $0, $1) } }
            op.code = i.operandCount == 3 ? 3 : 2
            return { sized(Multiply.self, $0, $1) }
        }
    }

    /// The width to which a branch truncates RIP: 8 in 64-bit mode, where the 66 prefix is ignored
    /// (as Intel's processors do).
    private static func branchWidth(_ i: Instruction, _ mode: CodeMode) -> UInt8 {
        mode == .long64 ? 8 : i.operandBytes
    }

    private static func nearBranch(_ i: Instruction, _ op: inout Op, _ mode: CodeMode) -> Handler? {
        op.width = branchWidth(i, mode)
        let isCall = i.mnemonic == ZYDIS_MNEMONIC_CALL
        switch i[0] {
        case .immediate: return isCall ? Branch.call : Branch.jump
        case .register, .memory:
            // FF /2 and /4 are near, /3 and /5 far.
            if i.encoding.reg & 1 != 0 { return nil }
            return isCall ? Branch.indirectCall : Branch.indirectJump
        default: return nil
        }
    }

    private static func stringHandler(_ i: Instruction, _ op: inout Op) -> Handler? {
        let handler: Handler
        let width: UInt8
        switch i.mnemonic {
        case ZYDIS_MNEMONIC_MOVSB, ZYDIS_MNEMONIC_MOVSW, ZYDIS_MNEMONIC_MOVSD,
            ZYDIS_MNEMONIC_MOVSQ:
            handler = { sized(MoveString.self, $0, $1) }
        case ZYDIS_MNEMONIC_STOSB, ZYDIS_MNEMONIC_STOSW, ZYDIS_MNEMONIC_STOSD,
            ZYDIS_MNEMONIC_STOSQ:
            handler = { sized(StoreString.self, $0, $1) }
        case ZYDIS_MNEMONIC_LODSB, ZYDIS_MNEMONIC_LODSW, ZYDIS_MNEMONIC_LODSD,
            ZYDIS_MNEMONIC_LODSQ:
            handler = { sized(LoadString.self, $0, $1) }
        case ZYDIS_MNEMONIC_SCASB, ZYDIS_MNEMONIC_SCASW, ZYDIS_MNEMONIC_SCASD,
            ZYDIS_MNEMONIC_SCASQ:
            handler = { sized(ScanString.self, $0, $1) }
        case ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW, ZYDIS_MNEMONIC_CMPSD,
            ZYDIS_MNEMONIC_CMPSQ:
            handler = { sized(CompareString.self, $0, $1) }
        default: return nil
        }
        // MOVSD and CMPSD are SSE2 instructions too: those live in map 0F.
        guard i.encoding.map == 0 else { return nil }
        switch i.encoding.opcode & 1 {
        case 0: width = 1
        default: width = i.operandBytes
        }
        op.width = width
        op.segment = i.implicitSegment
        return handler
    }

    // MARK: Conditions, in the order of their encoding (SDM Vol. 1 App. B)

    private static func condition(jump mnemonic: ZydisMnemonic) -> UInt16? {
        switch mnemonic {
        case ZYDIS_MNEMONIC_JO: 0
        case ZYDIS_MNEMONIC_JNO: 1
        case ZYDIS_MNEMONIC_JB: 2
        case ZYDIS_MNEMONIC_JNB: 3
        case ZYDIS_MNEMONIC_JZ: 4
        case ZYDIS_MNEMONIC_JNZ: 5
        case ZYDIS_MNEMONIC_JBE: 6
        case ZYDIS_MNEMONIC_JNBE: 7
        case ZYDIS_MNEMONIC_JS: 8
        case ZYDIS_MNEMONIC_JNS: 9
        case ZYDIS_MNEMONIC_JP: 10
        case ZYDIS_MNEMONIC_JNP: 11
        case ZYDIS_MNEMONIC_JL: 12
        case ZYDIS_MNEMONIC_JNL: 13
        case ZYDIS_MNEMONIC_JLE: 14
        case ZYDIS_MNEMONIC_JNLE: 15
        default: nil
        }
    }

    private static func condition(set mnemonic: ZydisMnemonic) -> UInt16? {
        switch mnemonic {
        case ZYDIS_MNEMONIC_SETO: 0
        case ZYDIS_MNEMONIC_SETNO: 1
        case ZYDIS_MNEMONIC_SETB: 2
        case ZYDIS_MNEMONIC_SETNB: 3
        case ZYDIS_MNEMONIC_SETZ: 4
        case ZYDIS_MNEMONIC_SETNZ: 5
        case ZYDIS_MNEMONIC_SETBE: 6
        case ZYDIS_MNEMONIC_SETNBE: 7
        case ZYDIS_MNEMONIC_SETS: 8
        case ZYDIS_MNEMONIC_SETNS: 9
        case ZYDIS_MNEMONIC_SETP: 10
        case ZYDIS_MNEMONIC_SETNP: 11
        case ZYDIS_MNEMONIC_SETL: 12
        case ZYDIS_MNEMONIC_SETNL: 13
        case ZYDIS_MNEMONIC_SETLE: 14
        case ZYDIS_MNEMONIC_SETNLE: 15
        default: nil
        }
    }

    private static func condition(move mnemonic: ZydisMnemonic) -> UInt16? {
        switch mnemonic {
        case ZYDIS_MNEMONIC_CMOVO: 0
        case ZYDIS_MNEMONIC_CMOVNO: 1
        case ZYDIS_MNEMONIC_CMOVB: 2
        case ZYDIS_MNEMONIC_CMOVNB: 3
        case ZYDIS_MNEMONIC_CMOVZ: 4
        case ZYDIS_MNEMONIC_CMOVNZ: 5
        case ZYDIS_MNEMONIC_CMOVBE: 6
        case ZYDIS_MNEMONIC_CMOVNBE: 7
        case ZYDIS_MNEMONIC_CMOVS: 8
        case ZYDIS_MNEMONIC_CMOVNS: 9
        case ZYDIS_MNEMONIC_CMOVP: 10
        case ZYDIS_MNEMONIC_CMOVNP: 11
        case ZYDIS_MNEMONIC_CMOVL: 12
        case ZYDIS_MNEMONIC_CMOVNL: 13
        case ZYDIS_MNEMONIC_CMOVLE: 14
        case ZYDIS_MNEMONIC_CMOVNLE: 15
        default: nil
        }
    }

    private static func loopCode(_ mnemonic: ZydisMnemonic) -> UInt16? {
        switch mnemonic {
        case ZYDIS_MNEMONIC_LOOP: 0
        case ZYDIS_MNEMONIC_LOOPE: 1
        case ZYDIS_MNEMONIC_LOOPNE: 2
        case ZYDIS_MNEMONIC_JCXZ, ZYDIS_MNEMONIC_JECXZ, ZYDIS_MNEMONIC_JRCXZ: 3
        default: nil
        }
    }
}
