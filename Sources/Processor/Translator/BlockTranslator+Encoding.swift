import X86

/// Encoding a guest instruction again, with host registers and addresses.
extension BlockTranslator {
    /// What an instruction does with an operand; `none` of the reg field: it extends the opcode.
    enum Access {
        case none, read, write, update

        var reads: Bool { self == .read || self == .update }
        var writes: Bool { self == .write || self == .update }
    }

    /// An instruction with ModRM.
    struct Form {
        var encoding: HostEncoding
        var reg: Access
        var rm: Access
        /// Bytes of immediate, copied.
        var hasImmediate = false
        /// The rm register, where it is in the opcode.
        var registerInOpcode: UInt8?
    }

    /// How the flags that the host leaves undefined become the interpreter's.
    enum Fix {
        case none
        /// SF, ZF and PF of the low half, AF clear; CF and OF are the host's, and are equal.
        case product
        /// AF clear.
        case shift
    }

    static func isWide(_ i: Instruction) -> Bool { i.prefixes & OpPrefix.rexW != 0 }
    static func isNarrow(_ i: Instruction) -> Bool {
        !isWide(i) && i.prefixes & OpPrefix.operandSize != 0
    }

    /// The host register that stands for a guest's: the second byte of one is marked.
    /// - Returns: nil for CH, which has no counterpart.
    private func hostRegister(_ number: UInt8, isByte: Bool, _ i: Instruction, temporary: UInt8)
        -> UInt8?
    {
        if isByte && !i.encoding.hasREX && number >= 4 && number < 8 {
            return number == 5 ? nil : HostRegister.highByte | number & 3
        }
        return GuestRegisters.host(number) ?? temporary
    }

    /// Encodes the running instruction again.
    /// - Parameter folds: RCX is needed for a count: the address is one register.
    /// - Returns: false, with nothing done, where it cannot be.
    mutating func again(
        _ i: Instruction, _ op: OpRef, _ form: Form, fix: Fix = .none, counts: Bool = false
    ) -> Bool {
        let isByte = form.encoding.byteRM && (form.encoding.byteReg || form.reg == .none)
        let wide = !isByte && Self.isWide(i)
        let narrow = !isByte && Self.isNarrow(i)
        let isMemory = form.registerInOpcode == nil && i.encoding.mod != 3
        let regNumber = form.registerInOpcode == nil ? i.reg : 0
        let rmNumber = form.registerInOpcode ?? i.rm

        var reg = i.encoding.reg
        var regInState = false
        if form.reg != .none {
            guard
                let host = hostRegister(
                    regNumber, isByte: form.encoding.byteReg, i, temporary: GuestRegisters.second)
            else { return false }
            reg = host
            regInState = host == GuestRegisters.second
        }
        var rm = HostOperand.register(0)
        var rmRegister: UInt8 = 0
        var rmInState = false
        if isMemory {
            guard canAddress(op), reg & HostRegister.highByte == 0 || form.reg == .none else {
                return false
            }
        } else {
            guard
                let host = hostRegister(
                    rmNumber, isByte: form.encoding.byteRM, i, temporary: GuestRegisters.first)
            else { return false }
            rmRegister = host
            rmInState = host == GuestRegisters.first
            rm = .register(host)
            // The second byte of a register and anything that needs REX exclude each other.
            let regHigh = form.reg != .none && reg & HostRegister.highByte != 0
            let rmHigh = host & HostRegister.highByte != 0
            if regHigh && !rmHigh && (host >= 4)
                || rmHigh && form.reg != .none && !regHigh && reg >= 4
                || (regHigh || rmHigh) && wide
            {
                return false
            }
        }

        var misses: [Int] = []
        if isMemory {
            linearAddress(op)
            let probed = probe(size: Self.memoryBytes(i), write: form.rm.writes)
            misses = [probed.miss]
            rm = probed.operand
            if counts {
                assembler.lea(GuestRegisters.first, rm)
                rm = .at(GuestRegisters.first)
            }
        }
        if counts { assembler.move(GuestRegisters.scratch, GuestRegisters.counter) }
        // A write of 8 or 16 bits keeps the rest of the register.
        let keeps = narrow || form.encoding.byteReg
        if regInState, form.reg.reads || keeps {
            assembler.load(reg, GuestRegisters.guest(regNumber))
        }
        if rmInState, form.rm.reads || narrow || form.encoding.byteRM {
            assembler.load(rmRegister, GuestRegisters.guest(rmNumber))
        }
        assembler.instruction(form.encoding, reg, rm, wide: wide, narrow: narrow)
        if form.hasImmediate { appendImmediate(i) }
        if flagsSeen[index] {
            switch fix {
            case .none: break
            case .product: fixProduct(form.reg == .none ? 0 : reg, wide, narrow, isByte)
            case .shift: fixShift(rmRegister, wide, narrow, isByte)
            }
        }
        if regInState, form.reg.writes { assembler.store(reg, GuestRegisters.guest(regNumber)) }
        if rmInState, form.rm.writes { assembler.store(rmRegister, GuestRegisters.guest(rmNumber)) }
        if !misses.isEmpty { slowPath(misses) }
        return true
    }

    mutating func appendImmediate(_ i: Instruction) {
        let start = Int(i.encoding.immediateOffset)
        for place in start..<min(start + Int(i.encoding.immediateBytes), 15) {
            assembler.append(CollectionOfOne(i.bytes[place]))
        }
    }

    static func memoryBytes(_ i: Instruction) -> Int {
        for index in 0..<i.operandCount {
            if case .memory(let memory) = i[index] { return Int(memory.bytes) }
        }
        return 8
    }

    private mutating func testResult(
        _ register: UInt8, _ wide: Bool, _ narrow: Bool, _ isByte: Bool
    ) {
        assembler.instruction(
            isByte ? .testByte : .test, register, .register(register), wide: wide, narrow: narrow)
    }

    /// TEST sets SF, ZF and PF and clears AF; ROR of CL by one sets CF and OF to its bit 0, which
    /// is OF as it was, and keeps the rest.
    private mutating func fixProduct(
        _ register: UInt8, _ wide: Bool, _ narrow: Bool, _ isByte: Bool
    ) {
        assembler.bytes(0x0f, 0x90, 0xc1)  // seto cl
        testResult(register, wide, narrow, isByte)
        assembler.bytes(0xd0, 0xc9)  // ror cl, 1
    }

    /// CL is CF and bit 7 of CH is OF; with CF clear RCR of CX by one makes them the flags again,
    /// and keeps the rest.
    private mutating func fixShift(
        _ register: UInt8, _ wide: Bool, _ narrow: Bool, _ isByte: Bool
    ) {
        assembler.bytes(0x0f, 0x92, 0xc1, 0x0f, 0x90, 0xc5, 0xd0, 0xcd)  // setc, seto, ror ch, 1
        testResult(register, wide, narrow, isByte)
        assembler.bytes(0x66, 0xd1, 0xd9)  // rcr cx, 1
    }

    /// SHL, SHR and SAR of a register of 4 or 8 bytes by CL: a count of zero leaves the flags.
    mutating func shiftByCounter(_ i: Instruction, _ op: OpRef) -> Bool {
        guard i.encoding.mod == 3, !Self.isNarrow(i) else { return false }
        let wide = Self.isWide(i)
        let host = GuestRegisters.host(i.rm)
        let register = host ?? GuestRegisters.first
        if host == nil { assembler.load(register, GuestRegisters.guest(i.rm)) }
        assembler.extract(
            GuestRegisters.scratch, GuestRegisters.counter,
            mask: wide ? StateField.wideCountMask : StateField.countMask)
        assembler.instruction(
            HostEncoding(opcode: 0xd3), i.encoding.reg, .register(register), wide: wide)
        if flagsSeen[index] {
            let isZero = assembler.jumpIfRCXZero()
            fixShift(register, wide, false, false)
            assembler.bindShort(isZero)
        }
        if host == nil { assembler.store(register, GuestRegisters.guest(i.rm)) }
        return true
    }
}
