import MachineMemory
import Processor
import X86

/// The software half of Penumbra: it fills the processors' control blocks, answers their exits, and
/// keeps the ledger.
///
/// *Problem.* One guest is to run under different techniques of memory virtualization, instruction
/// for instruction the same, with exact counts of what each one did.
///
/// *Approach.* A technique is how the control block is filled and how exits are answered. Under
/// `bare` the processor walks the guest's own tables and nothing exits. Under `traced` it walks
/// `ShadowMMU`'s tables, and each coherency-inducing operation exits to have the guest write
/// buffers drained.
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
/// *Caveats.* One host thread at a time. 4-level paging only, as the processor.
public final class Hypervisor {
    /// How memory is virtualized.
    public let technique: Technique
    private let processors: [Processor]
    private let mmu: ShadowMMU?
    private var rings: [TraceRing] = []
    private var exits = Tally<ExitReason>()

    /// How much machine memory the hypervisor needs: the guest write buffers from machine address
    /// 0 up, and `shadowBytes` for shadow pages after them. 0 for `bare`.
    public static func hypervisorBytes(
        for technique: Technique, shadowBytes: UInt64, processors: Int
    ) -> UInt64 {
        switch technique {
        case .bare: 0
        case .traced(let parameters):
            parameters.capacity * UInt64(max(processors, 0))
                &+ shadowBytes / pageSize * pageSize
        }
    }

    /// Makes the hypervisor of a machine.
    /// - Parameters:
    ///   - memory: made with at least `hypervisorBytes` of hypervisor memory.
    ///   - processors: all of the machine's, by number.
    ///   - shadowBytes: the ceiling on shadow pages; ignored under `bare`.
    public init(
        memory: MachineMemory, processors: [Processor], technique: Technique, shadowBytes: UInt64
    ) throws(HypervisorError) {
        guard !processors.isEmpty else { throw .noProcessor }
        self.technique = technique
        self.processors = processors
        switch technique {
        case .bare:
            mmu = nil
        case .traced(let parameters):
            let ringBytes = parameters.capacity * UInt64(processors.count)
            mmu = try ShadowMMU(
                memory: memory, caches: processors, firstFrame: ringBytes / pageSize,
                pageCount: shadowBytes / pageSize)
            rings = processors.enumerated().map { number, processor in
                TraceRing(
                    base: MachineAddress(UInt64(number) * parameters.capacity),
                    capacity: parameters.capacity, producer: processor.traceProducer,
                    consumer: processor.traceProducer)
            }
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
        if hasPendingRecords { drain(.pagingModeChanged) }
        let processor = processors[number]
        switch technique {
        case .bare:
            processor.control.paging = .guest
            processor.control.exitsOnPagingOperations = false
            processor.control.trace.isEnabled = false
        case .traced(let parameters):
            let ring = rings[number]
            processor.control.exitsOnPagingOperations = true
            processor.control.trace.isEnabled = true
            processor.control.trace.base = ring.base
            processor.control.trace.capacity = parameters.capacity
            processor.control.trace.threshold = parameters.effectiveThreshold
            processor.control.trace.coalesce = parameters.coalesce
            processor.control.trace.consumer = ring.consumer
            loadRoot(number)
        }
        processor.invalidateAll()
    }

    /// Answers an exit of processor number `processor`.
    /// - Returns: true where the guest goes on; false where the exit is none of memory
    ///   virtualization's, and the board's to answer (`limit`, `halted`, `stopped`,
    ///   `tripleFault`, `unsupported`).
    public func handle(_ exit: Exit, processor: Int) -> Bool {
        exits[ExitReason(exit)] &+= 1
        switch exit {
        case .limit, .halted, .stopped, .tripleFault, .unsupported:
            return false
        case .pageFault(let address, let access):
            drain(.pageFault)
            resolve(address, access, processor)
        case .rootLoaded:
            drain(.rootLoaded)
            loadRoot(processor)
        case .invalidatePage:
            drain(.invalidatePage)
        case .invalidatePCID:
            drain(.invalidatePCID)
        case .pagingModeChanged(let cr0, _, let efer):
            drain(.pagingModeChanged)
            pagingModeChanged(from: cr0, efer, processor)
        case .bufferThreshold:
            drain(.bufferThreshold)
        case .bufferFull:
            drain(.bufferFull)
        }
        return true
    }

    /// Tells that guest memory was written by something other than the processors: a device, a
    /// loader. `range` is in guest-physical bytes.
    public func guestMemoryWritten(_ range: Range<GuestPhysicalAddress>) {
        mmu?.guestMemoryWritten(range)
    }

    /// What has happened so far. Reading it drains, fills and flushes nothing.
    public var ledger: Ledger {
        var ledger = mmu?.ledger ?? Ledger()
        ledger.exits = exits
        for processor in processors {
            let statistics = processor.statistics
            ledger.instructions &+= processor.retired
            ledger.tlbMisses &+= statistics.tlbMisses
            ledger.walkReferences &+= statistics.walkReferences
            ledger.recordsWritten &+= statistics.records
            ledger.recordsCoalesced &+= statistics.coalesced
            ledger.deviceAccesses &+= statistics.deviceAccesses
            ledger.interrupts &+= statistics.interrupts
            ledger.exceptions &+= statistics.exceptions
        }
        return ledger
    }

    /// What is wrong with the shadow, for tests; empty where nothing is, and under `bare`. Means
    /// something only while no records are pending.
    package func audit() -> [Violation] { mmu?.audit() ?? [] }

    /// Whether any processor has written records that are not drained yet.
    package var hasPendingRecords: Bool {
        zip(rings, processors).contains { $0.consumer != $1.traceProducer }
    }

    // MARK: Exits

    private func drain(_ cause: DrainCause) {
        guard let mmu else { return }
        for index in rings.indices { rings[index].producer = processors[index].traceProducer }
        mmu.drain(&rings, cause: cause)
        for index in rings.indices {
            processors[index].control.trace.consumer = rings[index].consumer
        }
    }

    private func resolve(_ address: GuestVirtualAddress, _ access: AccessKind, _ number: Int) {
        guard let mmu else { return }
        let processor = processors[number]
        switch mmu.resolve(address, access, processor.guestMode, processor: number) {
        case .hidden:
            processor.control.paging = .shadow(root: mmu.liveRoot(processor: number))
        case .injected(let error):
            processor.control.injection = InjectedFault(error: error, address: address)
        }
    }

    private func loadRoot(_ number: Int) {
        guard let mmu else { return }
        let root = mmu.loadRoot(processor: number, mode: processors[number].guestMode)
        processors[number].control.paging = .shadow(root: root)
    }

    private func pagingModeChanged(from cr0: UInt64, _ efer: UInt64, _ number: Int) {
        guard let mmu else { return }
        let processor = processors[number]
        if (efer ^ processor.efer) & EFER.executeDisableEnable != 0 {
            // XD is a right on one side of the change, and a reserved bit on the other.
            mmu.dropAll()
            for other in processors.indices where other != number { loadRoot(other) }
        }
        loadRoot(number)
        // Without paging no tables are cached; with a shadow, the identity map may be.
        if (cr0 ^ processor.cr0) & CR0.paging != 0 { processor.invalidateAll() }
    }
}

extension ExitReason {
    /// The reason that stands for an exit.
    init(_ exit: Exit) {
        self =
            switch exit {
            case .limit: .limit
            case .halted: .halted
            case .stopped: .stopped
            case .tripleFault: .tripleFault
            case .unsupported: .unsupported
            case .pageFault: .pageFault
            case .rootLoaded: .rootLoaded
            case .invalidatePage: .invalidatePage
            case .invalidatePCID: .invalidatePCID
            case .pagingModeChanged: .pagingModeChanged
            case .bufferThreshold: .bufferThreshold
            case .bufferFull: .bufferFull
            }
    }
}

extension Processor: TranslationCacheControl {}

extension Processor {
    /// What of the processor's present state decides how a translation is made.
    var guestMode: GuestMode {
        GuestMode(
            cr0: cr0, cr3: cr3, cr4: cr4, efer: efer, alignmentCheck: alignmentCheckFlag,
            physicalAddressBits: model.physicalAddressBits,
            hasGigabytePages: model.hasGigabytePages)
    }
}
