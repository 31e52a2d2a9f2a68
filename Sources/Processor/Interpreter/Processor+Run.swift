import X86

/// The run loop: between blocks it looks at everything that may come between instructions.
extension Processor {
    /// Executes the guest until something is for the hypervisor or the board.
    /// - Parameter limit: run until the retired count reaches this.
    public func run(until limit: UInt64) -> Exit {
        if control.trace.consumer != lastConsumer {
            lastConsumer = control.trace.consumer
            forgetRecentRecords()
        }
        if let fault = control.injection {
            control.injection = nil
            core.state.pendingAddress = fault.address.rawValue
            // If a task was being entered, it faults, and so is entered.
            core.state.taskEntry.next = .done
            _ = core.raise(.pageFault, error: fault.error.rawValue)
        }
        if core.state.pending != .none || isDeliveringEvent {
            core.continueTaskEntry()
            if let exit = deliverPending() { return exit }
            if control.completesProtectedWrites { return endCompletion() }
        }
        core.state.shadowedOp = 0
        stirCaches()
        let translations = translations
        var standstills = 0
        while true {
            if let exit = betweenInstructions(limit) { return exit }
            guard let block = block(at: core.state.rip), let count = permittedCount(block) else {
                if let exit = deliverPending() { return exit }
                if control.completesProtectedWrites { return endCompletion() }
                standstills += 1
                if standstills == Self.standstillsPerEntry { return .stopped }
                continue
            }
            let budget = limit &- core.state.retired
            let status: Status
            if isSurrounded {
                status = runOne(block)
            } else if let translations, count <= budget, count == block.count,
                let far = translations.with({ translated(block, $0) })
            {
                status = translations.with { runTranslated(far, limit: limit, $0) }
            } else {
                status = execute(block, count: min(count, budget))
            }
            let isDone = status == .next || status == .jump
            // What comes between two iterations finds RF set: the instruction's breakpoint was met
            // before the first (SDM Vol. 3B §17.3.1.1).
            if status == .again { core.state.systemFlags |= RFLAGS.resume }
            if isDone, core.state.pending == .none, !control.completesProtectedWrites { continue }
            if let exit = finish() { return exit }
            if control.completesProtectedWrites { return endCompletion() }
            if status == .again || status == .fault {
                // A REP may run for hours without retiring, and a handler may fault at its own
                // first instruction for ever: let the board look in.
                standstills += 1
                if standstills == Self.standstillsPerEntry { return .stopped }
            }
        }
    }

    /// The step is over in which writes to protected pages were completed.
    private func endCompletion() -> Exit {
        control.completesProtectedWrites = false
        return .writeCompleted
    }

    /// How many slices of repeated string instructions and exceptions, none of which retires an
    /// instruction, `run` sees before it returns `.stopped`.
    private static let standstillsPerEntry = 256

    /// Runs the ops of a block until one does not simply continue, and brings RIP and the retired
    /// count up to date.
    @inline(__always)
    private func execute(_ block: BlockRef, count: UInt64) -> Status {
        let start = block.ops
        let stride = UInt(MemoryLayout<Op>.stride)
        core.state.registers[17] = core.state.rip &- block.offset
        core.state.blockStart = start
        core.state.blockEnd = start &+ UInt(truncatingIfNeeded: count) &* stride
        var op = start
        var status: Int32
        repeat {
            core.state.currentOp = op
            status = unsafe UnsafePointer<Op>(bitPattern: op).unsafelyUnwrapped.pointee
                .handler(core.address, op)
            op &+= stride
        } while status == 0 && op < core.state.blockEnd
        core.state.blockStart = 0
        var executed = UInt64(op &- start) / UInt64(stride)
        let last = OpRef(op &- stride)
        switch status {
        case Status.next.rawValue: core.state.rip = core.nextRIP(last)
        case Status.jump.rawValue: break
        default:
            core.state.rip = core.currentRIP(last)
            core.restoreShadow()
            executed &-= 1
            if core.state.pendingNonCanonical { refineNonCanonical(last) }
        }
        core.state.retired &+= executed
        return Status(rawValue: status)
    }

    /// One instruction, with what surrounds it while debugging or in an interrupt shadow.
    private func runOne(_ block: BlockRef) -> Status {
        let shadow = core.state.interruptShadow
        core.state.interruptShadow = false
        if core.state.isObserved {
            tellInstructionObserver()
            if stopsForDebugger() {
                core.state.interruptShadow = shadow
                return .again
            }
        }
        if core.debugActive, checkInstructionBreakpoints(core) { return .fault }
        let wasStepping = beginDebugStep(core)
        let conditions = core.state.debugConditions
        let status = execute(block, count: 1)
        if core.state.isObserved { reportAccess(status) }
        if status == .next || status == .jump {
            endDebugStep(core, wasStepping, isBranch: status == .jump)
        } else if status == .again, core.state.pending == .none {
            // Between two iterations of a REP.
            if core.state.debugConditions != 0 { _ = checkInstructionBreakpoints(core) }
            // That an iteration ends the step is not the guest's to see.
            if control.completesProtectedWrites { core.state.interruptShadow = shadow }
        } else if core.state.pending == .exception {
            // The breakpoints that it met are met again where it is executed anew, if it is.
            core.state.debugConditions = conditions
        } else if core.state.pending == .faultExit {
            core.state.debugConditions = conditions
            // The instruction is executed again, still in the shadow of the one before it.
            core.state.interruptShadow = shadow
        }
        return status
    }

    /// A function of its own, so that the check for exclusive access to the observer is made here
    /// and not at each entry.
    @inline(never)
    private func tellInstructionObserver() { instructionObserver?(self) }

    /// Whether an interrupt or NMI is due that only a shadow can be holding back.
    var hasDeliverableInterrupt: Bool {
        interruptRequested && interruptsEnabled || nmiRequested && !core.state.nmiBlocked
    }

    /// Whether an interrupt or NMI is requested, be it allowed or not.
    var hasWaitingInterrupt: Bool { interruptRequested || nmiRequested }

    /// What an instruction left to be done.
    private func finish() -> Exit? {
        switch core.state.pending {
        case .none: return nil
        case .exception: return deliverPending()
        case .faultExit, .trapExit: return takeExit()
        }
    }

    /// Everything that is looked at between two instructions.
    @inline(__always)
    private func betweenInstructions(_ limit: UInt64) -> Exit? {
        isUndisturbed(limit) ? nil : attend(limit)
    }

    /// Whether there is nothing to look at between two instructions.
    @inline(__always)
    func isUndisturbed(_ limit: UInt64) -> Bool {
        !stopRequested && core.state.retired < limit && !core.state.isHalted && !nmiRequested
            && !interruptRequested
    }

    /// Whether instructions run one at a time, with something before and after each.
    @inline(__always)
    var isSurrounded: Bool {
        core.state.interruptShadow || core.debugActive || core.state.isObserved
            || control.completesProtectedWrites
    }

    @inline(never)
    private func attend(_ limit: UInt64) -> Exit? {
        if stopRequested {
            stopRequested = false
            return .stopped
        }
        if core.state.waitsForStartup { return .halted }
        // Before interrupts: one that becomes deliverable where a slice ends waits for what the
        // platform does there, whether the slice ended here or with an exit.
        if core.state.retired >= limit { return .limit }
        if !core.state.interruptShadow {
            var isDelivered = false
            if nmiRequested && !core.state.nmiBlocked {
                nmiRequested = false
                core.state.isHalted = false
                if let exit = deliverNMI() { return exit }
                isDelivered = true
            } else if interruptRequested && interruptsEnabled {
                if let vector = platform.acknowledgeInterrupt(processor: index) {
                    core.state.isHalted = false
                    if let exit = deliverInterrupt(vector) { return exit }
                    isDelivered = true
                } else {
                    interruptRequested = false
                }
            }
            if isDelivered && control.completesProtectedWrites { return endCompletion() }
        }
        return core.state.isHalted ? .halted : nil
    }

    /// How many of a block's instructions lie within CS.limit; nil after raising #GP(0).
    @inline(__always)
    private func permittedCount(_ block: BlockRef) -> UInt64? {
        if core.state.mode == .long64 { return block.count }
        return countWithinLimit(block)
    }

    @inline(never)
    private func countWithinLimit(_ block: BlockRef) -> UInt64? {
        let limit = UInt64(core[.cs].limit)
        let rip = core.state.rip
        if rip &+ block.length &- 1 <= limit { return block.count }
        var count: UInt64 = 0
        var op = block.ops
        while count < block.count,
            rip &+ UInt64(OpRef(op).nextOffset) &- block.offset &- 1 <= limit
        {
            count += 1
            op += UInt(MemoryLayout<Op>.stride)
        }
        if count > 0 { return count }
        _ = core.generalProtection()
        return nil
    }

    /// A non-canonical address in an operand whose segment is SS raises #SS(0)
    /// (SDM Vol. 1 §3.3.7.1).
    func refineNonCanonical(_ op: OpRef) {
        core.state.pendingNonCanonical = false
        if op.segment == .ss, op.destination == .memory || op.source == .memory,
            core.state.pendingVector == ExceptionVector.generalProtection.rawValue
        {
            core.state.pendingVector = ExceptionVector.stackFault.rawValue
        }
    }
}
