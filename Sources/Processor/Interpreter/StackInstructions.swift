import X86

enum Push: SizedInstruction {
    @inline(__always)
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        // PUSH has one operand, which decoding puts first.
        let value: W?
        switch op.destination {
        case .memory: value = core.readMemory(W.self, op)
        case .register: value = core[op.a]
        default: value = W(truncatingIfNeeded: op.immediate)
        }
        guard let value else { return .fault }
        return core.push(value) ? .next : .fault
    }

    static let register64: Handler = {
        let core = Core($0)
        return core.push(core[OpRef($1).a, as: UInt64.self]) ? 0 : Status.fault.rawValue
    }
}

enum Pop: SizedInstruction {
    @inline(__always)
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        guard let value = core.peek(W.self) else { return .fault }
        // The stack pointer moves before a memory destination's address is computed, and before
        // POP SP writes its result (SDM Vol. 2B, POP).
        let old = core[.rsp]
        core.dropFromStack(UInt64(W.bitWidth / 8))
        if core.writeDestination(value, op) { return .next }
        core[.rsp] = old
        return .fault
    }

    static let register64: Handler = {
        let core = Core($0)
        guard let value = core.peek(UInt64.self) else { return Status.fault.rawValue }
        core.dropFromStack(8)
        core[OpRef($1).a] = value
        return 0
    }
}

enum StackFrame {
    static let leave: Handler = {
        plain($0, $1) { core, op in
            let mask = core.stackMask
            let pointer = core[.rbp] & mask
            let size = UInt64(op.width)
            guard let address = core.linearAddress(.ss, pointer, size: size, write: false) else {
                return .fault
            }
            switch op.width {
            case 8:
                guard let value = core.read(UInt64.self, linear: address) else {
                    return failed(core)
                }
                core[.rbp] = value
            case 4:
                guard let value = core.read(UInt32.self, linear: address) else {
                    return failed(core)
                }
                core[.rbp] = UInt64(value)
            default:
                guard let value = core.read(UInt16.self, linear: address) else {
                    return failed(core)
                }
                core[UInt16(5 * 8)] = value
            }
            core.setStackPointer(pointer &+ size)
            return .next
        }
    }

    private static func failed(_ core: Core) -> Status {
        _ = core.stackAccessFailed()
        return .fault
    }

    /// ENTER: immediate is the frame's size, code the nesting level (0…31).
    ///
    /// All that it reads is read, and all that it writes and the new top of the stack are known to
    /// be writable, before anything is written: an ENTER that faults can be executed again, for
    /// what it reads may be what it overwrites.
    static let enter: Handler = {
        plain($0, $1) { core, op in
            let size = UInt64(op.width)
            let level = UInt64(op.code & 31)
            let oldStack = core[.rsp]
            let oldBase = core[.rbp]
            let frame = (oldStack &- size) & core.stackMask
            let last = (frame &- level &* size &- op.immediate) & core.stackMask
            var links = InlineArray<32, UInt64>(repeating: oldBase)
            links[Int(level)] = level > 0 ? frame : oldBase
            // In the order of the pushes: of several faults the first is raised.
            for index in 0...level {
                if index > 0 && index < level {
                    let source = (oldBase &- index &* size) & core.stackMask
                    guard let value = readWord(core, op.width, source) else {
                        return failed(core)
                    }
                    links[Int(index)] = value
                }
                guard canWrite(core, frame &- index &* size, size) else { return failed(core) }
            }
            // So does the new top, although nothing is written there (SDM Vol. 2A, ENTER).
            guard canWrite(core, last, size) else { return failed(core) }
            for index in 0...level where !pushWord(core, op.width, links[Int(index)]) {
                core[.rsp] = oldStack
                return .fault
            }
            core.setStackPointer(last)
            switch op.width {
            case 2: core[UInt16(5 * 8)] = UInt16(truncatingIfNeeded: frame)
            case 4: core[.rbp] = frame & 0xffff_ffff
            default: core[.rbp] = frame
            }
            return .next
        }
    }

    private static func canWrite(_ core: Core, _ offset: UInt64, _ size: UInt64) -> Bool {
        guard
            let address = core.linearAddress(
                .ss, offset & core.stackMask, size: size, write: true)
        else { return false }
        return core.processor.probe(address, size: Int(size), write: true)
    }

    private static func pushWord(_ core: Core, _ width: UInt8, _ value: UInt64) -> Bool {
        switch width {
        case 8: core.push(value)
        case 4: core.push(UInt32(truncatingIfNeeded: value))
        default: core.push(UInt16(truncatingIfNeeded: value))
        }
    }

    private static func readWord(_ core: Core, _ width: UInt8, _ offset: UInt64) -> UInt64? {
        guard let address = core.linearAddress(.ss, offset, size: UInt64(width), write: false)
        else { return nil }
        return switch width {
        case 8: core.read(UInt64.self, linear: address)
        case 4: core.read(UInt32.self, linear: address).map { UInt64($0) }
        default: core.read(UInt16.self, linear: address).map { UInt64($0) }
        }
    }

    /// PUSHA and PUSHAD.
    static let pushAll: Handler = {
        plain($0, $1) { core, op in
            let old = core[.rsp]
            for number in 0..<8 as Range<UInt8> {
                let value = number == 4 ? old : core[UInt16(number) * 8, as: UInt64.self]
                if !pushWord(core, op.width, value) {
                    core[.rsp] = old
                    return .fault
                }
            }
            return .next
        }
    }

    /// POPA and POPAD: the stack pointer's image is skipped.
    static let popAll: Handler = {
        plain($0, $1) { core, op in
            let size = UInt64(op.width)
            var values = InlineArray<8, UInt64>(repeating: 0)
            // Upwards: of two missing pages a fault names the lower.
            for number in (0..<8).reversed() {
                let offset = UInt64(7 - number) &* size
                if size == 2 {
                    guard let value = core.peek(UInt16.self, offset: offset) else { return .fault }
                    values[number] = UInt64(value)
                } else {
                    guard let value = core.peek(UInt32.self, offset: offset) else { return .fault }
                    values[number] = UInt64(value)
                }
            }
            for number in 0..<8 where number != 4 {
                if size == 2 {
                    core[UInt16(number) * 8] = UInt16(truncatingIfNeeded: values[number])
                } else {
                    core[UInt16(number) * 8] = values[number]
                }
            }
            core.dropFromStack(8 &* size)
            return .next
        }
    }
}
