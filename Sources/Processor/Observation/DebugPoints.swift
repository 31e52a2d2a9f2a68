import X86

/// Where a debugger wants the processor to stop. The guest sees nothing of it: no instruction is
/// replaced, and the guest's own debug registers have no part in it.
public struct DebugPoints: Equatable, Sendable {
    /// Linear addresses; before an instruction at one of them is executed.
    public var instructions: Set<UInt64> = []
    /// After an instruction that has accessed one of these.
    public var accesses: [DebugWatch] = []

    public init() {}

    public var isEmpty: Bool { instructions.isEmpty && accesses.isEmpty }
}

/// Memory whose accesses a debugger wants to know of.
public struct DebugWatch: Hashable, Sendable {
    /// Which accesses count.
    public enum Kind: Sendable { case write, read, access }

    /// The linear address of the first byte.
    public var address: UInt64
    /// In bytes, at least 1.
    public var length: UInt64
    public var kind: Kind

    public init(address: UInt64, length: UInt64, kind: Kind) {
        self.address = address
        self.length = length
        self.kind = kind
    }

    /// Whether an access of `size` bytes from `start` is one of these.
    func isMet(by start: UInt64, size: UInt64, write: Bool) -> Bool {
        switch kind {
        case .write: if !write { return false }
        case .read: if write { return false }
        case .access: break
        }
        return start &- address < length || address &- start < size
    }

    /// Whether any of it lies in the page at a linear address.
    func touchesPage(_ page: UInt64) -> Bool {
        let page = page & ~0xfff
        return page &- address < length || address &- page < pageSize
    }
}

/// Why a processor has stopped for a debugger.
public enum DebugStop: Equatable, Sendable {
    /// The next instruction is at this address, which is in `DebugPoints.instructions`.
    case instruction(UInt64)
    /// The last instruction, or iteration of a REP, has accessed this.
    case access(DebugWatch)
    /// One instruction has retired, or an event was delivered in its place.
    case stepped
    /// It was asked to from outside.
    case interrupted
}

/// A debugger's wishes to one processor, and what has come of them.
///
/// They cost nothing while there are none. While there are some, each instruction is executed by
/// itself (`State.isObserved`), and accesses to watched pages take the slow path; no count of the
/// machine's changes for it.
struct DebugState {
    var points = DebugPoints()
    /// Where a single step began: the linear address and retired count.
    var step: (address: UInt64, retired: UInt64)?
    /// What the running instruction has accessed.
    var hit: DebugWatch?
    var stop: DebugStop?

    var isActive: Bool { !points.isEmpty || step != nil }
}

extension Processor {
    /// Where to stop. Not to be set while the processor runs.
    public var debugPoints: DebugPoints {
        get { debugState.points }
        set {
            debugState.points = newValue
            updateObservation()
            // Accesses to watched pages take the slow path; which they are has changed.
            caches.emptySoftware()
        }
    }

    /// Has the processor stop after its next instruction, or at the first instruction of a handler
    /// that an event takes it to before that. A processor that waits stops when it wakes up.
    public func beginDebugStep() {
        debugState.step = (linearRIP, retired)
        updateObservation()
    }

    /// Ends a single step, whether or not it has come to its end.
    public func endDebugStep() {
        debugState.step = nil
        updateObservation()
    }

    /// The retired count that `run` must not pass by for the single step to be exact.
    public var debugLimit: UInt64 { debugState.step.map { $0.retired &+ 1 } ?? .max }

    /// Why the processor has stopped for the debugger since this was asked last.
    public func takeDebugStop() -> DebugStop? {
        if debugState.stop == nil, let step = debugState.step, retired > step.retired {
            debugState.stop = .stepped
        }
        defer { debugState.stop = nil }
        return debugState.stop
    }

    /// The linear address of the next instruction.
    public var linearRIP: UInt64 {
        core.is64 ? core.state.rip : (core.state.rip &+ core[.cs].base) & 0xffff_ffff
    }

    func updateObservation() {
        core.state.isObserved = instructionObserver != nil || debugState.isActive
    }

    /// Whether the debugger wants to stop before the instruction at RIP; then it is asked for.
    func stopsForDebugger() -> Bool {
        // A write to a protected page is being completed: the instruction has begun before.
        guard debugState.isActive, !control.completesProtectedWrites else { return false }
        let place = linearRIP
        debugState.hit = nil
        if let step = debugState.step {
            // Begun anew after an exit, it is the same step.
            if step == (place, core.state.retired) { return false }
            debugState.stop = .stepped
        }
        if debugState.points.instructions.contains(place) { debugState.stop = .instruction(place) }
        guard debugState.stop != nil else { return false }
        stopRequested = true
        return true
    }

    /// Notes an access that the debugger may watch, of the running instruction.
    @inline(never)
    func noteForDebugger(_ address: UInt64, size: Int, write: Bool) {
        for watch in debugState.points.accesses
        where watch.isMet(by: address, size: UInt64(size), write: write) {
            debugState.hit = watch
            // A REP stops after the iteration.
            core.leaveBlock()
        }
    }

    /// Whether the debugger watches anything in the page at a linear address.
    @inline(never)
    func debuggerWatchesPage(_ address: UInt64) -> Bool {
        debugState.points.accesses.contains { $0.touchesPage(address) }
    }

    /// Asks to stop where the instruction that has just been executed has met a watchpoint. One
    /// that is begun anew will meet it again.
    func reportAccess(_ status: Status) {
        guard let hit = debugState.hit else { return }
        debugState.hit = nil
        guard status != .fault else { return }
        debugState.stop = .access(hit)
        stopRequested = true
    }
}
