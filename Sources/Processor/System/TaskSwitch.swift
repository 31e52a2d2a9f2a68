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
    /// Until both TSSs have been found accessible nothing of the processor's state changes, and
    /// the switch can be made again. Then the new task is entered, and its segments are loaded:
    /// faults there are its own, at its first instruction (`TaskEntry`).
    /// - Parameters:
    ///   - returnRIP: where the old task goes on.
    ///   - flags: the old task's EFLAGS to save.
    ///   - error: the code that the new task finds on its stack.
    /// - Returns: false after raising a fault in the old task.
    func switchTask(
        _ selector: UInt16, cause: TaskSwitchCause, returnRIP: UInt64, flags: UInt64,
        external: UInt32, error: UInt32? = nil
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
        guard let new = readTask(target, layout) else { return false }
        let old = state.taskRegister
        // They count from when the task is entered: the old TSS is still to be written.
        var pointers: SIMD4<UInt64>?
        let form = PagingForm(cr0: state.cr0, cr4: state.cr4, efer: state.efer)
        if changesRoot(new, layout), form == .pae {
            pointers = processor.readPointers(cr3: new.root)
            if pointers == nil { return false }
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
        enterTask(new, target, selector, layout, pointers: pointers, isNested: isNested)
        state.taskEntry.error = error
        continueTaskEntry()
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

    /// Commits the switch: from here on everything is the new task's.
    private func enterTask(
        _ new: TaskImage, _ target: Descriptor, _ selector: UInt16, _ layout: TaskLayout,
        pointers: SIMD4<UInt64>?, isNested: Bool
    ) {
        state.taskRegister = target.segment(selector)
        state.taskRegister.attributes = target.attributes | 2
        state.cr0 |= CR0.taskSwitched
        for number in 0..<8 { self[UInt16(number) &* 8] = new.general[number] }
        let flags = new.flags | (isNested ? RFLAGS.nestedTask : 0)
        setFlags(layout.isWide ? flags : flags & 0xffff)
        state.resumeFlagLoaded = true
        state.dr7 &= ~DebugControl.localEnables
        state.rip = new.rip
        if new.trapsOnEntry { state.debugConditions |= DebugStatus.taskSwitch }
        for number in 0..<6 { state.segments[number] = .null(new.selectors[number]) }
        state.ldtr = .null(new.localTable)
        updateMode()
        if isVirtual8086 {
            for register in SegmentRegister.allCases {
                loadParagraph(register, self[register].selector)
            }
        }
        state.taskEntry = TaskEntry(next: .localTable)
        if let pointers { state.pointers = pointers }
        if changesRoot(new, layout) {
            ControlRegisters.loadRoot(self, new.root, flushes: true)
        }
    }
}
