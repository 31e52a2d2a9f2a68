import X86

/// A two-operand operation that sets the flags.
protocol BinaryOperation {
    /// Whether the result goes to the destination (not so for CMP and TEST).
    static var writes: Bool { get }
    static func apply<W: Word>(_ core: Core, _ a: W, _ b: W) -> W
}

extension BinaryOperation {
    static var writes: Bool { true }
}

enum Add: BinaryOperation {
    @inline(__always) static func apply<W: Word>(_ core: Core, _ a: W, _ b: W) -> W {
        let result = a &+ b
        core.setAddFlags(a, b, result)
        return result
    }
}

enum AddWithCarry: BinaryOperation {
    @inline(__always) static func apply<W: Word>(_ core: Core, _ a: W, _ b: W) -> W {
        let result = a &+ b &+ (core.carryFlag ? 1 : 0)
        core.setAddFlags(a, b, result)
        return result
    }
}

enum Subtract: BinaryOperation {
    @inline(__always) static func apply<W: Word>(_ core: Core, _ a: W, _ b: W) -> W {
        let result = a &- b
        core.setSubtractFlags(a, b, result)
        return result
    }
}

enum SubtractWithBorrow: BinaryOperation {
    @inline(__always) static func apply<W: Word>(_ core: Core, _ a: W, _ b: W) -> W {
        let result = a &- b &- (core.carryFlag ? 1 : 0)
        core.setSubtractFlags(a, b, result)
        return result
    }
}

enum Compare: BinaryOperation {
    static var writes: Bool { false }
    @inline(__always) static func apply<W: Word>(_ core: Core, _ a: W, _ b: W) -> W {
        core.setSubtractFlags(a, b, a &- b)
        return a
    }
}

enum And: BinaryOperation {
    @inline(__always) static func apply<W: Word>(_ core: Core, _ a: W, _ b: W) -> W {
        core.setLogicFlags(a & b)
        return a & b
    }
}

enum Or: BinaryOperation {
    @inline(__always) static func apply<W: Word>(_ core: Core, _ a: W, _ b: W) -> W {
        core.setLogicFlags(a | b)
        return a | b
    }
}

enum ExclusiveOr: BinaryOperation {
    @inline(__always) static func apply<W: Word>(_ core: Core, _ a: W, _ b: W) -> W {
        core.setLogicFlags(a ^ b)
        return a ^ b
    }
}

enum Test: BinaryOperation {
    static var writes: Bool { false }
    @inline(__always) static func apply<W: Word>(_ core: Core, _ a: W, _ b: W) -> W {
        core.setLogicFlags(a & b)
        return a
    }
}

// MARK: The shapes of operands

/// Register, register.
@inline(__always)
func binaryRR<O: BinaryOperation, W: Word>(_: O.Type, _: W.Type, _ c: UInt, _ o: UInt) -> Int32 {
    let core = Core(c)
    let op = OpRef(o)
    let result: W = O.apply(core, core[op.a], core[op.b])
    if O.writes { core.setRegister(op.a, result) }
    return 0
}

/// Register, immediate.
@inline(__always)
func binaryRI<O: BinaryOperation, W: Word>(_: O.Type, _: W.Type, _ c: UInt, _ o: UInt) -> Int32 {
    let core = Core(c)
    let op = OpRef(o)
    let result: W = O.apply(core, core[op.a], W(truncatingIfNeeded: op.immediate))
    if O.writes { core.setRegister(op.a, result) }
    return 0
}

/// Register, memory.
@inline(__always)
func binaryRM<O: BinaryOperation, W: Word>(_: O.Type, _: W.Type, _ c: UInt, _ o: UInt) -> Int32 {
    let core = Core(c)
    let op = OpRef(o)
    guard let source = core.readMemory(W.self, op) else { return Status.fault.rawValue }
    let result: W = O.apply(core, core[op.a], source)
    if O.writes { core.setRegister(op.a, result) }
    return 0
}

/// Memory, register.
@inline(__always)
func binaryMR<O: BinaryOperation, W: Word>(_: O.Type, _: W.Type, _ c: UInt, _ o: UInt) -> Int32 {
    let core = Core(c)
    let op = OpRef(o)
    return toMemory(O.self, W.self, core, op, core[op.b])
}

/// Memory, immediate.
@inline(__always)
func binaryMI<O: BinaryOperation, W: Word>(_: O.Type, _: W.Type, _ c: UInt, _ o: UInt) -> Int32 {
    let op = OpRef(o)
    return toMemory(O.self, W.self, Core(c), op, W(truncatingIfNeeded: op.immediate))
}

@inline(__always)
private func toMemory<O: BinaryOperation, W: Word>(
    _: O.Type, _: W.Type, _ core: Core, _ op: OpRef, _ source: W
) -> Int32 {
    if O.writes {
        guard core.updateMemory(op, { (old: W) in O.apply(core, old, source) }) else {
            return Status.fault.rawValue
        }
    } else {
        guard let old = core.readMemory(W.self, op) else { return Status.fault.rawValue }
        _ = O.apply(core, old, source)
    }
    return 0
}

// MARK: One operand

enum Increment: SizedInstruction {
    @inline(__always)
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        core.updateDestination(op) { (old: W) in
            let result = old &+ 1
            let carry = core.carryFlag
            core.setAddFlags(old, 1, result)
            core.setCarry(carry, overflow: result == W(1) << (W.bitWidth - 1))
            return result
        } ? .next : .fault
    }
}

enum Decrement: SizedInstruction {
    @inline(__always)
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        core.updateDestination(op) { (old: W) in
            let result = old &- 1
            let carry = core.carryFlag
            core.setSubtractFlags(old, 1, result)
            core.setCarry(carry, overflow: old == W(1) << (W.bitWidth - 1))
            return result
        } ? .next : .fault
    }
}

enum Negate: SizedInstruction {
    @inline(__always)
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        core.updateDestination(op) { (old: W) in
            let result = 0 &- old
            core.setSubtractFlags(0, old, result)
            return result
        } ? .next : .fault
    }
}

enum Not: SizedInstruction {
    @inline(__always)
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        core.updateDestination(op) { (old: W) in ~old } ? .next : .fault
    }
}
