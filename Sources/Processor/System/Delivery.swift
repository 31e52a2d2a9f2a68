import X86

/// Entering interrupt and exception handlers through the IVT and the IDT (SDM Vol. 3A chapter 6).
///
/// A delivery writes its frame below the new stack pointer and changes registers last. So where
/// anything on the way faults or exits, the processor's state is as before, and the delivery can
/// be made again.
extension Core {
    /// Delivers an event to the guest.
    /// - Returns: false, with `State.pending` saying why, where that is not possible; nothing of
    ///   the processor's state has changed then.
    func deliver(_ event: Event) -> Bool {
        if !isProtected { return deliverByVectorTable(event) }
        if isLongModeActive { return deliverLong(event) }
        if isVirtual8086, event.kind == .softwareInterrupt, ioPrivilegeLevel < 3 {
            return failed(generalProtection())
        }
        return deliverProtected(event)
    }

    /// For guards: what was raised is in `State.pending` already.
    func failed(_ status: Status) -> Bool { false }

    /// The image of EFLAGS that a handler's frame holds.
    private func flagsImage(_ event: Event) -> UInt64 {
        flags | (event.setsResumeFlag ? RFLAGS.resume : 0)
    }

    /// What every entry does to the flags, and the bookkeeping of debugging and NMIs.
    private func finishDelivery(_ event: Event, clearsInterruptFlag: Bool, clearing: UInt64) {
        var cleared = clearing | RFLAGS.trap
        if clearsInterruptFlag { cleared |= RFLAGS.interruptEnable }
        setSystemFlags(state.systemFlags & ~cleared)
        if event.kind == .nonMaskable { state.nmiBlocked = true }
        if event.vector == ExceptionVector.debug.rawValue && event.kind == .exception {
            // General detect is off while its handler runs (SDM Vol. 3B §17.2.4).
            state.dr7 &= ~DebugControl.generalDetect
        }
        state.stepRule = .none
        leaveBlock()
    }

    // MARK: Real-address mode (SDM Vol. 3B §20.1.4)

    private func deliverByVectorTable(_ event: Event) -> Bool {
        let entry = UInt64(event.vector) &* 4
        guard entry &+ 3 <= UInt64(state.idtr.limit) else { return failed(generalProtection()) }
        guard let vector = readSystem(UInt32.self, linear: state.idtr.base &+ entry) else {
            return false
        }
        var stack = StackView(self)
        guard stack.push(flags, 2), stack.push(UInt64(self[.cs].selector), 2),
            stack.push(event.returnRIP, 2)
        else { return false }
        setStackPointer(stack.pointer)
        loadParagraph(.cs, UInt16(truncatingIfNeeded: vector >> 16))
        state.rip = UInt64(vector & 0xffff)
        finishDelivery(event, clearsInterruptFlag: true, clearing: RFLAGS.alignmentCheck)
        return true
    }

    // MARK: IA-32e mode (SDM Vol. 3A §6.14)

    private func deliverLong(_ event: Event) -> Bool {
        let external = event.external
        let entry = UInt64(event.vector) &* 16
        guard entry &+ 15 <= UInt64(state.idtr.limit) else {
            return failed(generalProtection(event.gateError))
        }
        guard let low = readSystem(UInt64.self, linear: state.idtr.base &+ entry),
            let high = readSystem(UInt64.self, linear: state.idtr.base &+ entry &+ 8)
        else { return false }
        let gate = Descriptor(low: low, high: high & 0xffff_ffff)
        guard gate.isSystem, gate.systemType == 0xe || gate.systemType == 0xf,
            !(event.checksPrivilege && gate.dpl < state.cpl)
        else { return failed(generalProtection(event.gateError)) }
        guard gate.isPresent else {
            return failed(raise(.segmentNotPresent, error: event.gateError))
        }
        let selector = gate.gateSelector
        guard let code = handlerCode(selector, external) else { return false }
        guard code.has(Segment.long), !code.has(Segment.big) else {
            return failed(fault(.generalProtection, selector, external))
        }
        guard checkEntry(code, gate.gateOffset, error: external) else { return false }
        let level = code.isConforming ? state.cpl : code.dpl
        var pointer = self[.rsp]
        if gate.stackTableIndex != 0 {
            guard let top = readTaskStack(28 &+ gate.stackTableIndex &* 8, external) else {
                return false
            }
            pointer = top
        } else if level < state.cpl {
            guard let top = readTaskStack(4 &+ UInt64(level) &* 8, external) else { return false }
            pointer = top
        }
        var stack = StackView(
            self, wide: pointer & ~15, isSupervisor: level != 3, error: external)
        guard stack.push(UInt64(self[.ss].selector), 8), stack.push(self[.rsp], 8),
            stack.push(flagsImage(event), 8), stack.push(UInt64(self[.cs].selector), 8),
            stack.push(event.returnRIP, 8), pushError(event, 8, &stack),
            markAccessed(selector, code)
        else { return false }
        if level != state.cpl { self[.ss] = Segment.null(UInt16(level)) }
        enterCode(code, selector, level: level, rip: gate.gateOffset)
        self[.rsp] = stack.pointer
        finishDelivery(
            event, clearsInterruptFlag: gate.systemType == 0xe,
            clearing: RFLAGS.nestedTask | RFLAGS.resume | RFLAGS.virtual8086)
        return true
    }

    /// A stack pointer in the 64-bit TSS (SDM Vol. 3A §7.7, Figure 7-11).
    func readTaskStack(_ offset: UInt64, _ external: UInt32) -> UInt64? {
        guard offset &+ 7 <= UInt64(state.taskRegister.limit) else {
            _ = fault(.invalidTSS, state.taskRegister.selector, external)
            return nil
        }
        guard let pointer = readSystem(UInt64.self, linear: state.taskRegister.base &+ offset)
        else { return nil }
        guard isCanonical(pointer) else {
            _ = raise(.stackFault, error: external)
            return nil
        }
        return pointer
    }

    /// The code segment of a handler, checked for everything but its size.
    private func handlerCode(_ selector: UInt16, _ external: UInt32) -> Descriptor? {
        guard selector & 0xfffc != 0 else {
            _ = generalProtection(external)
            return nil
        }
        guard let code = readDescriptor(selector, external: external) else { return nil }
        guard code.isCode, code.dpl <= state.cpl else {
            _ = fault(.generalProtection, selector, external)
            return nil
        }
        guard code.isPresent else {
            _ = fault(.segmentNotPresent, selector, external)
            return nil
        }
        return code
    }

    private func pushError(_ event: Event, _ bytes: UInt8, _ stack: inout StackView) -> Bool {
        guard let error = event.error else { return true }
        return stack.push(UInt64(error), bytes)
    }

    // MARK: Protected mode (SDM Vol. 3A §6.12)

    private func deliverProtected(_ event: Event) -> Bool {
        let external = event.external
        let entry = UInt64(event.vector) &* 8
        guard entry &+ 7 <= UInt64(state.idtr.limit) else {
            return failed(generalProtection(event.gateError))
        }
        guard let low = readSystem(UInt64.self, linear: state.idtr.base &+ entry) else {
            return false
        }
        let gate = Descriptor(low: low)
        let type = gate.systemType
        guard gate.isSystem, type == 5 || type & 6 == 6,
            !(event.checksPrivilege && gate.dpl < state.cpl)
        else { return failed(generalProtection(event.gateError)) }
        guard gate.isPresent else {
            return failed(raise(.segmentNotPresent, error: event.gateError))
        }
        if type == 5 { return deliverByTask(event, gate.gateSelector) }
        let bytes: UInt8 = type & 8 != 0 ? 4 : 2
        let target = bytes == 4 ? gate.gateOffset : gate.gateOffset & 0xffff
        let selector = gate.gateSelector
        guard let code = handlerCode(selector, external) else { return false }
        let level = code.isConforming ? state.cpl : code.dpl
        if isVirtual8086 && level != 0 {
            return failed(fault(.generalProtection, selector, external))
        }
        guard checkEntry(code, target, error: external) else { return false }
        var newStack: Segment?
        var stack = StackView(self, error: external)
        if level < state.cpl {
            guard let inner = innerStack(level, external) else { return false }
            newStack = inner.segment
            stack = inner
            if isVirtual8086 {
                for register in [SegmentRegister.gs, .fs, .ds, .es] {
                    guard stack.push(UInt64(self[register].selector), bytes) else { return false }
                }
            }
            guard stack.push(UInt64(self[.ss].selector), bytes), stack.push(self[.rsp], bytes)
            else { return false }
        }
        guard stack.push(flagsImage(event), bytes),
            stack.push(UInt64(self[.cs].selector), bytes), stack.push(event.returnRIP, bytes),
            pushError(event, bytes, &stack), markAccessed(selector, code)
        else { return false }
        if isVirtual8086 {
            for register in [SegmentRegister.gs, .fs, .ds, .es] { self[register] = .null(0) }
            state.systemFlags &= ~RFLAGS.virtual8086
        }
        if let newStack { self[.ss] = newStack }
        enterCode(code, selector, level: level, rip: target)
        setStackPointer(stack.pointer)
        finishDelivery(
            event, clearsInterruptFlag: type & 1 == 0,
            clearing: RFLAGS.nestedTask | RFLAGS.resume | RFLAGS.virtual8086)
        return true
    }

    /// The stack of an inner level from the 16- or 32-bit TSS, checked (SDM Vol. 3A §6.12.1).
    func innerStack(_ level: UInt8, _ external: UInt32) -> StackView? {
        let task = state.taskRegister
        let isWide = task.type & 8 != 0
        let size: UInt64 = isWide ? 4 : 2
        let offset = size &+ UInt64(level) &* size &* 2
        guard offset &+ size &+ 1 <= UInt64(task.limit) else {
            _ = fault(.invalidTSS, task.selector, external)
            return nil
        }
        let address = task.base &+ offset
        let pointer =
            isWide
            ? readSystem(UInt32.self, linear: address).map { UInt64($0) }
            : readSystem(UInt16.self, linear: address).map { UInt64($0) }
        guard let pointer, let selector = readSystem(UInt16.self, linear: address &+ size) else {
            return nil
        }
        guard selector & 0xfffc != 0 else {
            _ = raise(.invalidTSS, error: external)
            return nil
        }
        guard let descriptor = readDescriptor(selector, .invalidTSS, external: external) else {
            return nil
        }
        guard selector & 3 == UInt16(level), descriptor.dpl == level, descriptor.isWritableData
        else {
            _ = fault(.invalidTSS, selector, external)
            return nil
        }
        guard descriptor.isPresent else {
            _ = fault(.stackFault, selector, external)
            return nil
        }
        guard markAccessed(selector, descriptor) else { return nil }
        return StackView(
            self, descriptor.segment(selector), pointer,
            error: UInt32(selector & 0xfffc) | external)
    }

    /// Delivery through a task gate: the error code goes to the new task's stack.
    private func deliverByTask(_ event: Event, _ selector: UInt16) -> Bool {
        let outgoing = flagsImage(event)
        guard
            switchTask(
                selector, cause: .interrupt, returnRIP: event.returnRIP, flags: outgoing,
                external: event.external, error: event.error)
        else { return false }
        if event.kind == .nonMaskable { state.nmiBlocked = true }
        state.stepRule = .none
        return true
    }
}
