import CZydis
import X86

/// Moves and bitwise logic of XMM registers, executed without a stub: a large part of what
/// compilers make of memcpy, and of passing floating-point values.
///
/// Their ops hold the block's address in `immediate`, offsets of XMM registers in the block (or of
/// general registers in the state) in `a` and `b`, and the bytes moved in `width`.
enum VectorMoves {
    /// Sets the op's handler if the instruction is one of these.
    static func select(_ instruction: Instruction, _ op: inout Op) -> Bool {
        if MaskedMoves.select(instruction, &op) { return true }
        // MMX forms share the mnemonics MOVD, MOVQ, PXOR, …
        for index in 0..<min(instruction.operandCount, 2) {
            guard let offset = VectorRegister.xmm(instruction[index].register) else { continue }
            if index == 0 {
                op.a = VectorBlock.xmm(offset)
            } else {
                op.b = VectorBlock.xmm(offset)
            }
        }
        guard
            VectorRegister.xmm(instruction[0].register) != nil
                || VectorRegister.xmm(instruction[1].register) != nil
        else { return false }
        op.code = VectorCode.sse
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_MOVAPS, ZYDIS_MNEMONIC_MOVAPD, ZYDIS_MNEMONIC_MOVDQA,
            ZYDIS_MNEMONIC_MOVNTDQA, ZYDIS_MNEMONIC_MOVNTPS, ZYDIS_MNEMONIC_MOVNTPD,
            ZYDIS_MNEMONIC_MOVNTDQ:
            op.code |= VectorCode.aligned
            selectWhole(&op)
        case ZYDIS_MNEMONIC_MOVUPS, ZYDIS_MNEMONIC_MOVUPD, ZYDIS_MNEMONIC_MOVDQU,
            ZYDIS_MNEMONIC_LDDQU:
            selectWhole(&op)
        case ZYDIS_MNEMONIC_MOVD, ZYDIS_MNEMONIC_MOVQ:
            let isXMMToXMM =
                !instruction[0].isMemory && !instruction[1].isMemory
                && VectorRegister.xmm(instruction[0].register) != nil
                && VectorRegister.xmm(instruction[1].register) != nil
            // The narrower operand tells: XMM operands may be listed with 16 bytes.
            op.width = instruction.mnemonic == ZYDIS_MNEMONIC_MOVQ ? 8 : 4
            if isXMMToXMM {
                op.handler = copyLowAndClear
            } else if instruction[0].isMemory {
                op.handler = storeLow
            } else if instruction[1].isMemory {
                op.handler = loadAndClear
            } else if VectorRegister.xmm(instruction[0].register) != nil {
                op.handler = fromGeneral
            } else {
                op.handler = toGeneral
            }
        case ZYDIS_MNEMONIC_MOVSS, ZYDIS_MNEMONIC_MOVSD:
            op.width = instruction.mnemonic == ZYDIS_MNEMONIC_MOVSD ? 8 : 4
            op.handler =
                instruction[0].isMemory
                ? storeLow : instruction[1].isMemory ? loadAndClear : copyLow
        case ZYDIS_MNEMONIC_MOVLPS, ZYDIS_MNEMONIC_MOVLPD, ZYDIS_MNEMONIC_MOVHPS,
            ZYDIS_MNEMONIC_MOVHPD:
            op.width = 8
            let isHigh =
                instruction.mnemonic == ZYDIS_MNEMONIC_MOVHPS
                || instruction.mnemonic == ZYDIS_MNEMONIC_MOVHPD
            if instruction[0].isMemory {
                if isHigh { op.b += 8 }
                op.handler = storeLow
            } else {
                if isHigh { op.a += 8 }
                op.handler = loadHalf
            }
        case ZYDIS_MNEMONIC_PXOR, ZYDIS_MNEMONIC_XORPS, ZYDIS_MNEMONIC_XORPD:
            selectLogic(&op, 0)
        case ZYDIS_MNEMONIC_POR, ZYDIS_MNEMONIC_ORPS, ZYDIS_MNEMONIC_ORPD:
            selectLogic(&op, 1)
        case ZYDIS_MNEMONIC_PAND, ZYDIS_MNEMONIC_ANDPS, ZYDIS_MNEMONIC_ANDPD:
            selectLogic(&op, 2)
        case ZYDIS_MNEMONIC_PANDN, ZYDIS_MNEMONIC_ANDNPS, ZYDIS_MNEMONIC_ANDNPD:
            selectLogic(&op, 3)
        default: return false
        }
        return true
    }

    private static func selectWhole(_ op: inout Op) {
        op.handler =
            op.destination == .memory ? store16 : op.source == .memory ? load16 : copy16
    }

    private static func selectLogic(_ op: inout Op, _ operation: UInt16) {
        op.code |= VectorCode.aligned | operation << VectorCode.variantShift
        op.handler = logic
    }

    // MARK: Whole registers

    private static let copy16: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block) else { return .fault }
            let low: UInt64 = block[op.b]
            let high: UInt64 = block[op.b + 8]
            block[op.a] = low
            block[op.a + 8] = high
            return .next
        }
    }

    private static let load16: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block),
                let value = source16(core, op)
            else { return .fault }
            block[op.a] = value.low
            block[op.a + 8] = value.high
            return .next
        }
    }

    private static let store16: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block),
                let address = core.vectorAddress(
                    op, size: 16, alignment: alignment(op), write: true),
                core.write16(block[op.b], block[op.b + 8], linear: address)
            else { return .fault }
            return .next
        }
    }

    private static let logic: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block) else { return .fault }
            var low: UInt64 = block[op.b]
            var high: UInt64 = block[op.b + 8]
            if op.source == .memory {
                guard let value = source16(core, op) else { return .fault }
                low = value.low
                high = value.high
            }
            let oldLow: UInt64 = block[op.a]
            let oldHigh: UInt64 = block[op.a + 8]
            switch op.code >> VectorCode.variantShift {
            case 0: (low, high) = (oldLow ^ low, oldHigh ^ high)
            case 1: (low, high) = (oldLow | low, oldHigh | high)
            case 2: (low, high) = (oldLow & low, oldHigh & high)
            default: (low, high) = (~oldLow & low, ~oldHigh & high)
            }
            block[op.a] = low
            block[op.a + 8] = high
            return .next
        }
    }

    @inline(__always)
    private static func source16(_ core: Core, _ op: OpRef) -> (low: UInt64, high: UInt64)? {
        guard
            let address = core.vectorAddress(
                op, size: 16, alignment: alignment(op), write: false)
        else { return nil }
        return core.read16(linear: address)
    }

    @inline(__always)
    private static func alignment(_ op: OpRef) -> UInt64 {
        op.code & VectorCode.aligned != 0 ? 16 : 1
    }

    // MARK: Parts of registers

    /// MOVQ between XMM registers: the upper half becomes zero.
    private static let copyLowAndClear: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block) else { return .fault }
            block[op.a] = block[op.b, as: UInt64.self]
            block[op.a + 8] = UInt64(0)
            return .next
        }
    }

    /// MOVSS and MOVSD between registers: the rest of the destination stays.
    private static let copyLow: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block) else { return .fault }
            if op.width == 8 {
                block[op.a] = block[op.b, as: UInt64.self]
            } else {
                block[op.a] = block[op.b, as: UInt32.self]
            }
            return .next
        }
    }

    private static let loadAndClear: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block) else { return .fault }
            var value: UInt64 = 0
            if op.width == 8 {
                guard let read = core.readMemory(UInt64.self, op) else { return .fault }
                value = read
            } else {
                guard let read = core.readMemory(UInt32.self, op) else { return .fault }
                value = UInt64(read)
            }
            block[op.a] = value
            block[op.a + 8] = UInt64(0)
            return .next
        }
    }

    private static let loadHalf: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block),
                let value = core.readMemory(UInt64.self, op)
            else { return .fault }
            block[op.a] = value
            return .next
        }
    }

    private static let storeLow: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block) else { return .fault }
            let done =
                op.width == 8
                ? core.writeMemory(block[op.b, as: UInt64.self], op)
                : core.writeMemory(block[op.b, as: UInt32.self], op)
            return done ? .next : .fault
        }
    }

    private static let fromGeneral: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block) else { return .fault }
            let value: UInt64 = core[op.b]
            block[op.a] = op.width == 8 ? value : value & 0xffff_ffff
            block[op.a + 8] = UInt64(0)
            return .next
        }
    }

    private static let toGeneral: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block) else { return .fault }
            let value: UInt64 = block[op.b]
            core[op.a] = op.width == 8 ? value : value & 0xffff_ffff
            return .next
        }
    }
}
