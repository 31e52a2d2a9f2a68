import CZydis
import X86

/// The integer instructions that came after x86-64-v2: MOVBE, LZCNT, BMI1, BMI2 and ADX (SDM Vol. 2).
///
/// In their ops `a` is the destination, `source` and `b` the operand that may be in memory. `code`
/// holds the operation, and in its upper byte the state offset of the third register.
enum BitManipulation {
    /// The instruction's handler, if it is one of these and the model has it.
    static func select(
        _ i: Instruction, _ op: inout Op, _ mode: CodeMode, _ model: ProcessorModel
    ) -> Handler? {
        guard let (feature, operation) = operation(i.mnemonic), model.has(feature),
            // VEX encodings exist in protected mode alone.
            i.encoding.isLegacy || mode != .real16 && mode != .virtual8086
        else { return nil }
        op.width = UInt8(truncatingIfNeeded: i[0].bytes)
        op.code = operation.rawValue
        // The one that may be in memory is the last operand of some, the middle one of others.
        let isLast = operation.readsLast
        if let third = RegisterOffset.of(i[isLast ? 1 : 2].register) {
            op.code |= third << 8
        }
        if isLast {
            op.source = i[2].isMemory ? .memory : .register
            if let register = RegisterOffset.of(i[2].register) { op.b = register }
        }
        switch operation {
        case .swapLoadOrStore: return { sized(SwappedMove.self, $0, $1) }
        case .addCarry, .addOverflow: return { sized(AddThroughFlag.self, $0, $1) }
        case .multiply: return { sized(MultiplyWithoutFlags.self, $0, $1) }
        case .shiftLeft, .shiftRight, .shiftArithmetic, .rotate:
            return { sized(ShiftWithoutFlags.self, $0, $1) }
        default: return { sized(BitOperation.self, $0, $1) }
        }
    }

    enum Operation: UInt16 {
        case swapLoadOrStore, addCarry, addOverflow, multiply
        case shiftLeft, shiftRight, shiftArithmetic, rotate
        case leadingZeros, trailingZeros, andNot, extract, isolate, maskLowest, resetLowest
        case zeroHigh, deposit, gather

        /// Whether the operand that may be in memory is the third.
        var readsLast: Bool {
            switch self {
            case .multiply, .andNot, .deposit, .gather: true
            default: false
            }
        }
    }

    private static func operation(
        _ mnemonic: ZydisMnemonic
    ) -> (ProcessorModel.Feature, Operation)? {
        switch mnemonic {
        case ZYDIS_MNEMONIC_MOVBE: (.movbe, .swapLoadOrStore)
        case ZYDIS_MNEMONIC_ADCX: (.adx, .addCarry)
        case ZYDIS_MNEMONIC_ADOX: (.adx, .addOverflow)
        case ZYDIS_MNEMONIC_LZCNT: (.lzcnt, .leadingZeros)
        case ZYDIS_MNEMONIC_TZCNT: (.bmi1, .trailingZeros)
        case ZYDIS_MNEMONIC_ANDN: (.bmi1, .andNot)
        case ZYDIS_MNEMONIC_BEXTR: (.bmi1, .extract)
        case ZYDIS_MNEMONIC_BLSI: (.bmi1, .isolate)
        case ZYDIS_MNEMONIC_BLSMSK: (.bmi1, .maskLowest)
        case ZYDIS_MNEMONIC_BLSR: (.bmi1, .resetLowest)
        case ZYDIS_MNEMONIC_BZHI: (.bmi2, .zeroHigh)
        case ZYDIS_MNEMONIC_PDEP: (.bmi2, .deposit)
        case ZYDIS_MNEMONIC_PEXT: (.bmi2, .gather)
        case ZYDIS_MNEMONIC_MULX: (.bmi2, .multiply)
        case ZYDIS_MNEMONIC_SHLX: (.bmi2, .shiftLeft)
        case ZYDIS_MNEMONIC_SHRX: (.bmi2, .shiftRight)
        case ZYDIS_MNEMONIC_SARX: (.bmi2, .shiftArithmetic)
        case ZYDIS_MNEMONIC_RORX: (.bmi2, .rotate)
        default: nil
        }
    }

    @inline(__always)
    static func operation(_ op: OpRef) -> Operation {
        Operation(rawValue: op.code & 0xff) ?? .andNot
    }

    /// The third register.
    @inline(__always)
    static func third<W: Word>(_ core: Core, _ op: OpRef) -> W { core[op.code >> 8] }
}

/// MOVBE: memory and register, one with its bytes in the other order.
private enum SwappedMove: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        if op.destination == .memory {
            let value: W = core[op.b]
            return core.writeMemory(value.byteSwapped, op) ? .next : .fault
        }
        guard let value = core.readMemory(W.self, op) else { return .fault }
        core.setRegister(op.a, value.byteSwapped)
        return .next
    }
}

/// ADCX and ADOX: an addition whose carry goes through CF, or through OF, and leaves the other
/// flags.
private enum AddThroughFlag: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        guard let addend = core.readSource(W.self, op) else { return .fault }
        let usesCarry = BitManipulation.operation(op) == .addCarry
        let carry = core.carryFlag
        let overflow = core.overflowFlag
        let first = core[op.a, as: W.self].addingReportingOverflow(addend)
        let second = first.partialValue.addingReportingOverflow(
            (usesCarry ? carry : overflow) ? 1 : 0)
        let out = first.overflow || second.overflow
        core.setRegister(op.a, second.partialValue)
        core.setCarry(usesCarry ? out : carry, overflow: usesCarry ? overflow : out)
        return .next
    }
}

/// MULX: RDX times the operand; the low half goes to the second register, then the high half to
/// the first.
private enum MultiplyWithoutFlags: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        guard let factor = core.readSource(W.self, op) else { return .fault }
        let product = core[UInt16(2 * 8), as: W.self].multipliedFullWidth(by: factor)
        core.setRegister(op.code >> 8, W(truncatingIfNeeded: product.low))
        core.setRegister(op.a, product.high)
        return .next
    }
}

/// SHLX, SHRX, SARX and RORX, whose count is masked to the operand's size.
private enum ShiftWithoutFlags: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        guard let value = core.readSource(W.self, op) else { return .fault }
        let operation = BitManipulation.operation(op)
        let mask = W(truncatingIfNeeded: W.bitWidth - 1)
        let count: W =
            operation == .rotate
            ? W(truncatingIfNeeded: op.immediate) & mask
            : BitManipulation.third(core, op) & mask
        let result: W
        switch operation {
        case .shiftLeft: result = value &<< count
        case .shiftRight: result = value &>> count
        case .rotate: result = value &>> count | value &<< (0 &- count & mask)
        default:
            let shifted = Int64(bitPattern: core.signExtended(value)) &>> Int64(count)
            result = W(truncatingIfNeeded: shifted)
        }
        core.setRegister(op.a, result)
        return .next
    }
}

/// Those that compute one word from one or two. Flags that the manual leaves undefined follow the
/// result, or are clear.
private enum BitOperation: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        guard let value = core.readSource(W.self, op) else { return .fault }
        let size = W.bitWidth
        var carry = value == 0
        var setsFlags = true
        let result: W
        switch BitManipulation.operation(op) {
        case .leadingZeros: result = W(truncatingIfNeeded: value.leadingZeroBitCount)
        case .trailingZeros: result = W(truncatingIfNeeded: value.trailingZeroBitCount)
        case .extract:
            let control: W = BitManipulation.third(core, op)
            let start = Int(truncatingIfNeeded: control & 0xff)
            let length = Int(truncatingIfNeeded: control >> 8 & 0xff)
            result = (value >> start) & (length >= size ? .max : (1 << length) &- 1)
            carry = false
        case .isolate:
            result = value & (0 &- value)
            carry = value != 0
        case .maskLowest: result = value ^ (value &- 1)
        case .resetLowest: result = value & (value &- 1)
        case .zeroHigh:
            let index = Int(truncatingIfNeeded: BitManipulation.third(core, op) & (0xff as W))
            carry = index >= size
            result = carry ? value : value & ((1 << index) &- 1)
        case .deposit:
            result = deposit(BitManipulation.third(core, op), mask: value)
            setsFlags = false
        case .gather:
            result = gather(BitManipulation.third(core, op), mask: value)
            setsFlags = false
        default:
            result = ~BitManipulation.third(core, op) & value
            carry = false
        }
        core.setRegister(op.a, result)
        if setsFlags { core.setFlags(result: result, carry: carry, overflow: false) }
        return .next
    }

    /// PDEP: the low bits of a word, spread to the places that the mask has.
    private static func deposit<W: Word>(_ value: W, mask: W) -> W {
        var result: W = 0
        var left = mask
        var bits = value
        while left != 0 {
            if bits & 1 != 0 { result |= left & (0 &- left) }
            bits >>= 1
            left &= left &- 1
        }
        return result
    }

    /// PEXT: the bits of a word at the places that the mask has, brought together.
    private static func gather<W: Word>(_ value: W, mask: W) -> W {
        var result: W = 0
        var place: W = 1
        var left = mask
        while left != 0 {
            if value & left & (0 &- left) != 0 { result |= place }
            place &<<= 1
            left &= left &- 1
        }
        return result
    }
}
