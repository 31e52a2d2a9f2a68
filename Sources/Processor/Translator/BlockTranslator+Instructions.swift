import CZydis
import X86

/// What becomes of each instruction.
extension BlockTranslator {
    /// Translates one instruction.
    /// - Returns: whether nothing follows it.
    mutating func instruction(_ i: Instruction, _ op: OpRef) -> Bool {
        if i.encoding.isLegacy, !op.isUndefined {
            if i.encoding.map == 0 {
                if let ends = control(i, op) { return ends }
                if oneByte(i, op) { return false }
            } else if i.encoding.map == 1 {
                if let ends = twoByteControl(i, op) { return ends }
                if twoByte(i, op) { return false }
            }
            if vector(i, op) { return false }
        }
        if system(i, op) { return false }
        callHandler()
        guard IntegerSelection.endsBlock(i.mnemonic) || SystemSelection.endsBlock(i.mnemonic)
        else { return false }
        // What it changed is looked at between blocks.
        target(UInt64(op.nextOffset))
        assembler.jump(to: memory.sharedCode.exit)
        return true
    }

    /// The one-byte map.
    private mutating func oneByte(_ i: Instruction, _ op: OpRef) -> Bool {
        let opcode = i.encoding.opcode
        let isByte = opcode & 1 == 0
        let encoding = HostEncoding(opcode: opcode, byteReg: isByte, byteRM: isByte)
        let group = HostEncoding(opcode: opcode, byteRM: isByte)
        switch opcode {
        case 0x00...0x3f where opcode & 7 < 4:
            let writes = opcode >> 3 != 7
            let destination = writes ? Access.update : .read
            return opcode & 2 == 0
                ? again(i, op, Form(encoding: encoding, reg: .read, rm: destination))
                : again(i, op, Form(encoding: encoding, reg: destination, rm: .read))
        case 0x00...0x3f where opcode & 7 < 6: return verbatim(i)
        case 0x50...0x57: return push(opcode & 7 | (i.rex & 1) << 3, op)
        case 0x58...0x5f: return pop(opcode & 7 | (i.rex & 1) << 3, op)
        case 0x63:
            return again(
                i, op, Form(encoding: HostEncoding(opcode: opcode), reg: .write, rm: .read))
        case 0x68, 0x6a: return pushImmediate(op)
        case 0x69, 0x6b:
            let plain = HostEncoding(opcode: opcode)
            return again(
                i, op, Form(encoding: plain, reg: .write, rm: .read, hasImmediate: true),
                fix: .product)
        case 0x80, 0x81, 0x83:
            let encoding = HostEncoding(opcode: opcode, byteRM: opcode == 0x80)
            let writes = i.encoding.reg != 7
            return again(
                i, op,
                Form(
                    encoding: encoding, reg: .none, rm: writes ? .update : .read,
                    hasImmediate: true))
        case 0x84, 0x85: return again(i, op, Form(encoding: encoding, reg: .read, rm: .read))
        case 0x86, 0x87: return again(i, op, Form(encoding: encoding, reg: .update, rm: .update))
        case 0x88, 0x89: return again(i, op, Form(encoding: encoding, reg: .read, rm: .write))
        case 0x8a, 0x8b: return again(i, op, Form(encoding: encoding, reg: .write, rm: .read))
        case 0x8d: return loadAddress(i, op)
        case 0x90...0x97:
            if i.mnemonic == ZYDIS_MNEMONIC_NOP || i.mnemonic == ZYDIS_MNEMONIC_PAUSE {
                return true
            }
            guard i.mnemonic == ZYDIS_MNEMONIC_XCHG else { return false }
            return again(
                i, op,
                Form(
                    encoding: HostEncoding(opcode: 0x87), reg: .update, rm: .update,
                    registerInOpcode: opcode & 7 | (i.rex & 1) << 3))
        case 0x98, 0x99, 0xa8, 0xa9, 0xf5, 0xf8, 0xf9: return verbatim(i)
        case 0xb0...0xbf: return moveImmediate(i, op)
        case 0xc0, 0xc1, 0xd0...0xd3: return shift(i, op, group)
        case 0xc6, 0xc7:
            guard i.mnemonic == ZYDIS_MNEMONIC_MOV else { return false }
            return again(i, op, Form(encoding: group, reg: .none, rm: .write, hasImmediate: true))
        case 0xc9: return leave(op)
        case 0xf6, 0xf7:
            switch i.encoding.reg {
            case 0, 1:
                return again(
                    i, op, Form(encoding: group, reg: .none, rm: .read, hasImmediate: true))
            case 2, 3: return again(i, op, Form(encoding: group, reg: .none, rm: .update))
            case 4, 5:
                return again(i, op, Form(encoding: group, reg: .none, rm: .read), fix: .product)
            default: return false
            }
        case 0xfe, 0xff:
            if i.encoding.reg < 2 {
                return again(i, op, Form(encoding: group, reg: .none, rm: .update))
            }
            return opcode == 0xff && i.encoding.reg == 6 && pushOperand(i, op)
        default: return false
        }
    }

    /// The map behind 0F.
    private mutating func twoByte(_ i: Instruction, _ op: OpRef) -> Bool {
        let opcode = i.encoding.opcode
        let isByte = opcode & 1 == 0
        func encoding(byteReg: Bool = false, byteRM: Bool = false) -> HostEncoding {
            HostEncoding(map: 1, opcode: opcode, byteReg: byteReg, byteRM: byteRM)
        }
        switch opcode {
        case 0x0d, 0x18...0x1f:
            switch i.mnemonic {
            case ZYDIS_MNEMONIC_NOP, ZYDIS_MNEMONIC_PREFETCH, ZYDIS_MNEMONIC_PREFETCHW,
                ZYDIS_MNEMONIC_PREFETCHT0, ZYDIS_MNEMONIC_PREFETCHT1, ZYDIS_MNEMONIC_PREFETCHT2,
                ZYDIS_MNEMONIC_PREFETCHNTA:
                return true
            default: return false
            }
        case 0x40...0x4f: return again(i, op, Form(encoding: encoding(), reg: .update, rm: .read))
        case 0x90...0x9f:
            return again(i, op, Form(encoding: encoding(byteRM: true), reg: .none, rm: .write))
        case 0xa3:
            return i.encoding.mod == 3
                && again(i, op, Form(encoding: encoding(), reg: .read, rm: .read))
        case 0xab, 0xb3, 0xbb:
            return i.encoding.mod == 3
                && again(i, op, Form(encoding: encoding(), reg: .read, rm: .update))
        case 0xa4, 0xac:
            guard !flagsSeen[index], !Self.isNarrow(i) else { return false }
            return again(
                i, op, Form(encoding: encoding(), reg: .read, rm: .update, hasImmediate: true))
        case 0xa5, 0xad:
            guard !flagsSeen[index], !Self.isNarrow(i) else { return false }
            return again(
                i, op, Form(encoding: encoding(), reg: .read, rm: .update), counts: true)
        case 0xaf:
            return again(
                i, op, Form(encoding: encoding(), reg: .update, rm: .read), fix: .product)
        case 0xb0, 0xb1:
            guard i.encoding.mod != 3, GuestRegisters.host(i.reg) != nil else { return false }
            return again(
                i, op,
                Form(
                    encoding: encoding(byteReg: isByte, byteRM: isByte), reg: .read, rm: .update))
        case 0xb6, 0xbe:
            return again(
                i, op, Form(encoding: encoding(byteRM: true), reg: .write, rm: .read))
        case 0xb7, 0xbf: return again(i, op, Form(encoding: encoding(), reg: .write, rm: .read))
        case 0xba:
            let access = i.encoding.reg == 4 ? Access.read : .update
            return again(
                i, op, Form(encoding: encoding(), reg: .none, rm: access, hasImmediate: true))
        case 0xbc, 0xbd: return scan(i, op)
        case 0xc0, 0xc1:
            return again(
                i, op,
                Form(
                    encoding: encoding(byteReg: isByte, byteRM: isByte), reg: .update, rm: .update))
        case 0xc8...0xcf: return swapBytes(i)
        default: return false
        }
    }

    /// Register and immediate operands that are themselves on the host.
    private mutating func verbatim(_ i: Instruction) -> Bool {
        for index in 0..<i.operandCount {
            if i[index].isMemory { return false }
        }
        if Self.isNarrow(i) { assembler.bytes(0x66) }
        if Self.isWide(i) { assembler.bytes(0x48) }
        assembler.bytes(i.encoding.opcode)
        appendImmediate(i)
        return true
    }

    private mutating func shift(_ i: Instruction, _ op: OpRef, _ group: HostEncoding) -> Bool {
        let byCounter = i.encoding.opcode >= 0xd2
        let isImmediate = i.encoding.opcode < 0xd0
        let isRotate = i.encoding.reg < 4
        let form = Form(encoding: group, reg: .none, rm: .update, hasImmediate: isImmediate)
        if isRotate {
            // ROL and ROR; of RCL and RCR those by one.
            if i.encoding.reg >= 2, byCounter || isImmediate { return false }
            if byCounter { return again(i, op, form, counts: true) }
            return again(i, op, form)
        }
        if byCounter {
            if flagsSeen[index] { return !group.byteRM && shiftByCounter(i, op) }
            return again(i, op, form, counts: true)
        }
        if !flagsSeen[index] { return again(i, op, form) }
        let mask: UInt64 = op.width == 8 ? 63 : 31
        let count = op.immediate & mask
        guard i.encoding.mod == 3, count != 0, count < UInt64(op.width) * 8 else { return false }
        return again(i, op, form, fix: .shift)
    }

    private mutating func loadAddress(_ i: Instruction, _ op: OpRef) -> Bool {
        guard canAddress(op), !Self.isNarrow(i) else { return false }
        let host = GuestRegisters.host(i.reg)
        let result = host ?? GuestRegisters.first
        effectiveAddress(op, into: result, wide: Self.isWide(i))
        if host == nil { assembler.store(result, GuestRegisters.guest(i.reg)) }
        return true
    }

    /// B0…BF.
    private mutating func moveImmediate(_ i: Instruction, _ op: OpRef) -> Bool {
        guard i.encoding.opcode >= 0xb8, !Self.isNarrow(i) else { return false }
        let number = i.encoding.opcode & 7 | (i.rex & 1) << 3
        let host = GuestRegisters.host(number)
        assembler.constant(host ?? GuestRegisters.first, op.immediate)
        if host == nil { assembler.store(GuestRegisters.first, GuestRegisters.guest(number)) }
        return true
    }

    private mutating func swapBytes(_ i: Instruction) -> Bool {
        guard !Self.isNarrow(i) else { return false }
        let number = i.encoding.opcode & 7 | (i.rex & 1) << 3
        let host = GuestRegisters.host(number)
        let register = host ?? GuestRegisters.first
        if host == nil { assembler.load(register, GuestRegisters.guest(number)) }
        let rex: UInt8 = (Self.isWide(i) ? 8 : 0) | (register >= 8 ? 1 : 0)
        if rex != 0 { assembler.bytes(0x40 | rex) }
        assembler.bytes(0x0f, 0xc8 | register & 7)
        if host == nil { assembler.store(register, GuestRegisters.guest(number)) }
        return true
    }

    /// BSF and BSR: the interpreter's flags are those of TEST of the source.
    private mutating func scan(_ i: Instruction, _ op: OpRef) -> Bool {
        guard i.mnemonic == ZYDIS_MNEMONIC_BSF || i.mnemonic == ZYDIS_MNEMONIC_BSR,
            !Self.isNarrow(i), let result = GuestRegisters.host(i.reg)
        else { return false }
        let wide = Self.isWide(i)
        let source = GuestRegisters.first
        var misses: [Int] = []
        if i.encoding.mod == 3 {
            if let host = GuestRegisters.host(i.rm) {
                assembler.instruction(
                    .moveToRegister, source, .register(host), wide: wide)
            } else {
                assembler.load(source, GuestRegisters.guest(i.rm))
            }
        } else {
            guard canAddress(op) else { return false }
            linearAddress(op)
            let probed = probe(size: wide ? 8 : 4, write: false)
            misses = [probed.miss]
            assembler.instruction(.moveToRegister, source, probed.operand, wide: wide)
        }
        assembler.instruction(
            HostEncoding(map: 1, opcode: i.encoding.opcode), result, .register(source), wide: wide)
        if flagsSeen[index] {
            assembler.instruction(.test, source, .register(source), wide: wide)
        }
        if !misses.isEmpty { slowPath(misses) }
        return true
    }
}
