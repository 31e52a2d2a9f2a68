import X86

extension Core {
    @inline(__always) var carryFlag: Bool { Int64(bitPattern: state.flagCarry) < 0 }
    @inline(__always) var zeroFlag: Bool { state.flagResult == 0 }
    @inline(__always) var signFlag: Bool {
        Int64(bitPattern: state.flagResult ^ state.flagAux) < 0
    }
    @inline(__always) var overflowFlag: Bool {
        Int64(bitPattern: state.flagCarry ^ (state.flagCarry << 1)) < 0
    }
    @inline(__always) var adjustFlag: Bool { state.flagAux & 0x10 != 0 }
    @inline(__always) var parityFlag: Bool {
        ((state.flagResult ^ (state.flagAux >> 8)) & 0xff).nonzeroBitCount & 1 == 0
    }

    /// CF, PF, AF, ZF, SF, OF at their places in RFLAGS.
    var arithmeticFlags: UInt64 {
        (carryFlag ? RFLAGS.carry : 0) | (parityFlag ? RFLAGS.parity : 0)
            | (adjustFlag ? RFLAGS.adjust : 0) | (zeroFlag ? RFLAGS.zero : 0)
            | (signFlag ? RFLAGS.sign : 0) | (overflowFlag ? RFLAGS.overflow : 0)
    }

    /// Loads CF, PF, AF, ZF, SF, OF from their places in RFLAGS; other bits are not looked at.
    func setArithmeticFlags(_ flags: UInt64) {
        let carry = flags & RFLAGS.carry != 0
        let overflow = flags & RFLAGS.overflow != 0
        state.flagCarry = (carry ? 1 << 63 : 0) | (carry != overflow ? 1 << 62 : 0)
        // With ZF the result is 0, whose parity is even; without it 1, whose parity is odd.
        let zero = flags & RFLAGS.zero != 0
        let parity = flags & RFLAGS.parity != 0
        state.flagResult = zero ? 0 : 1
        state.flagAux =
            (flags & RFLAGS.adjust) | (flags & RFLAGS.sign != 0 ? 1 << 63 : 0)
            | (parity != zero ? 0x100 : 0)
    }

    /// RFLAGS, bit 1 set.
    var flags: UInt64 { arithmeticFlags | state.systemFlags | RFLAGS.alwaysOne }

    /// Replaces RFLAGS as a whole: reserved bits are dropped; the caller has applied privilege.
    func setFlags(_ flags: UInt64) {
        setArithmeticFlags(flags)
        setSystemFlags(flags)
    }

    /// Replaces the bits of RFLAGS that are not arithmetic results.
    func setSystemFlags(_ flags: UInt64) {
        let mask: UInt64 =
            RFLAGS.trap | RFLAGS.interruptEnable | RFLAGS.direction | RFLAGS.ioPrivilegeLevel
            | RFLAGS.nestedTask | RFLAGS.resume | RFLAGS.virtual8086 | RFLAGS.alignmentCheck
            | RFLAGS.virtualInterrupt | RFLAGS.virtualInterruptPending | RFLAGS.identification
        state.systemFlags = flags & mask
        selectBank()
        leaveBlock()
    }

    @inline(__always) var ioPrivilegeLevel: UInt8 {
        UInt8(truncatingIfNeeded: state.systemFlags >> 12) & 3
    }
    @inline(__always) var directionFlag: Bool { state.systemFlags & RFLAGS.direction != 0 }

    /// Records the flags of `a + b (+ carry) = r`.
    @inline(__always)
    func setAddFlags<W: FixedWidthInteger & UnsignedInteger>(_ a: W, _ b: W, _ r: W) {
        let carries = (a & b) | ((a | b) & ~r)
        setFlags(result: r, carries: carries, aux: a ^ b ^ r)
    }

    /// Records the flags of `a - b (- borrow) = r`.
    @inline(__always)
    func setSubtractFlags<W: FixedWidthInteger & UnsignedInteger>(_ a: W, _ b: W, _ r: W) {
        let borrows = (~a & b) | (~(a ^ b) & r)
        setFlags(result: r, carries: borrows, aux: a ^ b ^ r)
    }

    /// Records the flags of a logical operation: CF, OF and AF clear.
    @inline(__always)
    func setLogicFlags<W: FixedWidthInteger & UnsignedInteger>(_ r: W) {
        state.flagResult = signExtended(r)
        state.flagCarry = 0
        state.flagAux = 0
    }

    @inline(__always)
    func setFlags<W: FixedWidthInteger & UnsignedInteger>(result: W, carries: W, aux: W) {
        state.flagResult = signExtended(result)
        state.flagCarry = UInt64(truncatingIfNeeded: carries) << UInt64(64 - W.bitWidth)
        state.flagAux = UInt64(truncatingIfNeeded: aux) & 0x10
    }

    /// Sets ZF, SF, PF from a result, and CF and OF as given; AF is cleared.
    @inline(__always)
    func setFlags<W: FixedWidthInteger & UnsignedInteger>(
        result: W, carry: Bool, overflow: Bool
    ) {
        state.flagResult = signExtended(result)
        state.flagCarry = (carry ? 1 << 63 : 0) | (carry != overflow ? 1 << 62 : 0)
        state.flagAux = 0
    }

    /// Sets CF and OF alone.
    @inline(__always)
    func setCarry(_ carry: Bool, overflow: Bool) {
        state.flagCarry = (carry ? 1 << 63 : 0) | (carry != overflow ? 1 << 62 : 0)
    }

    @inline(__always)
    func signExtended<W: FixedWidthInteger & UnsignedInteger>(_ value: W) -> UInt64 {
        let shift = UInt64(64 - W.bitWidth)
        return UInt64(
            bitPattern: Int64(bitPattern: UInt64(truncatingIfNeeded: value) << shift)
                >> Int64(shift))
    }

    /// Whether the condition of Jcc, SETcc or CMOVcc holds (SDM Vol. 1 App. B); `code` is 0…15.
    @inline(__always)
    func condition(_ code: UInt16) -> Bool {
        let holds: Bool
        switch code >> 1 {
        case 0: holds = overflowFlag
        case 1: holds = carryFlag
        case 2: holds = zeroFlag
        case 3: holds = carryFlag || zeroFlag
        case 4: holds = signFlag
        case 5: holds = parityFlag
        case 6: holds = signFlag != overflowFlag
        default: holds = zeroFlag || signFlag != overflowFlag
        }
        return holds != (code & 1 != 0)
    }
}
