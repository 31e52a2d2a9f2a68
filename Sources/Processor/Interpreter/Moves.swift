import X86

enum Move: SizedInstruction {
    @inline(__always)
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        guard let value = core.readSource(W.self, op) else { return .fault }
        return core.writeDestination(value, op) ? .next : .fault
    }
}

/// The shapes of MOV that matter for speed; others go through `Move`.
enum MoveHandlers {
    static func handler(_ op: Op) -> Handler {
        switch (op.destination, op.source, op.width) {
        case (.register, .register, 8): registerRegister64
        case (.register, .register, 4): registerRegister32
        case (.register, .memory, 8): load64
        case (.register, .memory, 4): load32
        case (.memory, .register, 8): store64
        case (.memory, .register, 4): store32
        case (.memory, .register, 1): store8
        case (.register, .immediate, 8), (.register, .immediate, 4): immediate
        default: any
        }
    }

    private static let any: Handler = { sized(Move.self, $0, $1) }
    private static let registerRegister64: Handler = {
        let core = Core($0)
        core[OpRef($1).a] = core[OpRef($1).b, as: UInt64.self]
        return 0
    }
    private static let registerRegister32: Handler = {
        let core = Core($0)
        core.setRegister(OpRef($1).a, core[OpRef($1).b, as: UInt32.self])
        return 0
    }
    private static let load64: Handler = { load(UInt64.self, Core($0), OpRef($1)) }
    private static let load32: Handler = { load(UInt32.self, Core($0), OpRef($1)) }
    private static let store64: Handler = { store(UInt64.self, Core($0), OpRef($1)) }
    private static let store32: Handler = { store(UInt32.self, Core($0), OpRef($1)) }
    private static let store8: Handler = { store(UInt8.self, Core($0), OpRef($1)) }
    private static let immediate: Handler = {
        Core($0)[OpRef($1).a] = OpRef($1).immediate
        return 0
    }

    @inline(__always)
    private static func load<W: Word>(_: W.Type, _ core: Core, _ op: OpRef) -> Int32 {
        guard let value = core.readMemory(W.self, op) else { return Status.fault.rawValue }
        core.setRegister(op.a, value)
        return 0
    }

    @inline(__always)
    private static func store<W: Word>(_: W.Type, _ core: Core, _ op: OpRef) -> Int32 {
        core.writeMemory(core[op.b, as: W.self], op) ? 0 : Status.fault.rawValue
    }
}

/// MOVZX, MOVSX, MOVSXD: the source is narrower than the destination.
enum Extend {
    static let zero: Handler = {
        plain($0, $1) { core, op in
            guard let value = source(core, op) else { return .fault }
            write(core, op, value)
            return .next
        }
    }

    static let sign: Handler = {
        plain($0, $1) { core, op in
            guard let value = source(core, op) else { return .fault }
            let shift = UInt64(64 - Int(op.sourceWidth & 15) * 8)
            write(core, op, UInt64(bitPattern: Int64(bitPattern: value << shift) >> Int64(shift)))
            return .next
        }
    }

    @inline(__always)
    private static func source(_ core: Core, _ op: OpRef) -> UInt64? {
        switch op.sourceWidth {
        case 1: core.readSource(UInt8.self, op).map { UInt64($0) }
        case 2: core.readSource(UInt16.self, op).map { UInt64($0) }
        case 4: core.readSource(UInt32.self, op).map { UInt64($0) }
        default: core.readSource(UInt64.self, op)
        }
    }

    @inline(__always)
    private static func write(_ core: Core, _ op: OpRef, _ value: UInt64) {
        switch op.width {
        case 2: core[op.a] = UInt16(truncatingIfNeeded: value)
        case 4: core[op.a] = value & 0xffff_ffff
        default: core[op.a] = value
        }
    }
}

enum LoadEffectiveAddress {
    static let handler: Handler = {
        let core = Core($0)
        let op = OpRef($1)
        let address = core.effectiveAddress(op)
        switch op.width {
        case 2: core[op.a] = UInt16(truncatingIfNeeded: address)
        case 4: core[op.a] = address & 0xffff_ffff
        default: core[op.a] = address
        }
        return 0
    }

    /// The commonest form: 64-bit result and address.
    static let wide: Handler = {
        let core = Core($0)
        let op = OpRef($1)
        core[op.a] =
            core[op.base, as: UInt64.self]
            &+ (core[op.index, as: UInt64.self] &<< UInt64(op.scale)) &+ op.displacement
        return 0
    }
}

/// XCHG; with memory always atomic (SDM Vol. 3A §8.1.2.1), which one host thread is.
enum Exchange: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        let other: W = core[op.b]
        var old: W = 0
        guard
            core.updateDestination(
                op,
                { (value: W) in
                    old = value
                    return other
                })
        else { return .fault }
        core.setRegister(op.b, old)
        return .next
    }
}

enum ExchangeAdd: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        let addend: W = core[op.b]
        var old: W = 0
        guard
            core.updateDestination(
                op,
                { (value: W) in
                    old = value
                    return Add.apply(core, value, addend)
                })
        else { return .fault }
        if op.destination == .register {
            // XADD r, r: the source gets the old destination first; same register: the sum stays.
            let sum: W = core[op.a]
            core.setRegister(op.b, old)
            core.setRegister(op.a, sum)
        } else {
            core.setRegister(op.b, old)
        }
        return .next
    }
}

enum CompareExchange: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        let expected: W = core[0]
        let desired: W = core[op.b]
        var old: W = 0
        // The destination is written in either case, which tracing and D observe (SDM Vol. 2A).
        let body = { (value: W) -> W in
            old = value
            return value == expected ? desired : value
        }
        if op.destination == .memory {
            guard core.updateMemory(op, body) else { return .fault }
        } else {
            // A register is not touched by a failed comparison, not even zero-extended.
            old = core[op.a]
            if old == expected { core.setRegister(op.a, desired) }
        }
        core.setSubtractFlags(expected, old, expected &- old)
        if old != expected { core.setRegister(0, old) }
        return .next
    }
}

/// CMPXCHG8B and CMPXCHG16B.
enum CompareExchangeWide {
    static let handler8: Handler = {
        plain($0, $1) { core, op in
            let expected = core[.rax] & 0xffff_ffff | core[.rdx] << 32
            let desired = core[.rbx] & 0xffff_ffff | core[.rcx] << 32
            var old: UInt64 = 0
            guard
                core.updateMemory(
                    op,
                    { (value: UInt64) in
                        old = value
                        return value == expected ? desired : value
                    })
            else { return .fault }
            setZero(core, old == expected)
            if old != expected {
                core[.rax] = old & 0xffff_ffff
                core[.rdx] = old >> 32
            }
            return .next
        }
    }

    static let handler16: Handler = {
        plain($0, $1) { core, op in
            guard let address = core.linearAddress(op, size: 16, write: true) else {
                return .fault
            }
            if address & 15 != 0 { return core.generalProtection() }
            guard core.processor.probe(address, size: 16, write: true),
                let low = core.read(UInt64.self, linear: address),
                let high = core.read(UInt64.self, linear: address &+ 8)
            else { return .fault }
            let equal = low == core[.rax] && high == core[.rdx]
            guard core.write(equal ? core[.rbx] : low, linear: address),
                core.write(equal ? core[.rcx] : high, linear: address &+ 8)
            else { return .fault }
            setZero(core, equal)
            if !equal {
                core[.rax] = low
                core[.rdx] = high
            }
            return .next
        }
    }

    private static func setZero(_ core: Core, _ zero: Bool) {
        core.setArithmeticFlags(
            core.arithmeticFlags & ~RFLAGS.zero | (zero ? RFLAGS.zero : 0))
    }
}

enum SwapBytes: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        // BSWAP of a 16-bit register is undefined; real processors clear it.
        let value: W = core[op.a]
        core.setRegister(op.a, W.bitWidth == 16 ? 0 : value.byteSwapped)
        return .next
    }
}

enum ConditionalMove: SizedInstruction {
    @inline(__always)
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        // The source is read, and a 32-bit destination zero-extended, whatever the condition.
        guard let value = core.readSource(W.self, op) else { return .fault }
        core.setRegister(op.a, core.condition(op.code) ? value : core[op.a])
        return .next
    }
}

enum SetByte {
    static let handler: Handler = {
        plain($0, $1) { core, op in
            let value: UInt8 = core.condition(op.code) ? 1 : 0
            return core.writeDestination(value, op) ? .next : .fault
        }
    }
}
