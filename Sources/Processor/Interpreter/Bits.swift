import X86

/// BT, BTS, BTR, BTC. With a register as bit index a memory operand is a bit string: the index
/// chooses the word too (SDM Vol. 2A, BT).
enum BitTest: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        let index: W =
            op.source == .register ? core[op.b] : W(truncatingIfNeeded: op.immediate)
        let mask = W(1) << (index & W(truncatingIfNeeded: W.bitWidth - 1))
        var carry = false
        let body = { (value: W) -> W in
            carry = value & mask != 0
            return switch op.code {
            case 1: value | mask
            case 2: value & ~mask
            case 3: value ^ mask
            default: value
            }
        }
        if op.destination == .register {
            let value: W = core[op.a]
            let result = body(value)
            if op.code != 0 { core.setRegister(op.a, result) }
        } else {
            var displacement: UInt64 = 0
            if op.source == .register {
                let signed = Int64(bitPattern: core.signExtended(index))
                let word = signed >> Int64(W.bitWidth.trailingZeroBitCount)
                displacement = UInt64(bitPattern: word) &* UInt64(W.bitWidth / 8)
            }
            guard let address = bitAddress(core, op, displacement, UInt64(W.bitWidth / 8)) else {
                return .fault
            }
            if op.code == 0 {
                guard let value = core.read(W.self, linear: address) else { return .fault }
                _ = body(value)
            } else {
                guard core.update(linear: address, body) else { return .fault }
            }
        }
        core.state.flagCarry =
            core.state.flagCarry & ~(3 << 62) | (carry ? 1 << 63 : 0)
            | (carry != core.overflowFlag ? 1 << 62 : 0)
        return .next
    }

    /// OF is undefined after BT, and left alone: both carry bits move with CF.
    @inline(__always)
    private static func bitAddress(
        _ core: Core, _ op: OpRef, _ displacement: UInt64, _ size: UInt64
    ) -> UInt64? {
        if displacement == 0 { return core.linearAddress(op, size: size, write: op.code != 0) }
        if op.addressing == 0 {
            return core.linearAddress(op, size: size, write: false).map { $0 &+ displacement }
        }
        var offset = core.effectiveAddress(op) &+ displacement
        if op.addressing & OpAddressing.address16 != 0 { offset &= 0xffff }
        if op.addressing & OpAddressing.address32 != 0 { offset &= 0xffff_ffff }
        return core.linearAddress(op.segment, offset, size: size, write: op.code != 0)
    }
}

/// BSF and BSR: with a zero source ZF is set and the destination keeps its value, as Intel's and
/// AMD's processors do.
enum BitScan: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        guard let value = core.readSource(W.self, op) else { return .fault }
        core.setLogicFlags(value)
        if value != 0 {
            let index =
                op.code == 0
                ? value.trailingZeroBitCount
                : W.bitWidth - 1 - value.leadingZeroBitCount
            core.setRegister(op.a, W(truncatingIfNeeded: index))
        }
        return .next
    }
}

enum PopulationCount: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        guard let value = core.readSource(W.self, op) else { return .fault }
        core.setRegister(op.a, W(truncatingIfNeeded: value.nonzeroBitCount))
        // All flags are cleared but ZF.
        core.setArithmeticFlags(value == 0 ? RFLAGS.zero : 0)
        return .next
    }
}

/// CRC32 (SSE4.2): the Castagnoli polynomial, bit-reflected (SDM Vol. 2A, CRC32).
enum CyclicRedundancyCheck {
    static let handler: Handler = {
        plain($0, $1) { core, op in
            let value: UInt64
            switch op.sourceWidth {
            case 1:
                guard let byte = core.readSource(UInt8.self, op) else { return .fault }
                value = UInt64(byte)
            case 2:
                guard let word = core.readSource(UInt16.self, op) else { return .fault }
                value = UInt64(word)
            case 4:
                guard let word = core.readSource(UInt32.self, op) else { return .fault }
                value = UInt64(word)
            default:
                guard let word = core.readSource(UInt64.self, op) else { return .fault }
                value = word
            }
            var crc: UInt32 = core[op.a]
            for byte in 0..<Int(op.sourceWidth & 15) {
                crc ^= UInt32(truncatingIfNeeded: (value >> UInt64(byte * 8)) & 0xff)
                for _ in 0..<8 { crc = crc >> 1 ^ (crc & 1 != 0 ? 0x82f6_3b78 : 0) }
            }
            core[op.a] = UInt64(crc)
            return .next
        }
    }
}
