import MachineMemory
import X86

/// One modelled x86 processor: the hardware half of Penumbra.
///
/// *Problem.* Execute an unmodified guest exactly, at tens of millions of instructions a second,
/// and let a hypervisor stand between the guest's page tables and memory as it would in silicon.
///
/// *Approach.* Guest code is decoded once, by Zydis, into blocks of `Op`s that are cached by
/// machine address (`BlockCache`); an op holds the C function that executes it. Memory goes
/// through a software TLB (`Core+Memory.swift`), behind it the modelled TLB and the page walker.
/// The processor walks the tables that its control block names and records traced writes. It
/// knows nothing of shadows, of guests' tables, or of techniques.
///
/// *Example.*
/// ```swift
/// let processor = Processor(memory: memory, platform: board, model: .penumbraV2, index: 0)
/// processor.control.paging = .shadow(root: root)
/// let exit = processor.run(until: processor.retired + 100_000)
/// ```
///
/// *Caveats.* One host thread at a time may call a processor.
@safe public final class Processor {
    /// What the hypervisor asks of the hardware. Changing the paging scheme or the trace controls
    /// takes effect at the next `run`; cached translations are kept unless invalidated.
    public var control: ControlBlock {
        _read { yield unsafe interface.pointee.control }
        _modify { yield unsafe &interface.pointee.control }
    }
    /// What CPUID tells, and what is implemented for the guest.
    public let model: ProcessorModel
    /// This processor's number and initial APIC ID.
    public let index: Int
    /// Exact counts since reset.
    public package(set) var statistics: ProcessorStatistics {
        _read { yield unsafe interface.pointee.statistics }
        _modify { yield unsafe &interface.pointee.statistics }
    }
    /// Free-running count of records written to the guest write buffer.
    public package(set) var traceProducer: UInt64 {
        get { unsafe interface.pointee.traceProducer }
        set { unsafe interface.pointee.traceProducer = newValue }
    }
    /// What was written to protected pages while `ControlBlock.completesProtectedWrites` was set:
    /// records as the guest write buffer's. The hypervisor takes them at the next exit.
    private var completedWrites: [UInt64] {
        _read { yield unsafe interface.pointee.completedWrites }
        _modify { yield unsafe &interface.pointee.completedWrites }
    }
    /// Whether there are any.
    public var hasCompletedWrites: Bool { !completedWrites.isEmpty }
    /// What `blocks` has of translations, for the run loop.
    var translations: Unretained<TranslationMemory>? {
        get { unsafe interface.pointee.translations }
        set { unsafe interface.pointee.translations = newValue }
    }
    /// The platform asserts INTR. Looked at between instructions when the guest allows interrupts.
    public var interruptRequested: Bool {
        get { unsafe interface.pointee.interruptRequested }
        set {
            unsafe interface.pointee.interruptRequested = newValue
            core.leaveBlock()
        }
    }
    /// The platform signals an NMI; cleared when it is delivered.
    public var nmiRequested: Bool {
        get { unsafe interface.pointee.nmiRequested }
        set {
            unsafe interface.pointee.nmiRequested = newValue
            core.leaveBlock()
        }
    }
    /// Called before each instruction while set, at the price of speed: for instruction traces.
    /// It must not run the processor.
    public var instructionObserver: ((Processor) -> Void)? {
        didSet { updateObservation() }
    }

    /// Who is told of translations and of what ends them; nobody in an ordinary run.
    package var observer: (any TranslationObserver)? {
        didSet { hasObserver = observer != nil }
    }
    /// Blocks are translated when the run loop comes to them for the n-th time.
    package var usesBeforeTranslation: UInt32 {
        get { unsafe interface.pointee.usesBeforeTranslation }
        set { unsafe interface.pointee.usesBeforeTranslation = newValue }
    }
    /// Whether there is an observer.
    private(set) var hasObserver = false
    /// Whether the observer is told of each use of a cached translation too. Nothing is kept in
    /// the software TLB meanwhile, at the price of speed. To be set before the first run.
    package var observesUses: Bool {
        get { unsafe interface.pointee.observesUses }
        set { unsafe interface.pointee.observesUses = newValue }
    }

    let memory: MachineMemory
    let platform: any Platform
    /// The bits of a linear address in the widest form that the model has (`Core.isStorable`).
    let storableBits: Int64
    /// What walks ask of the model, each by itself: to copy a model out of a class retains parts.
    let mostPhysicalAddressBits: UInt64
    /// CPUID.80000001H:EDX.Page1GB.
    public let hasGigabytePages: Bool
    let hasLargeAddresses: Bool
    let core: Core
    let blocks: BlockCache
    let vector: VectorUnit
    let caches: TranslationCaches
    private let codeWatch: CodeWatch
    /// What translations are assembled in: its memory is used again.
    var translationAssembler = Assembler()
    var recentRecords = InlineArray<8, UInt64>(repeating: .max)
    var stopRequested = false
    /// What a debugger wants of this processor.
    var debugState = DebugState()
    /// What a restored processor had retired when it was saved; 0 in any other.
    public internal(set) var retiredBefore: UInt64 = 0
    /// How many exceptions were delivered in a row at the retired count `lastExceptionRetired`.
    var exceptionsInPlace = 0
    var lastExceptionRetired = UInt64.max
    var standsStill = false
    /// The consumer index at the last entry.
    var lastConsumer: UInt64 = 0
    /// What a write through the translation that `translate` returned last owes.
    var lastNote = WriteNote.none
    /// Whether it was global.
    var lastIsGlobal = false
    /// The last access that faulted, in whichever tables: address and kind.
    var faultedAccess: (address: UInt64, kind: AccessKind) = (0, [])
    private let stateBlock: UnsafeMutableRawPointer
    // Invariant: one initialized `Interface`, made in init and freed in deinit only.
    private let interface: UnsafeMutablePointer<Interface>

    /// What hypervisor and hardware tell each other, behind a pointer: it is used several times in
    /// each exit, and a class's own properties would be checked for exclusive access each time.
    private struct Interface {
        var control = ControlBlock()
        var statistics = ProcessorStatistics()
        var traceProducer: UInt64 = 0
        var interruptRequested = false
        var nmiRequested = false
        var observesUses = false
        var completedWrites: [UInt64] = []
        var translations: Unretained<TranslationMemory>?
        var usesBeforeTranslation: UInt32 = 3
    }

    /// Makes a processor in its power-on state (SDM Vol. 3A Table 9-1).
    public init(
        memory: MachineMemory, platform: any Platform, model: ProcessorModel, index: Int,
        hardware: Hardware = Hardware()
    ) {
        self.memory = memory
        self.platform = platform
        self.model = model
        self.index = index
        storableBits = model.has(.la57) ? 57 : 48
        mostPhysicalAddressBits = model.physicalAddressBits
        hasGigabytePages = model.hasGigabytePages
        hasLargeAddresses = model.has(.pse36)
        unsafe interface = .allocate(capacity: 1)
        unsafe interface.initialize(to: Interface())
        unsafe stateBlock = UnsafeMutableRawPointer.allocate(
            byteCount: Core.byteCount, alignment: 64)
        core = unsafe Core(UInt(bitPattern: stateBlock))
        unsafe stateBlock.initializeMemory(as: State.self, repeating: State(), count: 1)
        let jumps = unsafe JumpTable(at: stateBlock + Core.jumpTableOffset)
        blocks = BlockCache(memory: memory, processors: model.processorCount, jumps: jumps)
        caches = TranslationCaches(
            hardware, core: core,
            software: unsafe SoftwareTLB(at: stateBlock + Core.softwareTLBOffset), blocks: blocks,
            index: index)
        codeWatch = CodeWatch(memory: memory, blocks: blocks, software: caches.software)
        vector = unsafe VectorUnit(
            at: stateBlock + Core.vectorOffset, processors: model.processorCount)
        unsafe stateBlock.storeBytes(
            of: UnsafeRawPointer(Unmanaged.passUnretained(self).toOpaque()),
            toByteOffset: Core.processorOffset, as: UnsafeRawPointer.self)
        memory.join(codeWatch)
        reset()
    }

    deinit {
        unsafe stateBlock.assumingMemoryBound(to: State.self).deinitialize(count: 1)
        unsafe stateBlock.deallocate()
        unsafe interface.deinitialize(count: 1)
        unsafe interface.deallocate()
    }

    /// Puts the processor into its state after RESET#, caches emptied; the retired count goes on.
    public func reset() {
        setPowerOnState()
        vector.reset()
        emptyCaches()
        observe(.reset)
    }

    /// The part of the power-on state that INIT sets too.
    func setPowerOnState() {
        let retired = core.state.retired
        caches.software.empty()
        core.state = State()
        core.state.retired = retired
        updateObservation()
        core.state.supervisorBank = caches.software.bank(SoftwareTLB.supervisor)
        core.state.cr0 = CR0.extensionType | CR0.cacheDisable | CR0.notWriteThrough
        core.state.rip = 0xfff0
        core[.rdx] = UInt64(model.signature)
        var code = Segment()
        code.selector = 0xf000
        code.base = 0xffff_0000
        code.attributes = 0x9b
        core[.cs] = code
        core.state.ldtr.attributes = 0x82
        core.state.taskRegister.attributes = 0x8b
        core.setFlags(RFLAGS.alwaysOne)
        core.selectBank()
        nmiRequested = false
        standsStill = false
        control.injection = nil
        control.completesProtectedWrites = false
        completedWrites.removeAll(keepingCapacity: true)
    }

    /// Drops all decoded code and all translations.
    func emptyCaches() {
        blocks.removeAll()
        caches.invalidateEverything()
    }

    // MARK: Architectural state for the hypervisor and the board

    /// Instructions retired since the machine started; exact also within an instruction's own
    /// accesses to the platform.
    public var retired: UInt64 {
        if core.state.blockStart == 0 { return core.state.retired }
        return core.state.retired
            &+ UInt64(core.state.currentOp &- core.state.blockStart)
            / UInt64(MemoryLayout<Op>.stride)
    }
    public var cr0: UInt64 { core.state.cr0 }
    public var cr2: UInt64 { core.state.cr2 }
    public var cr3: UInt64 { core.state.cr3 }
    public var cr4: UInt64 { core.state.cr4 }
    public var efer: UInt64 { core.state.efer }
    /// The four pointer registers of PAE paging; they mean something only in that form.
    public var pointers: SIMD4<UInt64> { core.state.pointers }
    public var rip: UInt64 { core.state.rip }
    /// Where SYSCALL in 64-bit mode goes: IA32_LSTAR.
    public var systemCallEntry: UInt64 { core.state.longSTAR }
    /// The current privilege level, 0…3.
    public var privilegeLevel: UInt8 { core.state.cpl }
    /// EFLAGS.AC, which opens user pages to the supervisor under SMAP.
    public var alignmentCheckFlag: Bool { core.state.systemFlags & RFLAGS.alignmentCheck != 0 }
    /// PKRU.
    public var keyRights: KeyRights { KeyRights(rawValue: core.state.keyRights) }
    /// Whether maskable interrupts are allowed: EFLAGS.IF.
    public var interruptsEnabled: Bool { core.state.systemFlags & RFLAGS.interruptEnable != 0 }

    // MARK: Translation caches: the operations that hardware offers

    /// Drops the cached translations of the page at `address`, of every PCID, global ones too, and
    /// every part of it where it is large. What paging-structure caches hold may stay: where an
    /// entry that names a table changed, `invalidateAll` it has to be.
    public func invalidate(_ address: GuestVirtualAddress) {
        caches.invalidatePageEverywhere(address.rawValue)
    }

    /// Drops every cached translation, and all that paging-structure caches hold.
    public func invalidateAll() { caches.invalidateEverything() }

    /// Memory in `frame` was written by something other than this processor: decoded code is
    /// dropped.
    public func codeChanged(in frame: MachineFrame) {
        guard frame.number < memory.frameCount else { return }
        blocks.drop(frame: frame.number)
    }

    /// Does something with the records of completed writes; none are left.
    public func takeCompletedWrites(_ body: ([UInt64]) -> Void) {
        // The array changes hands and comes back, so that none is allocated.
        var records: [UInt64] = []
        swap(&records, &completedWrites)
        body(records)
        // Mostly there is one: quicker gone so than by `removeAll`.
        while !records.isEmpty { records.removeLast() }
        swap(&records, &completedWrites)
    }

    /// Notes one quadword that was written to a protected page.
    func noteCompletedWrite(_ record: UInt64) { completedWrites.append(record) }

    /// Makes `run` return `.stopped` before the next instruction. For the platform, from within
    /// one of its own calls.
    public func requestStop() {
        stopRequested = true
        core.leaveBlock()
    }

    /// The PCID that tags translations now; 0 without CR4.PCIDE.
    var currentPCID: UInt16 {
        core.state.cr4 & CR4.pcidEnable != 0
            ? UInt16(truncatingIfNeeded: core.state.cr3 & CR3.pcidMask) : 0
    }
}

/// What memory tells a processor of writes to code. An object of its own, since memory refers to it
/// weakly: an object that was ever referred to so is slower to retain, and the processor is retained
/// in every exit.
private final class CodeWatch: CodeCache {
    private let memory: MachineMemory
    private let blocks: BlockCache
    private let software: SoftwareTLB

    init(memory: MachineMemory, blocks: BlockCache, software: SoftwareTLB) {
        self.memory = memory
        self.blocks = blocks
        self.software = software
    }

    func watchWrites(to frame: UInt64) {
        software.forbidWrites(
            hostFrame: unsafe UInt64(UInt(bitPattern: memory.base)) &+ frame << 12)
    }

    func codeWritten(_ address: UInt64, size: Int) { blocks.written(address, size: size) }
}

/// Exact counts of what one processor did.
public struct ProcessorStatistics: Equatable, Sendable {
    /// Misses of the modelled TLB.
    public var tlbMisses: UInt64 = 0
    /// Entries of paging structures that walks read.
    public var walkReferences: UInt64 = 0
    /// Records written to the guest write buffer.
    public var records: UInt64 = 0
    /// Traced writes without a record of their own: theirs was one of the last ones, or their
    /// group's mask had a bit set already.
    public var coalesced: UInt64 = 0
    /// INVLPGs that did not exit since nothing was pending.
    public var elidedPageInvalidations: UInt64 = 0
    /// INVPCIDs that did not.
    public var elidedPCIDInvalidations: UInt64 = 0
    /// Loads of CR3 that did not, since the table of roots had the new one, too.
    public var elidedRootLoads: UInt64 = 0
    /// Accesses that went to the platform: ports, and addresses without memory.
    public var deviceAccesses: UInt64 = 0
    /// Interrupts and NMIs delivered.
    public var interrupts: UInt64 = 0
    /// Exceptions delivered, page faults among them.
    public var exceptions: UInt64 = 0
    /// Page faults delivered.
    public var pageFaults: UInt64 = 0

    public init() {}
}
