import X86

/// Small instructions without a family.
enum Miscellaneous {
    static let nothing: Handler = { _, _ in 0 }

    static let undefined: Handler = {
        plain($0, $1) { core, _ in core.invalidOpcode() }
    }

    /// The code is longer than 15 bytes (SDM Vol. 3A §6.15, #GP).
    static let tooLong: Handler = {
        plain($0, $1) { core, _ in core.generalProtection() }
    }

    /// CLC, STC, CMC (code 0, 1, 2).
    static let carry: Handler = {
        plain($0, $1) { core, op in
            let carry = op.code == 2 ? !core.carryFlag : op.code == 1
            core.setCarry(carry, overflow: core.overflowFlag)
            return .next
        }
    }

    /// CLD, STD (code 0, 1).
    static let direction: Handler = {
        plain($0, $1) { core, op in
            if op.code == 1 {
                core.state.systemFlags |= RFLAGS.direction
            } else {
                core.state.systemFlags &= ~RFLAGS.direction
            }
            return .next
        }
    }

    static let loadFlagsIntoAH: Handler = {
        plain($0, $1) { core, _ in
            let kept = RFLAGS.arithmetic & 0xff
            core[1] = UInt8(truncatingIfNeeded: core.arithmeticFlags & kept | RFLAGS.alwaysOne)
            return .next
        }
    }

    static let storeAHIntoFlags: Handler = {
        plain($0, $1) { core, _ in
            let value: UInt8 = core[1]
            core.setArithmeticFlags(
                core.arithmeticFlags & RFLAGS.overflow | UInt64(value) & 0xd5)
            return .next
        }
    }

    /// CBW, CWDE, CDQE by width: the accumulator's lower half, sign-extended.
    static let extendAccumulator: Handler = {
        plain($0, $1) { core, op in
            switch op.width {
            case 2:
                core[0] = UInt16(bitPattern: Int16(Int8(bitPattern: core[0, as: UInt8.self])))
            case 4:
                core[0] = UInt64(
                    UInt32(bitPattern: Int32(Int16(bitPattern: core[0, as: UInt16.self]))))
            default:
                core[0] = UInt64(
                    bitPattern: Int64(Int32(bitPattern: core[0, as: UInt32.self])))
            }
            return .next
        }
    }

    /// CWD, CDQ, CQO by width: DX becomes the accumulator's sign.
    static let signIntoDX: Handler = {
        plain($0, $1) { core, op in
            switch op.width {
            case 2: core[16] = core[0, as: UInt16.self] >> 15 != 0 ? UInt16.max : 0
            case 4: core[16] = core[0, as: UInt32.self] >> 31 != 0 ? UInt64(UInt32.max) : 0
            default: core[16] = core[0, as: UInt64.self] >> 63 != 0 ? UInt64.max : 0
            }
            return .next
        }
    }

    /// XLAT: AL from the table at rBX.
    static let translate: Handler = {
        plain($0, $1) { core, op in
            let mask = Branch.counterMask(op.sourceWidth)
            let offset = (core[.rbx] &+ UInt64(core[0, as: UInt8.self])) & mask
            guard let address = core.linearAddress(op.segment, offset, size: 1, write: false),
                let value = core.read(UInt8.self, linear: address)
            else { return .fault }
            core[0] = value
            return .next
        }
    }

    /// SALC (undocumented): AL becomes the carry.
    static let setALFromCarry: Handler = {
        plain($0, $1) { core, _ in
            core[0] = core.carryFlag ? UInt8.max : 0
            return .next
        }
    }

    /// CLFLUSH: a byte read as far as rights go; caches are not modelled.
    static let touch: Handler = {
        plain($0, $1) { core, op in
            core.readMemory(UInt8.self, op) == nil ? .fault : .next
        }
    }
}

/// The decimal adjustments, 16- and 32-bit code only (SDM Vol. 2A, AAA … DAS).
enum Decimal {
    /// AAA, AAS (code 0, 1).
    static let asciiAdjust: Handler = {
        plain($0, $1) { core, op in
            let value: UInt8 = core[0]
            let adjusts = value & 15 > 9 || core.adjustFlag
            if adjusts {
                let ax: UInt16 = core[0]
                core[0] = op.code == 0 ? ax &+ 0x106 : ax &- 0x106
            }
            let result: UInt8 = core[0, as: UInt8.self] & 15
            core[0] = result
            core.setFlags(result: result, carry: adjusts, overflow: false)
            if adjusts { core.state.flagAux |= 0x10 }
            return .next
        }
    }

    /// DAA, DAS (code 0, 1).
    static let decimalAdjust: Handler = {
        plain($0, $1) { core, op in
            let old: UInt8 = core[0]
            let oldCarry = core.carryFlag
            var value = old
            var carry = false
            let adjusts = old & 15 > 9 || core.adjustFlag
            if adjusts {
                value = op.code == 0 ? value &+ 6 : value &- 6
                carry = oldCarry || (op.code == 0 ? old > 0xf9 : old < 6)
            }
            if old > 0x99 || oldCarry {
                value = op.code == 0 ? value &+ 0x60 : value &- 0x60
                carry = true
            } else if op.code == 0 {
                carry = false
            }
            core[0] = value
            core.setFlags(result: value, carry: carry, overflow: false)
            if adjusts { core.state.flagAux |= 0x10 }
            return .next
        }
    }

    /// AAM: AL divided by the immediate; #DE for zero.
    static let multiplyAdjust: Handler = {
        plain($0, $1) { core, op in
            let base = UInt8(truncatingIfNeeded: op.immediate)
            guard base != 0 else { return core.raise(.divideError) }
            let value: UInt8 = core[0]
            core[1] = value / base
            core[0] = value % base
            core.setFlags(result: value % base, carry: false, overflow: false)
            return .next
        }
    }

    /// AAD.
    static let divideAdjust: Handler = {
        plain($0, $1) { core, op in
            let result =
                core[0, as: UInt8.self] &+ core[1, as: UInt8.self]
                &* UInt8(truncatingIfNeeded: op.immediate)
            core[0] = UInt16(result)
            core.setFlags(result: result, carry: false, overflow: false)
            return .next
        }
    }
}
