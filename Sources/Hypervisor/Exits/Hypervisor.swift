import MachineMemory
import Processor
import X86

/// The software half of Penumbra: it fills the processors' control blocks, answers their exits, and
/// keeps the ledger.
///
/// *Problem.* One guest is to run under different techniques of memory virtualization, instruction
/// for instruction the same, with exact counts of what each one did.
///
/// *Approach.* A technique is how the control block is filled and how exits are answered, and its
/// `Policy` says both. Under `bare` the processor walks the guest's own tables and nothing exits.
/// Under `traced` it walks `ShadowMMU`'s tables, and each coherency-inducing operation exits to
/// have the guest write buffers drained. Under `trap` it walks them too, and each write to a guest
/// table exits instead; under `unsync`, of a table of the lowest level only the first; under `agile`
/// until there were many, from when on the processor walks that table itself. Under
/// `nested` the processor walks the guest's tables, and `ShadowMMU` holds the second dimension,
/// which is the identity map that a guest without paging has for a shadow.
///
/// *Example.*
/// ```swift
/// let bytes = Hypervisor.hypervisorBytes(for: technique, shadowBytes: 64 << 20, processors: 1)
/// let memory = try MachineMemory(guestBytes: 512 << 20, hypervisorBytes: bytes)
/// let hypervisor = try Hypervisor(
///     memory: memory, processors: [processor], technique: technique, shadowBytes: 64 << 20)
/// hypervisor.start()
/// while hypervisor.handle(processor.run(until: limit), processor: 0) {}
/// ```
///
/// *Caveats.* One host thread at a time.
public final class Hypervisor {
    /// How memory is virtualized.
    public let technique: Technique
    let policy: Policy
    let processors: [Processor]
    /// The same, for what is done at each exit.
    private let exiting: [Unretained<Processor>]
    let mmu: ShadowMMU?
    /// The same, for what is done at most exits.
    private let shadow: Unretained<ShadowMMU>?
    private let layout: TraceLayout
    private(set) var rings: [TraceRing] = []
    private var exits = Tally<ExitReason>()
    private var fullestRing: UInt64 = 0
    private var division = LedgerDivision()
    /// A flag of its own: to look into `division` is to be checked for exclusive access.
    private var countsPlaces = false
    /// Whether processors load roots by themselves (`TraceParameters.elide`), and whether there are
    /// deliberate mistakes: `policy` holds both, and is longer to ask at each exit.
    private let elidesRoots: Bool
    private let hasDefects: Bool
    /// The last fault-like exit for a translation: whose, and after how many instructions.
    private let lastFault: LazyTable<Fault>

    private struct Fault: BitwiseCopyable, Equatable {
        var processor = -1
        var retired = UInt64.max
    }

    /// How much machine memory the hypervisor needs: what the traced-write facility uses from
    /// machine address 0 up (`TraceLayout`), and `shadowBytes` for shadow pages after it. 0 for
    /// `bare`.
    /// - Parameter guestBytes: the guest's RAM; it counts where the facility keeps something for
    ///   each of the guest's frames, with `indication=frame` and `record=mask`.
    public static func hypervisorBytes(
        for technique: Technique, shadowBytes: UInt64, processors: Int, guestBytes: UInt64 = 0
    ) -> UInt64 {
        let policy = technique.policy
        guard policy.walked != .guest else { return 0 }
        let frames = TraceLayout.frameCount(guestBytes: guestBytes)
        return TraceLayout(policy.trace, processors: processors, frames: 0..<frames).end
            &+ shadowBytes / pageSize * pageSize
    }

    /// Makes the hypervisor of a machine.
    /// - Parameters:
    ///   - memory: made with at least `hypervisorBytes` of hypervisor memory.
    ///   - processors: all of the machine's, by number.
    ///   - shadowBytes: the ceiling on shadow pages; ignored under `bare`.
    public convenience init(
        memory: MachineMemory, processors: [Processor], technique: Technique, shadowBytes: UInt64
    ) throws(HypervisorError) {
        try self.init(
            memory: memory, processors: processors, technique: technique, shadowBytes: shadowBytes,
            defects: [])
    }

    /// The same with deliberate mistakes, for tests.
    package init(
        memory: MachineMemory, processors: [Processor], technique: Technique, shadowBytes: UInt64,
        defects: Defects
    ) throws(HypervisorError) {
        guard !processors.isEmpty else { throw .noProcessor }
        guard let lastFault = LazyTable<Fault>(count: 1) else { throw .noHostMemory }
        self.lastFault = lastFault
        self.technique = technique
        self.processors = processors
        exiting = processors.map { Unretained($0) }
        var policy = technique.policy
        policy.defects = defects
        self.policy = policy
        elidesRoots = policy.trace?.elide == true
        hasDefects = !defects.isEmpty
        layout = TraceLayout(
            policy.trace, processors: processors.count, frames: TraceLayout.frames(of: memory))
        guard policy.walked != .guest else {
            mmu = nil
            shadow = nil
            return
        }
        lastFault[0] = Fault()
        let least = ShadowMMU.leastPages(processors: processors.count, policy: policy)
        guard shadowBytes / pageSize >= least else {
            throw .tooLittleShadowMemory(given: shadowBytes, least: least * pageSize)
        }
        let mmu = try ShadowMMU(
            memory: memory, caches: processors, firstFrame: layout.end / pageSize,
            pageCount: shadowBytes / pageSize, policy: policy, layout: layout)
        self.mmu = mmu
        shadow = Unretained(mmu)
        rings = processors.enumerated().compactMap { number, processor in
            layout.ring(number, producer: processor.traceProducer)
        }
    }

    /// Fills the control blocks for the processors' present state. To be called once the board has
    /// set the registers that the guest starts with, before the first run, and again whenever it
    /// changes CR0, CR3, CR4 or EFER itself.
    public func start() {
        for number in processors.indices { restart(processor: number) }
    }

    /// The same for one processor alone: after the board has given it an INIT. Other numbers than
    /// the processors' are ignored.
    public func restart(processor number: Int) {
        guard processors.indices ~= number else { return }
        adoptElidedRoots()
        mmu?.forgetRoots(processor: number)
        if hasPendingRecords { drain(.pagingModeChanged) }
        let processor = processors[number]
        processor.control.exitsOnPagingOperations = policy.walked == .shadow
        processor.control.exitsOnInvalidation = policy.exitsOnInvalidation
        processor.control.trace.isEnabled = false
        switch policy.walked {
        case .guest: processor.control.paging = .guest
        case .shadow:
            if rings.indices ~= number {
                processor.control.trace = layout.controls(number, rings[number])
            }
            resyncAll()
            loadRoot(number)
        case .nested:
            if let mmu {
                processor.control.paging = .nested(
                    root: mmu.loadSecondDimension(processor: number))
            }
        }
        processor.invalidateAll()
    }

    /// Answers an exit of processor number `processor`.
    /// - Returns: true where the guest goes on; false where the exit is none of memory
    ///   virtualization's, and the board's to answer (`limit`, `halted`, `stopped`,
    ///   `tripleFault`).
    public func handle(_ exit: Exit, processor number: Int) -> Bool {
        // Model: step L1. No processor runs until this returns.
        exiting[number].with { handle(exit, number, $0) }
    }

    @inline(__always)
    private func handle(_ exit: Exit, _ number: Int, _ processor: Processor) -> Bool {
        if elidesRoots { adoptElidedRoots() }
        mmu?.isBegunAnew = isBegunAnew(exit, number, processor)
        applyCompleted(processor)
        var reason = ExitReason(exit)
        defer { if let reason { count(reason, processor) } }
        if hasDefects, isIgnored(exit, number) { return true }
        switch exit {
        case .limit, .halted, .stopped, .tripleFault:
            return false
        case .pageFault(let address, let access):
            if !policy.defects.contains(.skipsDrainAtFault) { drain(.pageFault) }
            switch resolve(address, access, number, processor) {
            case .tableWrite, .unsynced: reason = .tableWrite
            case .hidden, .injected, .none: break
            }
        case .secondDimensionFault(let address, let access):
            switch mmu?.resolveSecondDimension(address, access) {
            case .tableWrite:
                reason = .tableWrite
                processor.control.completesProtectedWrites = true
            case .unsynced: reason = .tableWrite
            case .hidden, .injected, .none: break
            }
        case .rootLoaded:
            drain(.rootLoaded)
            resyncAll()
            loadRoot(number)
            mmu?.knowRoot(processor: number, mode: processor.guestMode)
        case .invalidatePage(let address):
            drain(.invalidatePage, number)
            if policy.unsyncsLeafTables { mmu?.invalidated(address, processor: number) }
        case .invalidatePCID:
            drain(.invalidatePCID)
            resyncAll()
        case .pagingModeChanged(let cr0, _, _):
            drain(.pagingModeChanged)
            resyncAll()
            pagingModeChanged(from: cr0, number)
        case .bufferThreshold:
            drain(.bufferThreshold)
        case .bufferFull:
            drain(.bufferFull)
        case .writeCompleted: break
        }
        return true
    }

    /// Tells that guest memory was written by something other than the processors: a device, a
    /// loader. `range` is in guest-physical bytes.
    public func guestMemoryWritten(_ range: Range<GuestPhysicalAddress>) {
        adoptElidedRoots()
        // What is written here is applied at once; no older record may be behind it (`setLink`).
        if hasPendingRecords { drain(.deviceWrite) }
        mmu?.guestMemoryWritten(range)
    }

    /// What has happened so far. Reading it drains, fills and flushes nothing.
    public var ledger: Ledger {
        var ledger = mmu?.ledger ?? Ledger()
        ledger.exits = exits
        for processor in processors {
            let statistics = processor.statistics
            ledger.instructions &+= processor.retired &- processor.retiredBefore
            ledger.tlbMisses &+= statistics.tlbMisses
            ledger.walkReferences &+= statistics.walkReferences
            ledger.recordsWritten &+= statistics.records
            ledger.recordsCoalesced &+= statistics.coalesced
            ledger.elided[.rootLoaded] &+= statistics.elidedRootLoads
            ledger.elided[.invalidatePage] &+= statistics.elidedPageInvalidations
            ledger.elided[.invalidatePCID] &+= statistics.elidedPCIDInvalidations
            ledger.deviceAccesses &+= statistics.deviceAccesses
            ledger.interrupts &+= statistics.interrupts
            ledger.exceptions &+= statistics.exceptions
        }
        return ledger
    }

    /// The most records that were pending in one write buffer since this was asked last.
    public func takeFullestBuffer() -> UInt64 {
        let fullest = processors.reduce(fullestRing) { most, processor in
            processor.control.trace.isEnabled ? max(most, processor.tracePending) : most
        }
        fullestRing = 0
        return fullest
    }

    /// The same in parts: by region, and after `countPlaces` by guest code and process.
    public var breakdown: LedgerBreakdown { division.breakdown(ledger) }

    /// Has exits counted by where they come from, from now on.
    public func countPlaces() {
        division.countPlaces()
        countsPlaces = true
    }

    /// Begins or ends a region of the ledger: the guest has executed a marker.
    public func mark(_ marker: RegionMarker) { division.mark(marker, ledger) }

    /// What is wrong with the shadow, for tests; empty where nothing is, and under `bare`. Means
    /// something only while no records are pending.
    package func audit() -> [Violation] { mmu?.audit() ?? [] }

    /// Puts one thing wrong in the shadow, for tests of `audit`; false where there is none.
    package func corrupt(_ corruption: Corruption) -> Bool { mmu?.corrupt(corruption) ?? false }

    /// Whether any processor has written records that are not drained yet.
    package var hasPendingRecords: Bool {
        policy.trace != nil && exiting.contains { $0.with { $0.hasPendingRecords } }
    }

    // MARK: Exits

    private func count(_ reason: ExitReason, _ processor: Processor) {
        exits[reason] &+= 1
        if countsPlaces {
            division.count(reason, code: processor.rip, process: processor.guestRoot)
        }
    }

    /// Whether an instruction faults that did so at the exit before: what it wrote is written anew
    /// at each attempt, and says nothing of what the guest does with its pages.
    private func isBegunAnew(_ exit: Exit, _ number: Int, _ processor: Processor) -> Bool {
        switch exit {
        case .pageFault, .secondDimensionFault:
            let fault = Fault(processor: number, retired: processor.retired)
            defer { lastFault[0] = fault }
            return fault == lastFault[0]
        default: return false
        }
    }

    /// Whether the exit is left unanswered, by a deliberate mistake; a new root is loaded still.
    private func isIgnored(_ exit: Exit, _ number: Int) -> Bool {
        let defects = policy.defects
        switch exit {
        case .invalidatePage: return defects.contains(.ignoresInvalidatePage)
        case .invalidatePCID(let type, _, _):
            return defects.contains(.ignoresInvalidatePCID(type: type))
        case .pagingModeChanged:
            return !defects.isDisjoint(with: [.ignoresModeChange, .reusesRoots])
        case .rootLoaded(let flushed):
            guard defects.contains(flushed ? .ignoresRootLoad : .reusesRoots) else { return false }
            loadRoot(number)
            return true
        default: return false
        }
    }

    private func drain(_ cause: DrainCause, _ number: Int? = nil) {
        guard policy.trace != nil else { return }
        shadow?.with { drain(cause, number, $0) }
    }

    private func drain(_ cause: DrainCause, _ number: Int?, _ mmu: ShadowMMU) {
        if !hasPendingRecords { return mmu.drainNothing(cause: cause) }
        for index in rings.indices {
            if policy.defects.contains(.skipsOtherRings), number != nil, index != number {
                continue
            }
            rings[index].producer = processors[index].traceProducer
        }
        mmu.drain(&rings, cause: cause)
        var consumed: UInt64 = 0
        for index in rings.indices {
            let trace = processors[index].control.trace
            let count = rings[index].consumer &- trace.consumer
            consumed &+= count
            fullestRing = max(fullestRing, count)
            processors[index].control.trace.consumer = rings[index].consumer
        }
        if elidesRoots { mmu.consumed(consumed) }
    }

    /// Learns which roots the processors have loaded by themselves: a live root is never dropped.
    private func adoptElidedRoots() {
        guard let mmu, elidesRoots else { return }
        for number in processors.indices {
            if case .shadow(let root, _) = processors[number].control.paging {
                mmu.adoptRoot(root, processor: number)
            }
        }
    }

    /// Has all unsynced tables read again.
    private func resyncAll() {
        if policy.unsyncsLeafTables { mmu?.operationEndedStaleness() }
    }

    /// Applies what the processor has written to protected tables.
    private func applyCompleted(_ processor: Processor) {
        guard let shadow, processor.hasCompletedWrites else { return }
        // The step may have been recorded in part. What is written to an upper table is applied at
        // once, and no older record may be behind it (`setLink`).
        if hasPendingRecords { drain(.completedWrite) }
        shadow.with { mmu in processor.takeCompletedWrites { mmu.applyCompleted($0) } }
    }

    private func resolve(
        _ address: GuestVirtualAddress, _ access: AccessKind, _ number: Int,
        _ processor: Processor
    ) -> FaultResolution? {
        shadow?.with { resolve(address, access, number, processor, $0) }
    }

    private func resolve(
        _ address: GuestVirtualAddress, _ access: AccessKind, _ number: Int,
        _ processor: Processor, _ mmu: ShadowMMU
    ) -> FaultResolution {
        let root = mmu.liveRoot(processor: number)
        let resolution = mmu.resolve(address, access, processor.guestMode, processor: number)
        switch resolution {
        case .hidden, .tableWrite, .unsynced:
            // Mostly it walks this root already; a second dimension may have come to be.
            if policy.nesting != nil || mmu.liveRoot(processor: number) != root {
                setRoot(mmu, number)
            }
            // Where the step meets a hidden fault on its way, it goes on completing.
            if resolution == .tableWrite { processor.control.completesProtectedWrites = true }
        case .injected(let error):
            processor.control.completesProtectedWrites = false
            processor.control.injection = InjectedFault(error: error, address: address)
        }
        return resolution
    }

    private func loadRoot(_ number: Int) {
        guard let mmu else { return }
        _ = mmu.loadRoot(processor: number, mode: processors[number].guestMode)
        setRoot(mmu, number)
    }

    /// Has a processor walk the live root.
    private func setRoot(_ mmu: ShadowMMU, _ number: Int) {
        let root = mmu.liveRoot(processor: number)
        let top = mmu.liveTop(processor: number)
        processors[number].control.paging =
            policy.nesting == nil
            ? .shadow(root: root, top: top)
            : .agile(root: root, second: mmu.secondDimension(), top: top)
    }

    private func pagingModeChanged(from cr0: UInt64, _ number: Int) {
        guard let mmu else { return }
        mmu.forgetRoots(processor: number)
        loadRoot(number)
        // Without paging no tables are cached; with a shadow, the identity map may be.
        let processor = processors[number]
        if (cr0 ^ processor.cr0) & CR0.paging != 0 { processor.invalidateAll() }
    }
}
