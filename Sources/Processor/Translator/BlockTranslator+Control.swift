import CZydis
import X86

/// The stack and jumps.
extension BlockTranslator {
    // MARK: The stack

    /// R10 := RSP - 8, and its host operand.
    private mutating func probePush() -> (operand: HostOperand, miss: Int) {
        assembler.lea(GuestRegisters.first, .at(GuestRegisters.stackPointer, -8))
        return probe(size: 8, write: true)
    }

    private mutating func moveStackPointer(_ distance: Int32) {
        assembler.lea(GuestRegisters.stackPointer, .at(GuestRegisters.stackPointer, distance))
    }

    mutating func push(_ number: UInt8, _ op: OpRef) -> Bool {
        guard op.width == 8 else { return false }
        let probed = probePush()
        let host = GuestRegisters.host(number)
        if host == nil { assembler.load(GuestRegisters.second, GuestRegisters.guest(number)) }
        assembler.store(host ?? GuestRegisters.second, probed.operand)
        moveStackPointer(-8)
        slowPath([probed.miss])
        return true
    }

    mutating func pushImmediate(_ op: OpRef) -> Bool {
        guard op.width == 8 else { return false }
        let probed = probePush()
        assembler.instruction(.moveImmediate, 0, probed.operand)
        assembler.imm32(Int32(truncatingIfNeeded: Int64(bitPattern: op.immediate)))
        moveStackPointer(-8)
        slowPath([probed.miss])
        return true
    }

    mutating func pushOperand(_ i: Instruction, _ op: OpRef) -> Bool {
        guard op.width == 8 else { return false }
        if i.encoding.mod == 3 { return push(i.rm, op) }
        guard canAddress(op) else { return false }
        linearAddress(op)
        let source = probe(size: 8, write: false)
        assembler.load(GuestRegisters.second, source.operand)
        assembler.store(GuestRegisters.second, StateField.callTarget)
        pushStored(after: [source.miss])
        return true
    }

    /// Pushes what is in `callTarget`.
    /// - Parameter misses: jumps to the handler's call before.
    mutating func pushStored(after misses: [Int] = []) {
        let probed = probePush()
        assembler.load(GuestRegisters.second, StateField.callTarget)
        assembler.store(GuestRegisters.second, probed.operand)
        moveStackPointer(-8)
        slowPath(misses + [probed.miss])
    }

    mutating func pop(_ number: UInt8, _ op: OpRef) -> Bool {
        guard op.width == 8, number != 4 else { return false }
        assembler.move(GuestRegisters.first, GuestRegisters.stackPointer)
        let probed = probe(size: 8, write: false)
        if let host = GuestRegisters.host(number) {
            assembler.load(host, probed.operand)
        } else {
            assembler.load(GuestRegisters.second, probed.operand)
            assembler.store(GuestRegisters.second, GuestRegisters.guest(number))
        }
        moveStackPointer(8)
        slowPath([probed.miss])
        return true
    }

    mutating func leave(_ op: OpRef) -> Bool {
        guard op.width == 8 else { return false }
        assembler.move(GuestRegisters.first, HostRegister.rbp)
        let probed = probe(size: 8, write: false)
        assembler.load(HostRegister.rbp, probed.operand)
        assembler.lea(GuestRegisters.stackPointer, .at(GuestRegisters.first, 8))
        slowPath([probed.miss])
        return true
    }

    // MARK: Jumps

    /// Jumps, calls and returns of the one-byte map.
    /// - Returns: whether nothing follows; nil where it is none of these.
    mutating func control(_ i: Instruction, _ op: OpRef) -> Bool? {
        switch i.encoding.opcode {
        case 0x70...0x7f: return conditional(i, op)
        case 0xe9, 0xeb: return direct(op)
        case 0xe8: return call(op)
        case 0xc2, 0xc3: return ret(op)
        case 0xff where i.encoding.reg == 2: return indirect(i, op, isCall: true)
        case 0xff where i.encoding.reg == 4: return indirect(i, op, isCall: false)
        default: return nil
        }
    }

    mutating func twoByteControl(_ i: Instruction, _ op: OpRef) -> Bool? {
        i.encoding.opcode & 0xf0 == 0x80 ? conditional(i, op) : nil
    }

    private static func isNear(_ op: OpRef) -> Bool {
        Int32(exactly: Int64(bitPattern: op.immediate)) != nil
    }

    private mutating func conditional(_ i: Instruction, _ op: OpRef) -> Bool? {
        guard Self.isNear(op) else { return nil }
        if Self.isInPage(op.immediate) {
            jumpWithinPage(if: i.encoding.opcode, Int(op.immediate))
        } else {
            jumpOut(if: i.encoding.opcode)
        }
        next()
        return true
    }

    private mutating func direct(_ op: OpRef) -> Bool? {
        guard Self.isNear(op) else { return nil }
        if Self.isInPage(op.immediate) {
            jumpWithinPage(Int(op.immediate))
        } else {
            target(op.immediate)
            let miss = lookUpTarget()
            jumpToFound()
            slowPath([miss])
        }
        return true
    }

    /// Stores the return address; RSP moves.
    /// - Returns: the jump of a miss.
    private mutating func pushReturn(_ op: OpRef) -> Int {
        let probed = probePush()
        assembler.load(GuestRegisters.second, StateField.pageRIP)
        assembler.lea(
            GuestRegisters.second, .at(GuestRegisters.second, Int32(op.nextOffset)))
        assembler.store(GuestRegisters.second, probed.operand)
        moveStackPointer(-8)
        return probed.miss
    }

    private mutating func call(_ op: OpRef) -> Bool? {
        guard Self.isNear(op) else { return nil }
        if Self.isInPage(op.immediate) {
            let miss = pushReturn(op)
            jumpWithinPage(Int(op.immediate))
            slowPath([miss])
        } else {
            target(op.immediate)
            callFound(op, [])
        }
        return true
    }

    /// Calls what is at the RIP in R10. It is looked up first: where it is not found, the handler
    /// checks it before anything is pushed.
    private mutating func callFound(_ op: OpRef, _ misses: [Int]) {
        let unknown = lookUpTarget()
        assembler.load(GuestRegisters.scratch, foundHost)
        assembler.store(GuestRegisters.scratch, StateField.callHost)
        assembler.store(GuestRegisters.first, StateField.callTarget)
        let miss = pushReturn(op)
        assembler.load(GuestRegisters.first, StateField.callTarget)
        assembler.instruction(.group5, 4, StateField.callHost, wide: false)
        slowPath(misses + [unknown, miss])
    }

    private mutating func ret(_ op: OpRef) -> Bool? {
        guard op.width == 8 else { return nil }
        assembler.move(GuestRegisters.first, GuestRegisters.stackPointer)
        let probed = probe(size: 8, write: false)
        assembler.load(GuestRegisters.first, probed.operand)
        let unknown = lookUpTarget()
        moveStackPointer(8 + Int32(truncatingIfNeeded: op.immediate & 0xffff))
        jumpToFound()
        slowPath([probed.miss, unknown])
        return true
    }

    private mutating func indirect(_ i: Instruction, _ op: OpRef, isCall: Bool) -> Bool? {
        guard op.width == 8 else { return nil }
        var misses: [Int] = []
        if i.encoding.mod == 3 {
            if let host = GuestRegisters.host(i.rm) {
                assembler.move(GuestRegisters.first, host)
            } else {
                assembler.load(GuestRegisters.first, GuestRegisters.guest(i.rm))
            }
        } else {
            guard canAddress(op) else { return nil }
            linearAddress(op)
            let probed = probe(size: 8, write: false)
            assembler.load(GuestRegisters.first, probed.operand)
            misses = [probed.miss]
        }
        if isCall {
            callFound(op, misses)
        } else {
            let unknown = lookUpTarget()
            jumpToFound()
            slowPath(misses + [unknown])
        }
        return true
    }
}
