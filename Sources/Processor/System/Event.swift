import X86

/// What makes the processor enter the guest's interrupt handler.
struct Event: Equatable {
    var vector: UInt8
    var kind: Kind
    /// Pushed where the architecture says so; nil: the vector has none.
    var error: UInt32?
    /// The offset in CS to return to.
    var returnRIP: UInt64 = 0

    enum Kind: UInt8 {
        case exception
        /// INT n: the gate's DPL is checked, and IOPL in virtual-8086 mode.
        case softwareInterrupt
        /// INT3, INTO: the gate's DPL is checked.
        case softwareException
        /// INT1.
        case privilegedException
        case external
        case nonMaskable
    }

    /// EXT: the event came from outside the program (SDM Vol. 3A §6.13).
    var external: UInt32 {
        kind == .softwareInterrupt || kind == .softwareException ? 0 : 1
    }
    var checksPrivilege: Bool { external == 0 }
    /// The error code that names the event's own gate.
    var gateError: UInt32 { UInt32(vector) << 3 | 2 | external }
    /// Exceptions that are reported before the instruction set RF in the image of EFLAGS, so that
    /// an instruction breakpoint there is not met again (SDM Vol. 3B §17.3.1.1).
    var setsResumeFlag: Bool {
        kind == .exception && vector != ExceptionVector.debug.rawValue
    }
}

/// An event that is on its way to the guest, kept until it has arrived: pushing its frame may need
/// the hypervisor's help first.
struct LatchedEvent {
    var isValid = false
    var event = Event(vector: 0, kind: .exception)

    /// How an exception counts when a second one meets it (SDM Vol. 3A Table 6-4).
    enum Severity { case benign, contributory, pageFault, doubleFault }

    static func severity(_ event: Event) -> Severity {
        guard event.kind == .exception else { return .benign }
        switch ExceptionVector(rawValue: event.vector) {
        case .divideError, .invalidTSS, .segmentNotPresent, .stackFault, .generalProtection:
            return .contributory
        case .pageFault: return .pageFault
        case .doubleFault: return .doubleFault
        default: return .benign
        }
    }
}

/// Getting events to the guest.
extension Processor {
    /// Whether the delivery of an event, or a task switch, has begun and waits to be gone on with at
    /// the next entry: the processor is not between two instructions, though it may have retired as
    /// many as it was to.
    public var isDeliveringEvent: Bool {
        core.state.latched.isValid || core.state.taskEntry.isPending
    }

    /// Delivers the pending exception or the latched event, escalating to double and triple faults.
    ///
    /// RIP is at the instruction that faulted, or after the one that trapped.
    /// - Returns: the exit to take; nil where the guest goes on in its handler.
    func deliverPending() -> Exit? {
        switch core.state.pending {
        case .exception: latchPending()
        case .faultExit, .trapExit: return takeExit()
        case .none: break
        }
        while core.state.latched.isValid {
            core.state.pending = .none
            if core.state.isShutDown { return shutDown() }
            core.state.latched.event.returnRIP = core.state.rip
            let event = core.state.latched.event
            if core.deliver(event) {
                core.state.latched.isValid = false
                count(event)
                core.state.interruptShadow = false
                switch core.state.pending {
                case .none: return nil
                case .exception:
                    // A task switch entered the new task, which faults at its first instruction.
                    latchPending()
                    continue
                case .trapExit, .faultExit: return takeExit()
                }
            }
            switch core.state.pending {
            case .exception: latchPending()
            case .faultExit, .trapExit, .none:
                core.state.pending = .none
                return core.state.pendingExit
            }
        }
        return nil
    }

    /// The pending exit, which is taken. One after a step in which protected writes were completed
    /// stands for `writeCompleted` too.
    func takeExit() -> Exit {
        if core.state.pending == .trapExit { control.completesProtectedWrites = false }
        core.state.pending = .none
        return core.state.pendingExit
    }

    /// Delivers an NMI.
    func deliverNMI() -> Exit? {
        latch(Event(vector: ExceptionVector.nonMaskableInterrupt.rawValue, kind: .nonMaskable))
        return deliverPending()
    }

    /// Delivers the maskable interrupt `vector`, which the platform has acknowledged.
    func deliverInterrupt(_ vector: UInt8) -> Exit? {
        latch(Event(vector: vector, kind: .external))
        return deliverPending()
    }

    private func latch(_ event: Event) {
        core.state.latched.isValid = true
        core.state.latched.event = event
    }

    /// Makes the pending exception the latched event. Where another is latched already, its
    /// delivery caused the exception, and the two are combined (SDM Vol. 3A Table 6-5).
    private func latchPending() {
        let vector = core.state.pendingVector
        let hasError = ExceptionVector(rawValue: vector)?.hasErrorCode ?? false
        let second = Event(
            vector: vector, kind: .exception, error: hasError ? core.state.pendingError : nil)
        core.state.pending = .none
        core.state.pendingNonCanonical = false
        core.state.isHalted = false
        if vector == ExceptionVector.pageFault.rawValue {
            core.state.cr2 = core.state.pendingAddress
            if hasObserver { observeFault(core.state.pendingAddress, core.state.pendingError) }
        }
        guard core.state.latched.isValid else { return latch(second) }
        let combined = (
            LatchedEvent.severity(core.state.latched.event), LatchedEvent.severity(second)
        )
        switch combined {
        case (.doubleFault, .contributory), (.doubleFault, .pageFault):
            core.state.isShutDown = true
        case (.contributory, .contributory), (.pageFault, .contributory),
            (.pageFault, .pageFault):
            latch(
                Event(
                    vector: ExceptionVector.doubleFault.rawValue, kind: .exception, error: 0))
        default:
            latch(second)
        }
    }

    private func shutDown() -> Exit {
        core.state.latched.isValid = false
        core.state.isShutDown = false
        return .tripleFault
    }

    private func count(_ event: Event) {
        switch event.kind {
        case .external, .nonMaskable: statistics.interrupts += 1
        default:
            statistics.exceptions += 1
            noteStandstill()
            if event.vector == ExceptionVector.pageFault.rawValue { statistics.pageFaults += 1 }
        }
    }

    /// Has the board look in where exceptions go on without end and nothing retires. Only what is
    /// delivered counts, which is the same under every technique.
    private func noteStandstill() {
        let retired = core.state.retired
        exceptionsInPlace = retired == lastExceptionRetired ? exceptionsInPlace + 1 : 1
        lastExceptionRetired = retired
        guard exceptionsInPlace == Self.exceptionsOfStandstill else { return }
        exceptionsInPlace = 0
        standsStill = true
        requestStop()
    }

    /// How many exceptions without a retired instruction make a standstill.
    private static let exceptionsOfStandstill = 256

    /// Whether the guest has taken many exceptions since it last retired an instruction, and goes
    /// on so; told once.
    public func takeStandstill() -> Bool {
        defer { standsStill = false }
        return standsStill
    }
}
