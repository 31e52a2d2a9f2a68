import X86

/// What is left to do of a task switch after its task has been entered: loading its segments, by
/// its own tables (SDM Vol. 3A §7.3).
///
/// It is kept, as an event on its way is (`LatchedEvent`): where the switch has loaded CR3, the
/// hypervisor is to put the new root in force first, and each step may need its help. The steps
/// not done yet are taken before anything else at the next entry. Selectors are in their registers
/// already, whose hidden parts are those of null until they are loaded. A fault is the new task's,
/// at its first instruction, and ends the entry.
struct TaskEntry {
    /// In the order in which they are taken.
    enum Step: UInt8 {
        case localTable, code, stack, ds, es, fs, gs
        /// An exception's error code goes to the new task's stack (SDM Vol. 3A §6.13).
        case error
        case limit
        case done
    }
    /// The step that is taken next.
    var next = Step.done
    /// The error code of the exception that came through a task gate, if it has one.
    var error: UInt32?

    var isPending: Bool { next != .done }
}

extension Core {
    /// Takes the steps that are left, as far as they go: `State.pending` says why where it is not
    /// to the end. Does nothing before an exit that is due, such as that of a new root.
    func continueTaskEntry() {
        while state.taskEntry.isPending, state.pending == .none {
            guard take(state.taskEntry.next) else {
                if state.pending != .faultExit { state.taskEntry.next = .done }
                return
            }
            state.taskEntry.next =
                TaskEntry.Step(rawValue: state.taskEntry.next.rawValue &+ 1) ?? .done
        }
    }

    /// - Returns: false after raising a fault or an exit before the step; it can be taken again.
    private func take(_ step: TaskEntry.Step) -> Bool {
        switch step {
        case .localTable: loadLocalTable(state.ldtr.selector)
        case .code: isVirtual8086 || loadTaskCode(self[.cs].selector)
        case .stack: isVirtual8086 || loadTaskStack(self[.ss].selector)
        case .ds: loadTaskData(.ds)
        case .es: loadTaskData(.es)
        case .fs: loadTaskData(.fs)
        case .gs: loadTaskData(.gs)
        case .error: pushTaskError()
        case .limit:
            enterInTask()
        case .done: true
        }
    }

    private func loadLocalTable(_ selector: UInt16) -> Bool {
        guard selector & 0xfffc != 0 else { return true }
        guard selector & 4 == 0, let address = descriptorAddress(selector) else {
            return failed(fault(.invalidTSS, selector))
        }
        guard let low = readSystem(UInt64.self, linear: address) else { return false }
        let table = Descriptor(low: low)
        guard table.isSystem, table.systemType == 2, table.isPresent else {
            return failed(fault(.invalidTSS, selector))
        }
        state.ldtr = table.segment(selector)
        return true
    }

    private func loadTaskCode(_ selector: UInt16) -> Bool {
        guard selector & 0xfffc != 0 else { return failed(raise(.invalidTSS)) }
        guard let code = readDescriptor(selector, .invalidTSS) else { return false }
        let level = UInt8(truncatingIfNeeded: selector) & 3
        guard code.isCode, code.isConforming ? code.dpl <= level : code.dpl == level else {
            return failed(fault(.invalidTSS, selector))
        }
        guard code.isPresent else { return failed(fault(.segmentNotPresent, selector)) }
        guard markAccessed(selector, code) else { return false }
        enterCode(code, selector, level: level, rip: state.rip)
        return true
    }

    private func loadTaskStack(_ selector: UInt16) -> Bool {
        guard
            let stack = SegmentLoading.stack(
                self, selector, level: state.cpl, vector: .invalidTSS)
        else { return false }
        self[.ss] = stack
        return true
    }

    private func loadTaskData(_ register: SegmentRegister) -> Bool {
        if isVirtual8086 || SegmentLoading.load(self, register, self[register].selector) {
            return true
        }
        // A wrong selector in a TSS is #TS, not #GP.
        if state.pending == .exception,
            state.pendingVector == ExceptionVector.generalProtection.rawValue
        {
            state.pendingVector = ExceptionVector.invalidTSS.rawValue
        }
        return false
    }

    private func enterInTask() -> Bool {
        guard state.rip <= UInt64(self[.cs].limit) else { return failed(generalProtection()) }
        VirtualInterrupts.check(self)
        return state.pending == .none
    }

    private func pushTaskError() -> Bool {
        guard let error = state.taskEntry.error else { return true }
        // EXT: only exceptions have error codes.
        var stack = StackView(self, error: 1)
        guard stack.push(UInt64(error), state.taskRegister.type & 8 != 0 ? 4 : 2) else {
            return false
        }
        setStackPointer(stack.pointer)
        return true
    }
}
