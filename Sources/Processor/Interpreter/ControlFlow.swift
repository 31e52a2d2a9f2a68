import X86

/// Branches within the code segment.
extension Core {
    /// Sets RIP to `target`, truncated to the operand size; #GP(0) where it is not canonical or
    /// beyond CS.limit, with nothing changed.
    @inline(__always)
    func jump(to target: UInt64, width: UInt8) -> Status {
        if state.mode == .long64 {
            guard isCanonical(target) else { return generalProtection() }
            state.rip = target
            return .jump
        }
        let offset = width == 2 ? target & 0xffff : target & 0xffff_ffff
        guard offset <= UInt64(self[.cs].limit) else { return generalProtection() }
        state.rip = offset
        return .jump
    }

    /// Whether a near branch may go to `target`; for instructions that change the stack first.
    @inline(__always)
    func canJump(to target: UInt64, width: UInt8) -> Bool {
        if state.mode == .long64 { return isCanonical(target) }
        return (width == 2 ? target & 0xffff : target & 0xffff_ffff) <= UInt64(self[.cs].limit)
    }

    /// The target of a direct branch.
    @inline(__always)
    func directTarget(_ op: OpRef) -> UInt64 { state.registers[17] &+ op.immediate }
}

enum Branch {
    static let jump: Handler = {
        plain($0, $1) { core, op in core.jump(to: core.directTarget(op), width: op.width) }
    }

    static let conditional: Handler = {
        plain($0, $1) { core, op in
            core.condition(op.code)
                ? core.jump(to: core.directTarget(op), width: op.width) : .next
        }
    }

    static let indirectJump: Handler = {
        plain($0, $1) { core, op in
            guard let target = indirectTarget(core, op) else { return .fault }
            return core.jump(to: target, width: op.width)
        }
    }

    static let call: Handler = {
        plain($0, $1) { core, op in call(core, op, core.directTarget(op)) }
    }

    static let indirectCall: Handler = {
        plain($0, $1) { core, op in
            guard let target = indirectTarget(core, op) else { return .fault }
            return call(core, op, target)
        }
    }

    /// RET near, with the number of bytes to drop as immediate.
    static let returnNear: Handler = {
        plain($0, $1) { core, op in
            let target: UInt64
            switch op.width {
            case 8:
                guard let value = core.peek(UInt64.self) else { return .fault }
                target = value
            case 4:
                guard let value = core.peek(UInt32.self) else { return .fault }
                target = UInt64(value)
            default:
                guard let value = core.peek(UInt16.self) else { return .fault }
                target = UInt64(value)
            }
            let status = core.jump(to: target, width: op.width)
            if status == .jump { core.dropFromStack(UInt64(op.width) &+ op.immediate) }
            return status
        }
    }

    /// LOOP, LOOPE, LOOPNE (code 0, 1, 2) and JCXZ (code 3); the counter has the address size.
    static let loop: Handler = {
        plain($0, $1) { core, op in
            let mask = counterMask(op.sourceWidth)
            let counter = core[.rcx] & mask
            if op.code == 3 {
                return counter == 0
                    ? core.jump(to: core.directTarget(op), width: op.width) : .next
            }
            let next = (counter &- 1) & mask
            let taken =
                next != 0 && (op.code == 0 || core.zeroFlag == (op.code == 1))
            if taken {
                let status = core.jump(to: core.directTarget(op), width: op.width)
                if status != .jump { return status }
            }
            setCounter(core, op.sourceWidth, next)
            return taken ? .jump : .next
        }
    }

    static func counterMask(_ width: UInt8) -> UInt64 {
        width == 8 ? .max : width == 4 ? 0xffff_ffff : 0xffff
    }

    static func setCounter(_ core: Core, _ width: UInt8, _ value: UInt64) {
        core[.rcx] = width == 2 ? core[.rcx] & ~0xffff | value & 0xffff : value
    }

    @inline(__always)
    private static func indirectTarget(_ core: Core, _ op: OpRef) -> UInt64? {
        switch op.width {
        case 8: core.readDestination(UInt64.self, op)
        case 4: core.readDestination(UInt32.self, op).map { UInt64($0) }
        default: core.readDestination(UInt16.self, op).map { UInt64($0) }
        }
    }

    @inline(__always)
    private static func call(_ core: Core, _ op: OpRef, _ target: UInt64) -> Status {
        guard core.canJump(to: target, width: op.width) else { return core.generalProtection() }
        let next = core.nextRIP(op)
        let pushed =
            switch op.width {
            case 8: core.push(next)
            case 4: core.push(UInt32(truncatingIfNeeded: next))
            default: core.push(UInt16(truncatingIfNeeded: next))
            }
        guard pushed else { return .fault }
        return core.jump(to: target, width: op.width)
    }
}
