import CZydis
import X86

/// Turns a decoded instruction into an op: operands first, the handler after.
extension Processor {
    /// The op for an instruction that ends `nextOffset` bytes behind the start of its block's page.
    func makeOp(_ instruction: Instruction, _ mode: CodeMode, nextOffset: Int) -> Op {
        var op = Op(handler: Miscellaneous.undefined)
        op.nextOffset = UInt16(truncatingIfNeeded: nextOffset)
        op.length = instruction.length
        op.prefixes = instruction.prefixes
        op.width = instruction.operandBytes
        op.sourceWidth = instruction.addressBytes
        for index in 0..<instruction.operandCount {
            place(instruction[index], at: index, in: &op, mode, instruction.addressBytes)
        }
        if IntegerSelection.select(instruction, &op, mode, self)
            || SystemSelection.select(instruction, &op, mode, self)
            || VectorSelection.select(instruction, &op, mode, self)
        {
            return op
        }
        op.handler = Miscellaneous.undefined
        return op
    }

    /// An op that raises #UD at `nextOffset`, where an undefined encoding starts.
    func undefinedOp(nextOffset: Int, _ handler: Handler = Miscellaneous.undefined) -> Op {
        var op = Op(handler: handler)
        op.nextOffset = UInt16(truncatingIfNeeded: nextOffset)
        return op
    }

    /// Whether no instruction may follow in the same block.
    func endsBlock(_ instruction: Instruction) -> Bool {
        IntegerSelection.endsBlock(instruction.mnemonic)
            || SystemSelection.endsBlock(instruction.mnemonic)
    }

    private func place(
        _ operand: Operand, at index: Int, in op: inout Op, _ mode: CodeMode, _ addressBytes: UInt8
    ) {
        switch operand {
        case .none, .pointer: break
        case .register(let register, _):
            guard let offset = RegisterOffset.of(register) else { break }
            if index == 0 {
                op.a = offset
                op.destination = .register
            } else if index == 1 {
                op.b = offset
                op.source = .register
            }
        case .memory(let memory):
            if index == 0 { op.destination = .memory }
            if index == 1 { op.source = .memory }
            op.base = RegisterOffset.ofAddress(memory.base)
            op.index = RegisterOffset.ofAddress(memory.index)
            op.scale = memory.scale
            op.displacement = memory.displacement
            if memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP {
                op.displacement &+= UInt64(op.nextOffset)
            }
            op.segment = RegisterOffset.segment(memory.segment)
            if mode == .long64 {
                if op.segment >= SegmentRegister.fs.rawValue {
                    op.segmentBase = StateOffset.segmentBase(op.segment)
                }
                op.addressing = addressBytes == 4 ? OpAddressing.address32 : 0
            } else {
                op.segmentBase = StateOffset.segmentBase(op.segment)
                op.addressing =
                    OpAddressing.checked
                    | (addressBytes == 2 ? OpAddressing.address16 : OpAddressing.address32)
            }
        case .immediate(let value, let relative):
            op.immediate = relative ? value &+ UInt64(op.nextOffset) : value
            if index == 0 { op.destination = .immediate }
            if index == 1 { op.source = .immediate }
        }
    }
}

/// Zydis's registers as state offsets and numbers.
enum RegisterOffset {
    /// A general register of any width; nil for others.
    static func of(_ register: ZydisRegister) -> UInt16? {
        let raw = register.rawValue
        func number(_ first: ZydisRegister, _ last: ZydisRegister) -> UInt8? {
            raw >= first.rawValue && raw <= last.rawValue
                ? UInt8(truncatingIfNeeded: raw &- first.rawValue) : nil
        }
        if let wide = number(ZYDIS_REGISTER_RAX, ZYDIS_REGISTER_R15)
            ?? number(ZYDIS_REGISTER_EAX, ZYDIS_REGISTER_R15D)
            ?? number(ZYDIS_REGISTER_AX, ZYDIS_REGISTER_R15W)
        {
            return StateOffset.register(wide)
        }
        // AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B … R15B
        if let byte = number(ZYDIS_REGISTER_AL, ZYDIS_REGISTER_R15B) {
            if byte < 4 { return StateOffset.low8(byte) }
            if byte < 8 { return StateOffset.high8(byte) }
            return StateOffset.low8(byte - 4)
        }
        return nil
    }

    /// The base or index register of an address.
    static func ofAddress(_ register: ZydisRegister) -> UInt16 {
        if register == ZYDIS_REGISTER_RIP || register == ZYDIS_REGISTER_EIP {
            return StateOffset.blockRIP
        }
        return of(register) ?? StateOffset.zero
    }

    /// The number of a segment register; DS where it is none.
    static func segment(_ register: ZydisRegister) -> UInt8 {
        switch register {
        case ZYDIS_REGISTER_ES: 0
        case ZYDIS_REGISTER_CS: 1
        case ZYDIS_REGISTER_SS: 2
        case ZYDIS_REGISTER_FS: 4
        case ZYDIS_REGISTER_GS: 5
        default: 3
        }
    }

    static func isGeneral(_ register: ZydisRegister) -> Bool { of(register) != nil }
}

extension StateOffset {
    /// Where the base of segment register `number` lies.
    static func segmentBase(_ number: UInt8) -> UInt16 {
        let segments = MemoryLayout<State>.offset(of: \State.segments) ?? 0
        return UInt16(segments + Int(number) * MemoryLayout<Segment>.stride)
    }
}
