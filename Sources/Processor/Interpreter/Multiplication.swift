import X86

/// MUL and one-operand IMUL: the product goes to AX, or to DX:AX and its wider forms.
/// SF, ZF, AF and PF are undefined; SF, ZF and PF follow the low half here.
enum MultiplyWide: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        guard let factor = core.readDestination(W.self, op) else { return .fault }
        let accumulator: W = core[0]
        let isSigned = op.code == 1
        let product = accumulator.multipliedFullWidth(by: factor)
        var high = product.high
        let lowWord = W(truncatingIfNeeded: product.low)
        if isSigned {
            // The signed product's high half, from the unsigned one.
            if accumulator >> (W.bitWidth - 1) != 0 { high = high &- factor }
            if factor >> (W.bitWidth - 1) != 0 { high = high &- accumulator }
        }
        if W.bitWidth == 8 {
            core[0] =
                UInt16(truncatingIfNeeded: high) << 8 | UInt16(truncatingIfNeeded: lowWord)
        } else {
            core.setRegister(0, lowWord)
            core.setRegister(16, high)
        }
        let overflow =
            isSigned
            ? high != (lowWord >> (W.bitWidth - 1) != 0 ? W.max : 0)
            : high != 0
        core.setFlags(result: lowWord, carry: overflow, overflow: overflow)
        return .next
    }
}

/// IMUL with two or three operands: the low half of the signed product.
enum Multiply: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        let first: W
        if op.code == 3 {
            first = W(truncatingIfNeeded: op.immediate)
        } else {
            first = core[op.a]
        }
        let second: W
        if op.source == .memory {
            guard let value = core.readMemory(W.self, op) else { return .fault }
            second = value
        } else {
            second = core[op.b]
        }
        let result = first &* second
        var high = first.multipliedFullWidth(by: second).high
        if first >> (W.bitWidth - 1) != 0 { high = high &- second }
        if second >> (W.bitWidth - 1) != 0 { high = high &- first }
        let overflow = high != (result >> (W.bitWidth - 1) != 0 ? W.max : 0)
        core.setRegister(op.a, result)
        core.setFlags(result: result, carry: overflow, overflow: overflow)
        return .next
    }
}

/// DIV and IDIV: #DE where the divisor is zero or the quotient does not fit; flags undefined, and
/// left alone here.
enum Divide: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        guard let divisor = core.readDestination(W.self, op) else { return .fault }
        let low: W
        let high: W
        if W.bitWidth == 8 {
            let dividend: UInt16 = core[0]
            low = W(truncatingIfNeeded: dividend)
            high = W(truncatingIfNeeded: dividend >> 8)
        } else {
            low = core[0]
            high = core[16]
        }
        guard divisor != 0 else { return core.raise(.divideError) }
        let quotient: W
        let remainder: W
        if op.code == 1 {
            guard let result = signed(high, low, divisor) else { return core.raise(.divideError) }
            (quotient, remainder) = result
        } else {
            guard high < divisor else { return core.raise(.divideError) }
            (quotient, remainder) = divide(high, low, divisor)
        }
        if W.bitWidth == 8 {
            core[0] =
                UInt16(truncatingIfNeeded: remainder) << 8 | UInt16(truncatingIfNeeded: quotient)
        } else {
            core.setRegister(0, quotient)
            core.setRegister(16, remainder)
        }
        return .next
    }

    /// Unsigned division of a double word; `high` is less than the divisor.
    @inline(__always)
    private static func divide<W: Word>(_ high: W, _ low: W, _ divisor: W) -> (W, W) {
        if W.bitWidth == 64 && high == 0 { return (low / divisor, low % divisor) }
        if W.bitWidth < 64 {
            let dividend =
                UInt64(truncatingIfNeeded: high) << UInt64(W.bitWidth)
                | UInt64(truncatingIfNeeded: low)
            let divisor = UInt64(truncatingIfNeeded: divisor)
            return (
                W(truncatingIfNeeded: dividend / divisor), W(truncatingIfNeeded: dividend % divisor)
            )
        }
        let result = divisor.dividingFullWidth((high, W.Magnitude(truncatingIfNeeded: low)))
        return (result.quotient, result.remainder)
    }

    private static func signed<W: Word>(_ high: W, _ low: W, _ divisor: W) -> (W, W)? {
        let top = W.bitWidth - 1
        let dividendNegative = high >> top != 0
        let divisorNegative = divisor >> top != 0
        var magnitudeHigh = high
        var magnitudeLow = low
        if dividendNegative {
            magnitudeLow = 0 &- low
            magnitudeHigh = ~high &+ (low == 0 ? 1 : 0)
        }
        let magnitude = divisorNegative ? 0 &- divisor : divisor
        guard magnitudeHigh < magnitude else { return nil }
        let (quotient, remainder) = divide(magnitudeHigh, magnitudeLow, magnitude)
        let negative = dividendNegative != divisorNegative
        let limit: W = negative ? W(1) << top : W.max >> 1
        guard quotient <= limit else { return nil }
        return (
            negative ? 0 &- quotient : quotient, dividendNegative ? 0 &- remainder : remainder
        )
    }
}
