import X86

/// What switches tasks (SDM Vol. 3A §7.3).
enum TaskSwitchCause {
    case jump, call, interrupt, interruptReturn
}

/// The layout of a TSS (SDM Vol. 3A §7.2.1 and §7.6, Figures 7-2 and 7-10), in bytes.
private struct TaskLayout {
    let isWide: Bool
    var size: UInt64 { isWide ? 4 : 2 }
    /// The smallest limit that a TSS may have.
    var minimumLimit: UInt32 { isWide ? 103 : 43 }
    var root: UInt64 { 28 }
    var instructionPointer: UInt64 { isWide ? 32 : 14 }
    var flags: UInt64 { isWide ? 36 : 16 }
    func general(_ number: UInt8) -> UInt64 { (isWide ? 40 : 18) &+ UInt64(number) &* size }
    func segment(_ number: UInt8) -> UInt64 { (isWide ? 72 : 34) &+ UInt64(number) &* size }
    var localTable: UInt64 { isWide ? 96 : 42 }
    var debugTrap: UInt64 { 100 }
}

extension Core {
    /// Switches to the task whose TSS `selector` names (SDM Vol. 3A §7.3). Not in IA-32e mode.
    ///
    /// Until both TSSs have been found accessible nothing changes. Faults in loading the new
    /// task's segments are the new task's: it is entered, and faults at its first instruction.
    /// - Parameters:
    ///   - returnRIP: where the old task goes on.
    ///   - flags: the old task's EFLAGS to save.
    /// - Returns: false after raising a fault in the old task.
    func switchTask(
        _ selector: UInt16, cause: TaskSwitchCause, returnRIP: UInt64, flags: UInt64,
        external: UInt32
    ) -> Bool {
        let isReturn = cause == .interruptReturn
        let wrong: ExceptionVector = isReturn ? .invalidTSS : .generalProtection
        guard selector & 0xfffc != 0, selector & 4 == 0 else {
            return failed(fault(wrong, selector, external))
        }
        guard let target = readDescriptor(selector, wrong, external: external) else {
            return false
        }
        // Types 1 and 9 are available, 3 and 11 busy.
        guard target.isSystem, target.systemType & 7 == (isReturn ? 3 : 1) else {
            return failed(fault(wrong, selector, external))
        }
        guard target.isPresent else {
            return failed(fault(.segmentNotPresent, selector, external))
        }
        let layout = TaskLayout(isWide: target.systemType & 8 != 0)
        guard target.limit >= layout.minimumLimit else {
            return failed(fault(.invalidTSS, selector, external))
        }
        guard let new = readTask(target, layout), touchDescriptors(new) else { return false }
        let old = state.taskRegister
        // The old task is saved where its own tables say: they stay in force until it has been.
        var pointers = state.pointers
        if changesRoot(new, layout),
            PagingForm(cr0: state.cr0, cr4: state.cr4, efer: state.efer) == .pae
        {
            guard let loaded = processor.readPointers(cr3: new.root) else { return false }
            pointers = loaded
        }
        let savedFlags = isReturn ? flags & ~RFLAGS.nestedTask : flags
        guard saveTask(old, returnRIP, savedFlags) else { return false }
        let oldSelector = old.selector
        if cause == .jump || isReturn {
            guard setBusy(oldSelector, false) else { return false }
        }
        let isNested = cause == .call || cause == .interrupt
        if isNested {
            guard writeSystem(oldSelector, linear: target.base) else { return false }
        }
        if !isReturn, !setBusy(selector, true) { return false }
        state.pointers = pointers
        enterTask(new, target, selector, layout, isNested: isNested)
        return true
    }

    /// The contents of a TSS.
    private struct TaskImage {
        var root: UInt64 = 0
        var rip: UInt64 = 0
        var flags: UInt64 = 0
        var general = InlineArray<8, UInt64>(repeating: 0)
        var selectors = InlineArray<6, UInt16>(repeating: 0)
        var localTable: UInt16 = 0
        var trapsOnEntry = false
    }

    /// Whether the new task has page tables of its own.
    private func changesRoot(_ new: TaskImage, _ layout: TaskLayout) -> Bool {
        layout.isWide && state.cr0 & CR0.paging != 0 && new.root != state.cr3
    }

    private func readTask(_ target: Descriptor, _ layout: TaskLayout) -> TaskImage? {
        var image = TaskImage()
        func word(_ offset: UInt64) -> UInt64? {
            layout.isWide
                ? readSystem(UInt32.self, linear: target.base &+ offset).map { UInt64($0) }
                : readSystem(UInt16.self, linear: target.base &+ offset).map { UInt64($0) }
        }
        guard let rip = word(layout.instructionPointer), let flags = word(layout.flags),
            let table = readSystem(UInt16.self, linear: target.base &+ layout.localTable)
        else { return nil }
        image.rip = rip
        image.flags = flags
        image.localTable = table
        for number in 0..<8 as Range<UInt8> {
            guard let value = word(layout.general(number)) else { return nil }
            // A 16-bit TSS leaves the upper halves undefined; they are set, as processors do.
            image.general[Int(number)] = layout.isWide ? value : value | 0xffff_0000
        }
        for number in 0..<(layout.isWide ? 6 : 4) as Range<UInt8> {
            guard
                let value = readSystem(
                    UInt16.self, linear: target.base &+ layout.segment(number))
            else { return nil }
            image.selectors[Int(number)] = value
        }
        if layout.isWide {
            guard let root = word(layout.root), let trap = word(layout.debugTrap) else {
                return nil
            }
            image.root = root
            image.trapsOnEntry = trap & 1 != 0
        }
        return image
    }

    /// Makes sure that the new task's descriptors are accessible to the hypervisor's tables: once
    /// the task is entered, the switch cannot be made again.
    /// - Returns: false after an exit. Exceptions are met again, and reported, in the new task.
    private func touchDescriptors(_ new: TaskImage) -> Bool {
        for number in 0..<7 {
            let selector = number < 6 ? new.selectors[number] : new.localTable
            guard selector & 0xfffc != 0, selector & 4 == 0,
                let address = descriptorAddress(selector)
            else { continue }
            if let type = readSystem(UInt8.self, linear: address &+ 5) {
                _ = writeSystem(type, linear: address &+ 5)
            }
            if state.pending == .faultExit { return false }
            state.pending = .none
        }
        return true
    }

    private func saveTask(_ old: Segment, _ rip: UInt64, _ flags: UInt64) -> Bool {
        let layout = TaskLayout(isWide: old.type & 8 != 0)
        func store(_ value: UInt64, _ offset: UInt64) -> Bool {
            layout.isWide
                ? writeSystem(UInt32(truncatingIfNeeded: value), linear: old.base &+ offset)
                : writeSystem(UInt16(truncatingIfNeeded: value), linear: old.base &+ offset)
        }
        guard store(rip, layout.instructionPointer), store(flags, layout.flags) else {
            return false
        }
        for number in 0..<8 as Range<UInt8> {
            guard
                store(self[UInt16(number) &* 8, as: UInt64.self], layout.general(number))
            else { return false }
        }
        for number in 0..<(layout.isWide ? 6 : 4) as Range<UInt8> {
            let selector = state.segments[Int(number)].selector
            guard writeSystem(selector, linear: old.base &+ layout.segment(number)) else {
                return false
            }
        }
        return true
    }

    private func setBusy(_ selector: UInt16, _ busy: Bool) -> Bool {
        guard let address = descriptorAddress(selector) else { return true }
        guard let type = readSystem(UInt8.self, linear: address &+ 5) else { return false }
        return writeSystem(busy ? type | 2 : type & ~2, linear: address &+ 5)
    }

    private func enterTask(
        _ new: TaskImage, _ target: Descriptor, _ selector: UInt16, _ layout: TaskLayout,
        isNested: Bool
    ) {
        let external: UInt32 = 0
        state.taskRegister = target.segment(selector)
        state.taskRegister.attributes = target.attributes | 2
        state.cr0 |= CR0.taskSwitched
        if changesRoot(new, layout) {
            ControlRegisters.loadRoot(self, new.root, flushes: true)
            // An exception in the new task comes after the exit, which it must not displace.
            state.owesRootLoad = state.pending == .trapExit
        }
        for number in 0..<8 { self[UInt16(number) &* 8] = new.general[number] }
        let flags = new.flags | (isNested ? RFLAGS.nestedTask : 0)
        setFlags(layout.isWide ? flags : flags & 0xffff)
        state.resumeFlagLoaded = true
        state.dr7 &= ~DebugControl.localEnables
        state.rip = new.rip
        if new.trapsOnEntry { state.debugConditions |= DebugStatus.taskSwitch }
        leaveBlock()
        for number in 0..<6 { state.segments[number] = .null(new.selectors[number]) }
        state.ldtr = .null(new.localTable)
        if new.flags & RFLAGS.virtual8086 != 0 && layout.isWide {
            updateMode()
            for number in 0..<6 as Range<UInt8> {
                guard let register = SegmentRegister(rawValue: number) else { continue }
                loadParagraph(register, new.selectors[Int(number)])
            }
            _ = loadLocalTable(new.localTable, external)
            return
        }
        loadTaskSegments(new, external)
    }

    /// Loads LDTR and the segment registers of a task that has been entered.
    private func loadTaskSegments(_ new: TaskImage, _ external: UInt32) {
        guard loadLocalTable(new.localTable, external) else { return }
        let codeSelector = new.selectors[Int(SegmentRegister.cs.rawValue)]
        guard codeSelector & 0xfffc != 0 else {
            _ = raise(.invalidTSS, error: external)
            return
        }
        guard let code = readDescriptor(codeSelector, .invalidTSS, external: external) else {
            return
        }
        let level = UInt8(truncatingIfNeeded: codeSelector) & 3
        guard code.isCode, code.isConforming ? code.dpl <= level : code.dpl == level else {
            _ = fault(.invalidTSS, codeSelector, external)
            return
        }
        guard code.isPresent else {
            _ = fault(.segmentNotPresent, codeSelector, external)
            return
        }
        guard markAccessed(codeSelector, code) else { return }
        enterCode(code, codeSelector, level: level, rip: new.rip)
        let stackSelector = new.selectors[Int(SegmentRegister.ss.rawValue)]
        guard
            let stack = SegmentLoading.stack(
                self, stackSelector, level: level, vector: .invalidTSS, external: external)
        else { return }
        self[.ss] = stack
        for register in [SegmentRegister.ds, .es, .fs, .gs] {
            let selector = new.selectors[Int(register.rawValue)]
            guard SegmentLoading.load(self, register, selector) else {
                // A wrong selector in a TSS is #TS, not #GP.
                if state.pending == .exception,
                    state.pendingVector == ExceptionVector.generalProtection.rawValue
                {
                    state.pendingVector = ExceptionVector.invalidTSS.rawValue
                }
                return
            }
        }
        guard new.rip <= UInt64(code.limit) else {
            _ = generalProtection(external)
            return
        }
    }

    private func loadLocalTable(_ selector: UInt16, _ external: UInt32) -> Bool {
        guard selector & 0xfffc != 0 else { return true }
        guard selector & 4 == 0, let address = descriptorAddress(selector) else {
            return failed(fault(.invalidTSS, selector, external))
        }
        guard let low = readSystem(UInt64.self, linear: address) else { return false }
        let table = Descriptor(low: low)
        guard table.isSystem, table.systemType == 2, table.isPresent else {
            return failed(fault(.invalidTSS, selector, external))
        }
        state.ldtr = table.segment(selector)
        return true
    }
}
