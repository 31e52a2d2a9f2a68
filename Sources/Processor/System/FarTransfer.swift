import X86

/// JMP, CALL and RET to another code segment (SDM Vol. 2A/2B; Vol. 3A §5.8).
enum FarTransfer {
    /// JMP ptr16:16/32. `Op.code` is the selector, the immediate the offset.
    static let jumpDirect: Handler = {
        plain($0, $1) { core, op in jump(core, op, op.code, op.immediate) }
    }

    static let jumpIndirect: Handler = {
        plain($0, $1) { core, op in
            guard let target = SegmentLoading.farPointer(core, op) else { return .fault }
            return jump(core, op, target.selector, target.offset)
        }
    }

    static let callDirect: Handler = {
        plain($0, $1) { core, op in call(core, op, op.code, op.immediate) }
    }

    static let callIndirect: Handler = {
        plain($0, $1) { core, op in
            guard let target = SegmentLoading.farPointer(core, op) else { return .fault }
            return call(core, op, target.selector, target.offset)
        }
    }

    // MARK: JMP

    private static func jump(
        _ core: Core, _ op: OpRef, _ selector: UInt16, _ rawOffset: UInt64
    ) -> Status {
        let offset = Core.truncate(rawOffset, op.width)
        if core.usesParagraphs {
            guard offset <= UInt64(core[.cs].limit) else { return core.generalProtection() }
            core.loadParagraph(.cs, selector)
            core.state.rip = offset
            core.leaveBlock()
            return .jump
        }
        guard let target = nonNull(core, selector) else { return .fault }
        if !target.isSystem {
            guard checkDirect(core, selector, target), core.checkEntry(target, offset),
                core.markAccessed(selector, target)
            else { return .fault }
            core.enterCode(target, selector, level: core.state.cpl, rip: offset)
            return .jump
        }
        switch systemTarget(core, selector, target) {
        case .task(let task): return switchTask(core, op, task, .jump)
        case .gate(let gate):
            guard let code = gateCode(core, gate, isCall: false),
                core.checkEntry(code, gateOffset(gate)),
                core.markAccessed(gate.gateSelector, code)
            else { return .fault }
            core.enterCode(
                code, gate.gateSelector, level: core.state.cpl, rip: gateOffset(gate))
            return .jump
        case .none: return .fault
        }
    }

    // MARK: CALL

    private static func call(
        _ core: Core, _ op: OpRef, _ selector: UInt16, _ rawOffset: UInt64
    ) -> Status {
        let offset = Core.truncate(rawOffset, op.width)
        var stack = StackView(core)
        let next = core.nextRIP(op)
        let old = UInt64(core[.cs].selector)
        if core.usesParagraphs {
            guard offset <= UInt64(core[.cs].limit) else { return core.generalProtection() }
            guard stack.push(old, op.width), stack.push(next, op.width) else { return .fault }
            core.setStackPointer(stack.pointer)
            core.loadParagraph(.cs, selector)
            core.state.rip = offset
            core.leaveBlock()
            return .jump
        }
        guard let target = nonNull(core, selector) else { return .fault }
        if !target.isSystem {
            guard checkDirect(core, selector, target), core.checkEntry(target, offset),
                stack.push(old, op.width), stack.push(next, op.width),
                core.markAccessed(selector, target)
            else { return .fault }
            core.setStackPointer(stack.pointer)
            core.enterCode(target, selector, level: core.state.cpl, rip: offset)
            return .jump
        }
        switch systemTarget(core, selector, target) {
        case .task(let task): return switchTask(core, op, task, .call)
        case .gate(let gate): return callGate(core, gate, next)
        case .none: return .fault
        }
    }

    private static func callGate(_ core: Core, _ gate: Descriptor, _ next: UInt64) -> Status {
        guard let code = gateCode(core, gate, isCall: true),
            core.checkEntry(code, gateOffset(gate))
        else { return .fault }
        let width: UInt8 = core.isLongModeActive ? 8 : gate.systemType == 0xc ? 4 : 2
        let isInner = !code.isConforming && code.dpl < core.state.cpl
        let oldCode = UInt64(core[.cs].selector)
        guard isInner else {
            var stack = StackView(core)
            guard stack.push(oldCode, width), stack.push(next, width),
                core.markAccessed(gate.gateSelector, code)
            else { return .fault }
            core.setStackPointer(stack.pointer)
            core.enterCode(
                code, gate.gateSelector, level: core.state.cpl, rip: gateOffset(gate))
            return .jump
        }
        let level = code.dpl
        var stack: StackView
        if core.isLongModeActive {
            guard let top = core.readTaskStack(4 &+ UInt64(level) &* 8, 0) else { return .fault }
            stack = StackView(core, wide: top, isSupervisor: true, error: 0)
        } else {
            guard let inner = core.innerStack(level, 0) else { return .fault }
            stack = inner
        }
        guard stack.push(UInt64(core[.ss].selector), width), stack.push(core[.rsp], width) else {
            return .fault
        }
        if !core.isLongModeActive {
            // Parameters keep their order: the last one lies highest.
            var index = gate.gateCount
            while index > 0 {
                index &-= 1
                var source = StackView(core)
                source.skip(index &* UInt64(width))
                guard let value = source.pop(width), stack.push(value, width) else {
                    return .fault
                }
            }
        }
        guard stack.push(oldCode, width), stack.push(next, width),
            core.markAccessed(gate.gateSelector, code)
        else { return .fault }
        core[.ss] = core.isLongModeActive ? .null(UInt16(level)) : stack.segment
        core.enterCode(code, gate.gateSelector, level: level, rip: gateOffset(gate))
        InterruptReturn.setPointer(core, stack.pointer)
        return .jump
    }

    // MARK: RET

    /// RET far; the immediate is the number of bytes to drop.
    static let returnFar: Handler = {
        plain($0, $1) { core, op in
            var stack = StackView(core)
            guard let rip = stack.pop(op.width), let rawSelector = stack.pop(op.width) else {
                return .fault
            }
            let selector = UInt16(truncatingIfNeeded: rawSelector)
            if core.usesParagraphs {
                guard rip <= UInt64(core[.cs].limit) else { return core.generalProtection() }
                stack.skip(op.immediate)
                core.setStackPointer(stack.pointer)
                core.loadParagraph(.cs, selector)
                core.state.rip = rip
                core.leaveBlock()
                return .jump
            }
            guard let code = returnCode(core, selector) else { return .fault }
            let level = UInt8(truncatingIfNeeded: selector) & 3
            stack.skip(op.immediate)
            if level == core.state.cpl {
                guard core.checkEntry(code, rip), core.markAccessed(selector, code) else {
                    return .fault
                }
                core.setStackPointer(stack.pointer)
                core.enterCode(code, selector, level: level, rip: rip)
                return .jump
            }
            guard let pointer = stack.pop(op.width), let rawStack = stack.pop(op.width),
                let segment = SegmentLoading.stack(
                    core, UInt16(truncatingIfNeeded: rawStack), level: level,
                    toLong: core.isLongModeActive && code.has(Segment.long)),
                core.checkEntry(code, rip), core.markAccessed(selector, code)
            else { return .fault }
            core[.ss] = segment
            core.enterCode(code, selector, level: level, rip: rip)
            InterruptReturn.setPointer(core, pointer &+ op.immediate)
            SegmentLoading.dropPrivileged(core)
            return .jump
        }
    }

    /// The code segment to which RET or IRET returns, checked; nil after raising a fault.
    static func returnCode(_ core: Core, _ selector: UInt16) -> Descriptor? {
        guard let code = nonNull(core, selector) else { return nil }
        let level = UInt8(truncatingIfNeeded: selector) & 3
        guard level >= core.state.cpl, code.isCode,
            code.isConforming ? code.dpl <= level : code.dpl == level, hasOneSize(core, code)
        else {
            _ = core.fault(.generalProtection, selector)
            return nil
        }
        guard code.isPresent else {
            _ = core.fault(.segmentNotPresent, selector)
            return nil
        }
        return code
    }

    // MARK: Checks

    private static func nonNull(_ core: Core, _ selector: UInt16) -> Descriptor? {
        guard selector & 0xfffc != 0 else {
            _ = core.generalProtection()
            return nil
        }
        return core.readDescriptor(selector)
    }

    /// L and D together are reserved in IA-32e mode.
    private static func hasOneSize(_ core: Core, _ code: Descriptor) -> Bool {
        !(core.isLongModeActive && code.has(Segment.long) && code.has(Segment.big))
    }

    /// A code segment as the target of a direct JMP or CALL (SDM Vol. 3A §5.8.1).
    private static func checkDirect(_ core: Core, _ selector: UInt16, _ code: Descriptor) -> Bool {
        let level = core.state.cpl
        let requested = UInt8(truncatingIfNeeded: selector) & 3
        let isPrivileged =
            code.isConforming ? code.dpl <= level : requested <= level && code.dpl == level
        guard code.isCode, isPrivileged, hasOneSize(core, code) else {
            return core.failed(core.fault(.generalProtection, selector))
        }
        guard code.isPresent else {
            return core.failed(core.fault(.segmentNotPresent, selector))
        }
        return true
    }

    private enum SystemTarget {
        case gate(Descriptor)
        /// A task, by the selector of its TSS.
        case task(UInt16)
    }

    /// The call gate, task gate or TSS that a far transfer names; nil after raising a fault.
    private static func systemTarget(
        _ core: Core, _ selector: UInt16, _ target: Descriptor
    ) -> SystemTarget? {
        let requested = UInt8(truncatingIfNeeded: selector) & 3
        let isLong = core.isLongModeActive
        let type = target.systemType
        let isKnown =
            type == 0xc || (!isLong && (type == 4 || type == 5 || type == 1 || type == 9))
        guard isKnown, target.dpl >= max(core.state.cpl, requested) else {
            _ = core.fault(.generalProtection, selector)
            return nil
        }
        guard let wide = type == 0xc ? core.widened(target, selector) : target else { return nil }
        guard wide.isPresent else {
            _ = core.fault(.segmentNotPresent, selector)
            return nil
        }
        switch type {
        case 1, 9: return .task(selector)
        case 5: return .task(wide.gateSelector)
        default: return .gate(wide)
        }
    }

    /// The code segment behind a call gate, checked; nil after raising a fault.
    private static func gateCode(_ core: Core, _ gate: Descriptor, isCall: Bool) -> Descriptor? {
        let selector = gate.gateSelector
        guard let code = nonNull(core, selector) else { return nil }
        let level = core.state.cpl
        let isPrivileged =
            isCall || code.isConforming ? code.dpl <= level : code.dpl == level
        let isSized = !core.isLongModeActive || code.has(Segment.long) && !code.has(Segment.big)
        guard code.isCode, isPrivileged, isSized else {
            _ = core.fault(.generalProtection, selector)
            return nil
        }
        guard code.isPresent else {
            _ = core.fault(.segmentNotPresent, selector)
            return nil
        }
        return code
    }

    private static func gateOffset(_ gate: Descriptor) -> UInt64 {
        gate.systemType == 4 ? gate.gateOffset & 0xffff : gate.gateOffset
    }

    private static func switchTask(
        _ core: Core, _ op: OpRef, _ selector: UInt16, _ cause: TaskSwitchCause
    ) -> Status {
        let done = core.switchTask(
            selector, cause: cause, returnRIP: core.nextRIP(op), flags: core.flags, external: 0)
        return done ? .jump : .fault
    }
}
