import X86

/// Shifts and rotates: the count is masked to 5 bits (6 for 64-bit operands); a count of zero
/// leaves the flags alone (SDM Vol. 2B, SAL/SAR/SHL/SHR and RCL/RCR/ROL/ROR).
enum ShiftOperation {
    static let rol: UInt16 = 0
    static let ror: UInt16 = 1
    static let rcl: UInt16 = 2
    static let rcr: UInt16 = 3
    static let shl: UInt16 = 4
    static let shr: UInt16 = 5
    static let sar: UInt16 = 7
}

enum Shift: SizedInstruction {
    @inline(__always)
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        // The count is CL or an immediate, whatever the operand size.
        let raw: UInt8 =
            op.source == .register ? core[op.b] : UInt8(truncatingIfNeeded: op.immediate)
        let count = Int(raw) & (W.bitWidth == 64 ? 63 : 31)
        if count == 0 {
            // Still a read and a write of the destination: a 32-bit register is zero-extended,
            // and a memory operand must be writable.
            return core.updateDestination(op, { (value: W) in value }) ? .next : .fault
        }
        return core.updateDestination(op) { (value: W) in
            apply(core, op.code, value, count)
        } ? .next : .fault
    }

    @inline(__always)
    static func apply<W: Word>(
        _ core: Core, _ operation: UInt16, _ value: W, _ count: Int
    ) -> W {
        let top = W.bitWidth - 1
        switch operation {
        case ShiftOperation.shl:
            let result = count > top ? 0 : value << W(truncatingIfNeeded: count)
            let carry = count <= W.bitWidth && (value >> (W.bitWidth - count)) & 1 != 0
            core.setFlags(result: result, carry: carry, overflow: carry != (result >> top != 0))
            return result
        case ShiftOperation.shr:
            let result = count > top ? 0 : value >> W(truncatingIfNeeded: count)
            let carry = count <= W.bitWidth && (value >> (count - 1)) & 1 != 0
            core.setFlags(
                result: result, carry: carry,
                overflow: (result >> top != 0) != ((result >> (top - 1)) & 1 != 0))
            return result
        case ShiftOperation.sar:
            let sign = value >> top != 0
            let result =
                count > top
                ? (sign ? W.max : 0)
                : value >> count | (sign ? ~(W.max >> count) : 0)
            let carry = count > top ? sign : (value >> (count - 1)) & 1 != 0
            core.setFlags(result: result, carry: carry, overflow: false)
            return result
        case ShiftOperation.rol:
            let turn = count & top
            let result = turn == 0 ? value : value << turn | value >> (W.bitWidth - turn)
            let carry = result & 1 != 0
            core.setRotateFlags(carry, overflow: carry != (result >> top != 0))
            return result
        case ShiftOperation.ror:
            let turn = count & top
            let result = turn == 0 ? value : value >> turn | value << (W.bitWidth - turn)
            let carry = result >> top != 0
            core.setRotateFlags(carry, overflow: carry != ((result >> (top - 1)) & 1 != 0))
            return result
        case ShiftOperation.rcl:
            var result = value
            var carry = core.carryFlag
            for _ in 0..<count % (W.bitWidth + 1) {
                let out = result >> top != 0
                result = result << 1 | (carry ? 1 : 0)
                carry = out
            }
            core.setRotateFlags(carry, overflow: carry != (result >> top != 0))
            return result
        default:
            var result = value
            var carry = core.carryFlag
            for _ in 0..<count % (W.bitWidth + 1) {
                let out = result & 1 != 0
                result = result >> 1 | (carry ? W(1) << top : 0)
                carry = out
            }
            core.setRotateFlags(
                carry, overflow: (result >> top != 0) != ((result >> (top - 1)) & 1 != 0))
            return result
        }
    }
}

extension Core {
    /// Rotates change CF and OF alone. OF is defined for counts of one only; the formula for one
    /// is used for all, as processors do.
    @inline(__always)
    func setRotateFlags(_ carry: Bool, overflow: Bool) { setCarry(carry, overflow: overflow) }
}

/// SHLD and SHRD.
enum DoubleShift: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        let raw: UInt8 =
            op.code & 2 != 0 ? core[8] : UInt8(truncatingIfNeeded: op.immediate)
        var count = Int(raw) & (W.bitWidth == 64 ? 63 : 31)
        if count == 0 {
            return core.updateDestination(op, { (value: W) in value }) ? .next : .fault
        }
        let filler: W = core[op.b]
        let left = op.code & 1 == 0
        // Counts beyond 16 of 16-bit operands are undefined; processors shift the filler round.
        var value2 = filler
        return core.updateDestination(op) { (value: W) in
            var value = value
            if count > W.bitWidth {
                let old = value
                value = value2
                value2 = old
                count -= W.bitWidth
            }
            let top = W.bitWidth - 1
            let result: W
            let carry: Bool
            if left {
                result = (count > top ? 0 : value << count) | value2 >> (W.bitWidth - count)
                carry = (value >> (W.bitWidth - count)) & 1 != 0
            } else {
                result = (count > top ? 0 : value >> count) | value2 << (W.bitWidth - count)
                carry = (value >> (count - 1)) & 1 != 0
            }
            core.setFlags(
                result: result, carry: carry, overflow: (result ^ value) >> top != 0)
            return result
        } ? .next : .fault
    }
}
