import X86

/// String instructions. `Op.sourceWidth` holds the address size, `Op.segment` the source segment.
///
/// A repeated instruction works page by page where both sides are plain memory, and iteration by
/// iteration elsewhere. It can be interrupted after any iteration: registers then stand for what
/// is left to do, and it returns `.again`.
enum StringInstruction {
    /// How many iterations may pass before interrupts are looked at.
    static let slice: UInt64 = 4096

    @inline(__always)
    static func isRepeated(_ op: OpRef) -> Bool {
        op.has(OpPrefix.rep) || op.has(OpPrefix.repne)
    }

    /// The value of an index register in the address size.
    @inline(__always)
    static func offset(_ core: Core, _ register: GeneralRegister, _ op: OpRef) -> UInt64 {
        core[register] & Branch.counterMask(op.sourceWidth)
    }

    /// Moves an index register by `bytes`, in the address size.
    @inline(__always)
    static func advance(
        _ core: Core, _ register: GeneralRegister, _ op: OpRef, _ bytes: UInt64
    ) {
        let value = core[register] &+ bytes
        switch op.sourceWidth {
        case 8: core[register] = value
        case 4: core[register] = value & 0xffff_ffff
        default: core[register] = core[register] & ~0xffff | value & 0xffff
        }
    }

    /// Runs `body` once, or as often as the counter says; `body` returns whether to go on.
    /// `bulk` may do many iterations at once and returns how many it did.
    @inline(__always)
    static func perform(
        _ core: Core, _ op: OpRef, bulk: (UInt64) -> UInt64, step body: () -> Step
    ) -> Status {
        guard isRepeated(op) else { return body() == .failed ? .fault : .next }
        let mask = Branch.counterMask(op.sourceWidth)
        // Single-stepping traps after each iteration; and what waits for the end of an interrupt
        // shadow comes after the first, whatever exits there are on the way.
        let isStepping = core.state.systemFlags & RFLAGS.trap != 0
        let most = isStepping || core.withProcessor({ $0.hasDeliverableInterrupt }) ? 1 : slice
        var left = most
        while true {
            let counter = core[.rcx] & mask
            if counter == 0 { return .next }
            if left == 0 || core.state.pending != .none || core.state.blockEnd == 0 && left < most {
                if isStepping { core.state.debugConditions |= DebugStatus.singleStep }
                return .again
            }
            let done = bulk(min(counter, left))
            if done > 0 {
                Branch.setCounter(core, op.sourceWidth, counter &- done)
                left &-= done
                continue
            }
            if core.state.pending != .none { return .fault }
            let step = body()
            if step == .failed { return .fault }
            Branch.setCounter(core, op.sourceWidth, counter &- 1)
            left &-= 1
            if step == .stop { return .next }
        }
    }

    enum Step { case more, stop, failed }

    /// Runs a comparison: a fault leaves the flags as they were before the instruction (SDM
    /// Vol. 2B, REP). So does a pause, or the flags at a later fault would depend on where it was;
    /// the iteration that follows it sets them anew. `bulk` sets none: it leaves the iteration that
    /// ends the instruction, by its result or by the counter, to `body`.
    @inline(__always)
    static func performComparison(
        _ core: Core, _ op: OpRef, bulk: (UInt64) -> UInt64, step body: () -> Step
    ) -> Status {
        let flags = core.arithmeticFlags
        let status = perform(core, op, bulk: bulk, step: body)
        if status == .fault || status == .again { core.setArithmeticFlags(flags) }
        return status
    }
}

enum MoveString: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        let size = UInt64(W.bitWidth / 8)
        let delta = core.directionFlag ? 0 &- size : size
        return StringInstruction.perform(
            core, op,
            bulk: { limit in
                if core.directionFlag { return 0 }
                return bulk(core, op, size, limit)
            },
            step: {
                let from = StringInstruction.offset(core, .rsi, op)
                let to = StringInstruction.offset(core, .rdi, op)
                guard let source = core.linearAddress(op.segment, from, size: size, write: false),
                    let value = core.read(W.self, linear: source),
                    let target = core.linearAddress(.es, to, size: size, write: true),
                    core.write(value, linear: target)
                else { return .failed }
                StringInstruction.advance(core, .rsi, op, delta)
                StringInstruction.advance(core, .rdi, op, delta)
                return .more
            })
    }

    private static func bulk(_ core: Core, _ op: OpRef, _ size: UInt64, _ limit: UInt64) -> UInt64 {
        let from = StringInstruction.offset(core, .rsi, op)
        let to = StringInstruction.offset(core, .rdi, op)
        guard let source = core.plainSpan(op.segment, from, size, limit, op, write: false),
            let target = core.plainSpan(.es, to, size, source.count, op, write: true)
        else { return 0 }
        let count = min(source.count, target.count)
        let bytes = Int(count &* size)
        let distance = unsafe target.pointer - source.pointer
        if distance > 0 && distance < bytes {
            // An overlap that the instruction propagates element by element, as for a fill.
            if distance < Int(size) { return 0 }
            target.propagate(distance, bytes)
        } else {
            unsafe target.pointer.copyMemory(from: source.pointer, byteCount: bytes)
        }
        StringInstruction.advance(core, .rsi, op, count &* size)
        StringInstruction.advance(core, .rdi, op, count &* size)
        return count
    }
}

enum StoreString: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        let size = UInt64(W.bitWidth / 8)
        let delta = core.directionFlag ? 0 &- size : size
        let value: W = core[0]
        return StringInstruction.perform(
            core, op,
            bulk: { limit in
                if core.directionFlag { return 0 }
                let to = StringInstruction.offset(core, .rdi, op)
                guard let target = core.plainSpan(.es, to, size, limit, op, write: true) else {
                    return 0
                }
                target.fill(value)
                StringInstruction.advance(core, .rdi, op, target.count &* size)
                return target.count
            },
            step: {
                let to = StringInstruction.offset(core, .rdi, op)
                guard let target = core.linearAddress(.es, to, size: size, write: true),
                    core.write(value, linear: target)
                else { return .failed }
                StringInstruction.advance(core, .rdi, op, delta)
                return .more
            })
    }
}

enum LoadString: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        let size = UInt64(W.bitWidth / 8)
        let delta = core.directionFlag ? 0 &- size : size
        return StringInstruction.perform(
            core, op, bulk: { _ in 0 },
            step: {
                let from = StringInstruction.offset(core, .rsi, op)
                guard let source = core.linearAddress(op.segment, from, size: size, write: false),
                    let value = core.read(W.self, linear: source)
                else { return .failed }
                core.setRegister(0, value)
                StringInstruction.advance(core, .rsi, op, delta)
                return .more
            })
    }
}

enum ScanString: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        let size = UInt64(W.bitWidth / 8)
        let delta = core.directionFlag ? 0 &- size : size
        return StringInstruction.performComparison(
            core, op,
            bulk: { limit in
                if core.directionFlag { return 0 }
                let to = StringInstruction.offset(core, .rdi, op)
                guard let target = core.plainSpan(.es, to, size, limit, op, write: false) else {
                    return 0
                }
                let value: W = core[0]
                let goesOnWhileEqual = op.has(OpPrefix.rep)
                var count: UInt64 = 0
                while count &+ 1 < target.count,
                    (target.element(count) == value) == goesOnWhileEqual
                {
                    count &+= 1
                }
                StringInstruction.advance(core, .rdi, op, count &* size)
                return count
            },
            step: {
                let to = StringInstruction.offset(core, .rdi, op)
                guard let target = core.linearAddress(.es, to, size: size, write: false),
                    let value = core.read(W.self, linear: target)
                else { return .failed }
                _ = Compare.apply(core, core[0, as: W.self], value)
                StringInstruction.advance(core, .rdi, op, delta)
                return core.zeroFlag == op.has(OpPrefix.rep) ? .more : .stop
            })
    }
}

enum CompareString: SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status {
        let size = UInt64(W.bitWidth / 8)
        let delta = core.directionFlag ? 0 &- size : size
        return StringInstruction.performComparison(
            core, op,
            bulk: { limit in
                if core.directionFlag { return 0 }
                return bulk(width, core, op, limit)
            },
            step: {
                step(width, core, op, delta)
            })
    }

    /// The elements that compare so that the instruction goes on.
    private static func bulk<W: Word>(
        _: W.Type, _ core: Core, _ op: OpRef, _ limit: UInt64
    ) -> UInt64 {
        let size = UInt64(W.bitWidth / 8)
        let from = StringInstruction.offset(core, .rsi, op)
        let to = StringInstruction.offset(core, .rdi, op)
        guard let source = core.plainSpan(op.segment, from, size, limit, op, write: false),
            let target = core.plainSpan(.es, to, size, source.count, op, write: false)
        else { return 0 }
        let goesOnWhileEqual = op.has(OpPrefix.rep)
        var count: UInt64 = 0
        while count &+ 1 < target.count,
            (source.element(count, as: W.self) == target.element(count)) == goesOnWhileEqual
        {
            count &+= 1
        }
        StringInstruction.advance(core, .rsi, op, count &* size)
        StringInstruction.advance(core, .rdi, op, count &* size)
        return count
    }

    private static func step<W: Word>(
        _: W.Type, _ core: Core, _ op: OpRef, _ delta: UInt64
    ) -> StringInstruction.Step {
        let size = UInt64(W.bitWidth / 8)
        let from = StringInstruction.offset(core, .rsi, op)
        let to = StringInstruction.offset(core, .rdi, op)
        guard let source = core.linearAddress(op.segment, from, size: size, write: false),
            let first = core.read(W.self, linear: source),
            let target = core.linearAddress(.es, to, size: size, write: false),
            let second = core.read(W.self, linear: target)
        else { return .failed }
        _ = Compare.apply(core, first, second)
        StringInstruction.advance(core, .rsi, op, delta)
        StringInstruction.advance(core, .rdi, op, delta)
        return core.zeroFlag == op.has(OpPrefix.rep) ? .more : .stop
    }
}
