import CZydis
import X86

/// MASKMOVDQU and MASKMOVQ: bytes of a register stored at DS:rDI where a mask has bit 7 set.
enum MaskedMoves {
    /// Sets the op's handler if the instruction is one of these.
    static func select(_ instruction: Instruction, _ op: inout Op) -> Bool {
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_MASKMOVDQU:
            guard let value = VectorRegister.xmm(instruction[0].register),
                let mask = VectorRegister.xmm(instruction[1].register)
            else { return false }
            op.a = UInt16(value)
            op.b = UInt16(mask)
            op.width = 16
            op.code = VectorCode.sse
        case ZYDIS_MNEMONIC_MASKMOVQ:
            guard let value = VectorRegister.mmx(instruction[0].register),
                let mask = VectorRegister.mmx(instruction[1].register)
            else { return false }
            op.a = UInt16(value)
            op.b = UInt16(mask)
            op.width = 8
            op.code = VectorCode.mmx
        default: return false
        }
        op.segment = instruction.implicitSegment
        op.sourceWidth = instruction.addressBytes
        op.handler = store
        return true
    }

    private static let store: Handler = {
        plain($0, $1) { core, op in execute(core, op) }
    }

    private static func execute(_ core: Core, _ op: OpRef) -> Status {
        let block = VectorBlock(op.immediate)
        guard core.permitsVector(op.code, block) else { return .fault }
        let isMMX = op.width == 8
        let value = register(block, op.a, isMMX)
        let mask = register(block, op.b, isMMX)
        guard storeSelected(core, op, value: value, mask: mask, bytes: UInt16(op.width)) else {
            return .fault
        }
        if isMMX { block.enterMMX() }
        return .next
    }

    /// Stores the bytes at an offset in the block whose masks have bit 7 set; false after a fault.
    static func storeSelected(
        _ core: Core, _ op: OpRef, value: UInt16, mask: UInt16, bytes: UInt16
    ) -> Bool {
        let block = VectorBlock(op.immediate)
        var offset = core[.rdi]
        if op.sourceWidth == 4 { offset &= 0xffff_ffff }
        if op.sourceWidth == 2 { offset &= 0xffff }
        var selected: UInt16 = 0
        for byte in UInt16(0)..<bytes {
            selected |= UInt16(block[mask + byte, as: UInt8.self] >> 7) << byte
        }
        // With no byte selected there is no access, and so no fault.
        if selected != 0 {
            guard
                let address = core.linearAddress(
                    op.segment, offset, size: UInt64(bytes), write: true)
            else { return false }
            let first = UInt64(selected.trailingZeroBitCount)
            let last = UInt64(15 - selected.leadingZeroBitCount)
            guard
                core.processor.probe(
                    core.advance(address, first), size: Int(last - first) + 1, write: true)
            else { return false }
            for byte in UInt16(0)..<bytes where selected & 1 << byte != 0 {
                guard
                    core.write(
                        block[value + byte, as: UInt8.self],
                        linear: core.advance(address, UInt64(byte)))
                else { return false }
            }
        }
        return true
    }

    private static func register(_ block: VectorBlock, _ number: UInt16, _ isMMX: Bool) -> UInt16 {
        isMMX
            ? VectorBlock.mmx(UInt8(truncatingIfNeeded: number) &- block.top)
            : VectorBlock.xmm(UInt8(truncatingIfNeeded: number))
    }
}
