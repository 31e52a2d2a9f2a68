/// Bits of the x87 status word (SDM Vol. 1 §8.1.3).
enum X87Status {
    /// An unmasked exception is pending: ES.
    static let errorSummary: UInt16 = 1 << 7
    static let exceptions: UInt16 = 0x3f
    static let busy: UInt16 = 1 << 15
    static let topShift: UInt16 = 11
}

/// The x87 half of the guest's state.
extension VectorBlock {
    /// The physical register that ST(0) is, 0…7.
    var top: UInt8 { UInt8(truncatingIfNeeded: fsw >> X87Status.topShift) & 7 }

    /// Loads the control word; bits that do not exist read as they do in hardware.
    func setFCW(_ value: UInt16) {
        fcw = value & 0x1f3f | 0x40
        updateSummary()
    }

    /// Loads the status word without moving registers: ES and B follow from the flags.
    func setFSW(_ value: UInt16) {
        fsw = value
        updateSummary()
    }

    private func updateSummary() {
        let summary = X87Status.errorSummary | X87Status.busy
        if fsw & ~fcw & X87Status.exceptions != 0 {
            fsw |= summary
        } else {
            fsw &= ~summary
        }
    }

    /// Loads the status word where the physical registers stay as they are: the image, which
    /// begins with ST(0), turns with TOP.
    func setFSWTurning(_ value: UInt16) {
        let newTop = UInt8(truncatingIfNeeded: value >> X87Status.topShift) & 7
        let turn = newTop &- top & 7
        if turn != 0 {
            var old = InlineArray<8, (UInt64, UInt16)>(repeating: (0, 0))
            for index in 0..<8 { old[index] = register(UInt8(index)) }
            for index in 0..<8 {
                let (mantissa, exponent) = old[(index + Int(turn)) & 7]
                setRegister(UInt8(index), mantissa, exponent)
            }
        }
        setFSW(value)
    }

    /// ST(`index`): mantissa, and sign with exponent.
    func register(_ index: UInt8) -> (mantissa: UInt64, exponent: UInt16) {
        (self[Self.mmx(index)], self[Self.mmx(index) + 8])
    }

    func setRegister(_ index: UInt8, _ mantissa: UInt64, _ exponent: UInt16) {
        self[Self.mmx(index)] = mantissa
        self[Self.mmx(index) + 8] = UInt64(exponent)
    }

    /// FNINIT (SDM Vol. 2A): the registers keep their contents and are tagged empty.
    func initializeX87() {
        fcw = 0x037f
        setFSWTurning(0)
        abridgedTags = 0
        instructionPointer = 0
        self[Self.operandPointer] = UInt64(0)
        self[Self.opcode] = UInt16(0)
    }

    /// What every MMX instruction but EMMS does (SDM Vol. 1 §9.5.1): TOP 0, all tags valid.
    func enterMMX() {
        setFSWTurning(fsw & ~(7 << X87Status.topShift))
        abridgedTags = 0xff
    }

    /// The full tag word (SDM Vol. 1 §8.1.7): two bits a physical register, by its contents.
    var fullTags: UInt16 {
        get {
            var tags: UInt16 = 0
            for physical in UInt8(0)..<8 {
                var tag: UInt16 = 3
                if abridgedTags & 1 << physical != 0 {
                    let (mantissa, signed) = register(physical &- top)
                    let exponent = signed & 0x7fff
                    if exponent == 0 {
                        tag = mantissa == 0 ? 1 : 2
                    } else {
                        tag = exponent == 0x7fff || mantissa >> 63 == 0 ? 2 : 0
                    }
                }
                tags |= tag << UInt16(2 * physical)
            }
            return tags
        }
        nonmutating set {
            var abridged: UInt8 = 0
            for physical in UInt8(0)..<8 where newValue >> UInt16(2 * physical) & 3 != 3 {
                abridged |= 1 << physical
            }
            abridgedTags = abridged
        }
    }
}
