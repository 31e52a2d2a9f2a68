import X86

/// IRET, IRETD, IRETQ (SDM Vol. 2A, IRET/IRETD/IRETQ).
enum InterruptReturn {
    static let handler: Handler = {
        plain($0, $1) { core, op in
            let status: Status
            if core.state.mode == .real16 {
                status = toReal(core, op.width)
            } else if core.isVirtual8086 {
                status =
                    core.ioPrivilegeLevel == 3
                    ? toReal(core, op.width) : toVirtual(core, op.width)
            } else if core.state.systemFlags & RFLAGS.nestedTask != 0 {
                status =
                    core.isLongModeActive
                    ? core.generalProtection() : toPreviousTask(core, op)
            } else {
                status = toProtected(core, op.width)
            }
            // IRET lets NMIs through again even where it faults (SDM Vol. 3C §27.2.3).
            if status == .jump || core.state.pending == .exception {
                core.state.nmiBlocked = false
            }
            if status == .jump {
                core.state.resumeFlagLoaded = true
                VirtualInterrupts.check(core)
            }
            return status
        }
    }

    /// Within real-address mode, or virtual-8086 mode with IOPL 3.
    private static func toReal(_ core: Core, _ width: UInt8) -> Status {
        var stack = StackView(core)
        guard let rip = stack.pop(width), let selector = stack.pop(width),
            let image = stack.pop(width)
        else { return .fault }
        guard rip <= UInt64(core[.cs].limit) else { return core.generalProtection() }
        core.setStackPointer(stack.pointer)
        core.loadParagraph(.cs, UInt16(truncatingIfNeeded: selector))
        core.state.rip = rip
        var kept = RFLAGS.virtual8086 | RFLAGS.virtualInterrupt | RFLAGS.virtualInterruptPending
        if core.isVirtual8086 { kept |= RFLAGS.ioPrivilegeLevel }
        setFlags(core, image, width, keeping: kept)
        core.leaveBlock()
        return .jump
    }

    /// Within virtual-8086 mode, with IOPL below 3.
    private static func toVirtual(_ core: Core, _ width: UInt8) -> Status {
        guard VirtualInterrupts.serve(core, width) else { return core.generalProtection() }
        var stack = StackView(core)
        guard let rip = stack.pop(2), let selector = stack.pop(2), let image = stack.pop(2) else {
            return .fault
        }
        guard VirtualInterrupts.load(core, image) else { return core.generalProtection() }
        core.setStackPointer(stack.pointer)
        core.loadParagraph(.cs, UInt16(truncatingIfNeeded: selector))
        core.state.rip = rip
        core.leaveBlock()
        return .jump
    }

    /// Replaces RFLAGS by the image, but for the bits in `keeping` and those beyond its width.
    private static func setFlags(_ core: Core, _ image: UInt64, _ width: UInt8, keeping: UInt64) {
        let kept = width == 2 ? keeping | ~0xffff : keeping
        core.setFlags(core.flags & kept | image & ~kept)
    }

    /// What the current level may not change (SDM Vol. 1 §3.4.3, Vol. 2A).
    private static func protectedFlags(_ core: Core) -> UInt64 {
        var kept: UInt64 = 0
        if core.state.cpl > 0 {
            kept |=
                RFLAGS.ioPrivilegeLevel | RFLAGS.virtualInterrupt
                | RFLAGS.virtualInterruptPending | RFLAGS.virtual8086
        }
        if core.state.cpl > core.ioPrivilegeLevel { kept |= RFLAGS.interruptEnable }
        return kept
    }

    private static func toPreviousTask(_ core: Core, _ op: OpRef) -> Status {
        guard
            let link = core.readSystem(UInt16.self, linear: core.state.taskRegister.base)
        else { return .fault }
        let done = core.switchTask(
            link, cause: .interruptReturn, returnRIP: core.nextRIP(op), flags: core.flags,
            external: 0)
        return done ? .jump : .fault
    }

    private static func toProtected(_ core: Core, _ width: UInt8) -> Status {
        var stack = StackView(core)
        guard let rip = stack.pop(width), let rawSelector = stack.pop(width),
            let image = stack.pop(width)
        else { return .fault }
        let selector = UInt16(truncatingIfNeeded: rawSelector)
        if image & RFLAGS.virtual8086 != 0, width == 4, core.state.cpl == 0,
            !core.isLongModeActive
        {
            return toVirtual8086(core, rip, selector, image, &stack)
        }
        guard let code = FarTransfer.returnCode(core, selector) else { return .fault }
        let level = UInt8(truncatingIfNeeded: selector) & 3
        guard core.checkEntry(code, rip) else { return .fault }
        let kept = protectedFlags(core) | (core.isLongModeActive ? RFLAGS.virtual8086 : 0)
        // 64-bit mode pops the stack pointer whatever the level (SDM Vol. 3A §6.14.3).
        if level == core.state.cpl && !core.is64 {
            guard core.markAccessed(selector, code) else { return .fault }
            core.setStackPointer(stack.pointer)
            setFlags(core, image, width, keeping: kept | RFLAGS.virtual8086)
            core.enterCode(code, selector, level: level, rip: rip)
            return .jump
        }
        guard let pointer = stack.pop(width), let rawStack = stack.pop(width),
            let segment = SegmentLoading.stack(
                core, UInt16(truncatingIfNeeded: rawStack), level: level,
                toLong: core.isLongModeActive && code.has(Segment.long)),
            core.markAccessed(selector, code)
        else { return .fault }
        let isOuter = level != core.state.cpl
        setFlags(core, image, width, keeping: kept | RFLAGS.virtual8086)
        core[.ss] = segment
        core.enterCode(code, selector, level: level, rip: rip)
        setPointer(core, pointer)
        if isOuter { SegmentLoading.dropPrivileged(core) }
        return .jump
    }

    /// Loads the stack pointer that was popped, in the width of the stack that it belongs to.
    static func setPointer(_ core: Core, _ pointer: UInt64) {
        if core.is64 {
            core[.rsp] = pointer
        } else {
            core.setStackPointer(pointer)
        }
    }

    private static func toVirtual8086(
        _ core: Core, _ rip: UInt64, _ selector: UInt16, _ image: UInt64, _ stack: inout StackView
    ) -> Status {
        // ESP, SS, ES, DS, FS, GS, a doubleword each.
        guard let pointer = stack.pop(4), let ss = stack.pop(4), let es = stack.pop(4),
            let ds = stack.pop(4), let fs = stack.pop(4), let gs = stack.pop(4)
        else { return .fault }
        guard rip <= 0xffff else { return core.generalProtection() }
        core.setFlags(image)
        core.updateMode()
        let selectors: [(SegmentRegister, UInt64)] = [
            (.cs, UInt64(selector)), (.ss, ss), (.es, es), (.ds, ds), (.fs, fs), (.gs, gs),
        ]
        for (register, value) in selectors {
            core.loadParagraph(register, UInt16(truncatingIfNeeded: value))
        }
        core[.rsp] = pointer & 0xffff_ffff
        core.state.rip = rip
        core.updateMode()
        return .jump
    }
}
