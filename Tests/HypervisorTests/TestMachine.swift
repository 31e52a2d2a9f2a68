import Hypervisor
import MachineMemory
import Testing
import X86

/// A machine with processors that do nothing but translate: a translation cache that keeps
/// everything until it is told to drop it, a walker of shadow tables, and a guest write buffer.
/// The guest's tables, of any form, are built in its memory; the guest writes them through its
/// direct map. What is said of *the* processor means the `current` one.
final class TestMachine {
    struct Cached: Equatable {
        var machinePage: UInt64
        var writable: Bool
        var user: Bool
        var executeDisable: Bool
        var dirty: Bool
        var traced: Bool
        var global: Bool
        /// Of a translation that the guest's own tables gave: the bytes of its page; else 0.
        var nestedSpan: UInt64 = 0
        /// A protected page: T, and D clear.
        var isProtected: Bool { traced && !dirty }
    }

    static let present = PagingEntry.presentBit
    static let writable = PagingEntry.writableBit
    static let user = PagingEntry.userBit
    static let accessed = PagingEntry.accessedBit
    static let dirty = PagingEntry.dirtyBit
    static let large = PagingEntry.largeBit
    static let global = PagingEntry.globalBit
    static let noExecute = PagingEntry.executeDisableBit
    /// P, R/W, U/S.
    static let all = present | writable | user
    static let guestBytes: UInt64 = 64 << 20

    /// The policies with a shadow, for tests of what each must do.
    static let policies: [Policy] =
        [
            .shadow(.recorded), .shadow(.readOnly),
            .shadow(.readOnly, unsyncsLeafTables: true), agile,
        ]
        + [
            "traced,indication=frame", "traced,record=value", "traced,record=mask",
            "traced,refill=on", "traced,levels=leaf", "trap,refill=on",
            "traced,indication=frame,record=mask,refill=on,levels=leaf,stop=never",
            "traced,indication=frame,record=value,levels=leaf,stop=1",
        ].compactMap { try? Technique(parsing: $0).policy }

    /// Of them, those that bear on the forms of page tables, for long tests.
    static var mainPolicies: [Policy] { Array(policies.prefix(4) + policies.suffix(2)) }
    /// Tables nest at the third write and are looked at with every other load of a root.
    static let agile = Policy.agile((try? NestingParameters(writes: 3, quiet: 2)) ?? .standard)

    let memory: MachineMemory
    let policy: Policy
    let layout: TraceLayout
    private(set) var mmu: ShadowMMU!
    /// The processor that executes.
    var current = 0
    private var modes: [GuestMode] = []
    private let caches: [Cache]
    var rings: [TraceRing]
    /// Whether the access is let through protected pages, and what was written to such.
    var isCompleting = false
    var completed: [UInt64] = []
    /// The next free guest frame for tables.
    var nextFrame: UInt64 = 0x100
    let root: UInt64

    var mode: GuestMode {
        get { modes[current] }
        set { modes[current] = newValue }
    }
    var cache: [UInt64: Cached] {
        get { caches[current].entries }
        set { caches[current].entries = newValue }
    }
    var invalidations: Int { caches[current].invalidations }
    /// Runs once at the next invalidation: what another processor could do just before it.
    var atInvalidation: (() -> Void)? {
        get { caches[current].atInvalidation }
        set { caches[current].atInvalidation = newValue }
    }
    var form: PagingForm { Self.form(mode) }
    static func form(_ mode: GuestMode) -> PagingForm {
        PagingForm(cr0: mode.cr0, cr4: mode.cr4, efer: mode.efer) ?? .fourLevel
    }

    init(
        shadowPages: UInt64 = 512, guestBytes: UInt64 = TestMachine.guestBytes,
        processors: Int = 1, policy: Policy = .shadow(.recorded), form: PagingForm = .fourLevel,
        mapsDirectly level: PageLevel = .directory
    ) throws {
        self.policy = policy
        // Two processors may write.
        let parameters = policy.trace ?? .standard
        let reserved = TraceLayout(
            parameters, processors: 2,
            frames: 0..<TraceLayout.frameCount(guestBytes: guestBytes))
        memory = try MachineMemory(
            guestBytes: guestBytes, hypervisorBytes: reserved.end + shadowPages * 4096)
        layout = TraceLayout(parameters, processors: 2, frames: TraceLayout.frames(of: memory))
        rings = [layout.ring(0, producer: 0)!, layout.ring(1, producer: 0)!]
        root = nextFrame
        nextFrame += 1
        caches = (0..<processors).map { _ in Cache() }
        modes = caches.map { _ in Self.mode(form, root: root) }
        mmu = try ShadowMMU(
            memory: memory, caches: caches, firstFrame: layout.end / 4096,
            pageCount: shadowPages, policy: policy, layout: layout)
        build(level)
        load()
    }

    /// The registers of a guest in a form, with everything on that it can have.
    static func mode(_ form: PagingForm, root: UInt64) -> GuestMode {
        var mode = GuestMode(
            cr0: CR0.protectionEnable | CR0.paging | CR0.writeProtect, cr3: root << 12,
            cr4: CR4.pageGlobalEnable, efer: EFER.executeDisableEnable)
        switch form {
        case .twoLevel: mode.cr4 |= CR4.pageSizeExtensions
        case .pae: mode.cr4 |= CR4.physicalAddressExtension
        case .fourLevel, .fiveLevel:
            mode.cr4 |= CR4.physicalAddressExtension
            mode.efer |= EFER.longModeEnable | EFER.longModeActive
            if form == .fiveLevel { mode.cr4 |= CR4.fiveLevelPaging }
        }
        return mode
    }

    /// Gives the processor a root of its own in another form, with the same direct map.
    func enter(_ form: PagingForm) {
        mode = Self.mode(form, root: newTable())
        build()
        cache.removeAll()
        load(current)
    }

    private func build(_ level: PageLevel = .directory) {
        let root = mode.cr3 >> 12
        if form == .pae {
            // All four directories: a pointer counts only when it is loaded.
            for index in 0..<4 as Range<UInt64> {
                poke(root << 12 + index * 8, newTable() << 12 | Self.present)
            }
        }
        let span = form.entrySpan(level)
        for offset in stride(from: UInt64(0), to: memory.lowGuestBytes, by: Int(span)) {
            poke(
                map: directMap + offset, to: offset, Self.present | Self.writable, level,
                root: root)
        }
    }

    /// Where the guest maps all of its RAM, with large pages where not told otherwise, supervisor
    /// only.
    var directMap: UInt64 {
        switch form {
        case .twoLevel, .pae: 0xc000_0000
        case .fourLevel: 0xffff_8880_0000_0000
        case .fiveLevel: 0xff11_0000_0000_0000
        }
    }

    /// An address that has nothing near it, and 1 GiB above it neither.
    var page: UInt64 {
        switch form {
        case .twoLevel, .pae: 0x4000_0000
        case .fourLevel: 0x40_0000_0000
        case .fiveLevel: 0x3_0040_0000_0000
        }
    }
    /// Another one.
    var window: UInt64 { page + (form.linearAddressBits == 32 ? 1 << 28 : 1 << 36) }

    /// The caches of one processor.
    final class Cache: TranslationCacheControl {
        var entries: [UInt64: Cached] = [:]
        var invalidations = 0
        var atInvalidation: (() -> Void)?

        func invalidate(_ address: GuestVirtualAddress) {
            entries[address.rawValue >> 12] = nil
            hook()
        }

        func invalidateAll() {
            entries.removeAll()
            hook()
        }

        private func hook() {
            invalidations += 1
            let action = atInvalidation
            atInvalidation = nil
            action?()
        }

        func codeChanged(in frame: MachineFrame) {}
    }

    // MARK: Guest memory and tables, behind everyone's back

    /// Reads an entry, of the present form's width.
    func peek(_ guest: UInt64) -> UInt64 {
        let address = memory.machineAddress(of: GuestPhysicalAddress(guest))
        return form == .twoLevel
            ? memory.load(UInt32.self, at: address).map(UInt64.init) ?? 0xffff_ffff
            : memory.load(UInt64.self, at: address) ?? .max
    }

    /// Writes an entry, of the present form's width.
    func poke(_ guest: UInt64, _ value: UInt64) {
        store(value, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
    }

    private func store(_ value: UInt64, at address: MachineAddress) {
        if form == .twoLevel {
            memory.store(UInt32(truncatingIfNeeded: value), at: address)
        } else {
            memory.store(value, at: address)
        }
    }

    func newTable() -> UInt64 {
        defer { nextFrame += 1 }
        return nextFrame
    }

    /// Maps a page by writing memory, with tables on the way that permit everything.
    func poke(
        map address: UInt64, to guest: UInt64, _ bits: UInt64, _ level: PageLevel = .table,
        root: UInt64? = nil
    ) {
        poke(
            entryAddress(address, level, root: root),
            leaf(guest, level) | bits)
    }

    /// A leaf's address field and PS.
    func leaf(_ guest: UInt64, _ level: PageLevel) -> UInt64 {
        if level == .table { return guest }
        guard form == .twoLevel else { return guest | Self.large }
        return guest & 0xffc0_0000 | (guest >> 32 & 0xff) << 13 | Self.large
    }

    /// The guest-physical address of the entry that maps `address` at `level`; tables are made.
    func entryAddress(_ address: UInt64, _ leaf: PageLevel, root: UInt64? = nil) -> UInt64 {
        var table = root ?? mode.cr3 >> 12 & 0xfff_ffff
        var level = form.topLevel
        while true {
            let index = form.index(GuestVirtualAddress(address), at: level)
            let slot = table << 12 + UInt64(index) * form.entryBytes
            guard level > leaf, let below = level.below else { return slot }
            if peek(slot) & Self.present == 0 { poke(slot, newTable() << 12 | Self.all) }
            table = peek(slot) >> 12 & 0xff_ffff
            level = below
        }
    }

    // MARK: What guest code does

    /// MOV to CR3, or a change of mode: an exit, and no flush of the cache.
    func load(_ processor: Int? = nil) {
        drain(.rootLoaded)
        if form == .pae {
            for index in 0..<4 {
                mode.pointers[index] = peek(mode.cr3 & 0xffff_ffe0 + UInt64(index) * 8)
            }
        }
        _ = mmu.loadRoot(processor: processor ?? current, mode: mode)
        if policy.nesting != nil { _ = mmu.secondDimension() }
    }

    /// INVLPG: the processor drops the page, and exits.
    func invalidatePage(_ address: UInt64) {
        cache[address >> 12] = nil
        // All parts of a page that is large in the guest's tables alone.
        for (page, found) in cache where found.nestedSpan != 0 {
            if (page << 12 ^ address) & ~(found.nestedSpan - 1) == 0 { cache[page] = nil }
        }
        if policy.protection == .recorded {
            drain(.invalidatePage)
        } else if policy.exitsOnInvalidation {
            mmu.invalidated(GuestVirtualAddress(address), processor: current)
        }
    }

    func drain(_ cause: DrainCause) {
        guard policy.protection == .recorded else {
            // A single page's INVLPG and a fault are for `ShadowMMU` to limit.
            if cause != .pageFault { mmu.operationEndedStaleness() }
            return
        }
        mmu.drain(&rings, cause: cause)
    }

    /// Accesses an address; the machine address, or the fault that the guest gets.
    func access(_ address: UInt64, _ kind: AccessKind = []) -> Result<UInt64, Fault> {
        defer { endStep() }
        return translate(address, kind).map { $0.machinePage | address & 0xfff }
    }

    /// The guest-physical address that an access reaches; nil for a fault.
    func reach(_ address: UInt64, _ kind: AccessKind = []) -> UInt64? {
        try? access(address, kind).get() - memory.guestBase
    }

    /// The error code that an access gets; nil for none.
    func fault(_ address: UInt64, _ kind: AccessKind = []) -> PageFaultError? {
        if case .failure(let fault) = access(address, kind) { return fault.error }
        return nil
    }

    /// Stores an entry, recorded where the translation says so.
    func write(_ address: UInt64, _ value: UInt64, processor: Int = 0) {
        if form == .twoLevel {
            write(address, half: UInt32(truncatingIfNeeded: value), processor: processor)
        } else {
            write(address, value, size: 3, processor) { self.memory.store(value, at: $0) }
        }
    }

    /// Stores 4 bytes.
    func write(_ address: UInt64, half value: UInt32, processor: Int = 0) {
        write(address, UInt64(value), size: 2, processor) { self.memory.store(value, at: $0) }
    }

    /// Stores 8 bytes, whatever the form.
    func write(_ address: UInt64, whole value: UInt64, processor: Int = 0) {
        write(address, value, size: 3, processor) { self.memory.store(value, at: $0) }
    }

    private func write(
        _ address: UInt64, _ value: UInt64, size: UInt64, _ processor: Int,
        _ store: (MachineAddress) -> Void
    ) {
        defer { endStep() }
        guard case .success(let found) = translate(address, .write) else {
            Issue.record("the guest's own write faults at \(String(address, radix: 16))")
            return
        }
        let machine = found.machinePage | address & 0xfff
        if isRecorded(found) { record(machine, value, bytes: 1 << size, processor) }
        store(MachineAddress(machine))
        if found.isProtected { completed.append(machine & ~7 | size) }
    }

    /// The step is over: what was written to protected pages is applied.
    private func endStep() {
        isCompleting = false
        applyCompleted()
    }

    private func applyCompleted() {
        if completed.isEmpty { return }
        mmu.applyCompleted(completed)
        completed = []
    }

    private func isRecorded(_ found: Cached) -> Bool {
        // A cleared bit of the map of frames binds at once.
        found.traced && !found.isProtected && (!isByFrame || frameBit(found.machinePage))
    }

    /// What the processor does about a write to a traced page, in each format.
    private func record(_ machine: UInt64, _ value: UInt64, bytes: UInt64, _ processor: Int) {
        switch rings[processor].format {
        case .address: append([machine & ~7 | UInt64(bytes.trailingZeroBitCount)], processor)
        case .value: append([machine | bytes << 56, value, 0x1234, 0], processor)
        case .mask:
            let page = machine >> 12
            let index = machine >> 3 & 511
            let group = MachineAddress(
                layout.masks + (page - layout.frames.lowerBound) * 64 + index / 64 * 8)
            let old = memory.load(UInt64.self, at: group) ?? 0
            // Draining for want of room takes the bits of the group, too.
            if old == 0 { append([page << 12 | index / 64], processor) }
            memory.store(old | 1 << (index % 64), at: group)
        }
    }

    private func append(_ record: [UInt64], _ processor: Int) {
        let bytes = rings[processor].format.recordBytes
        if rings[processor].pending == rings[processor].capacity / bytes { drain(.bufferFull) }
        let ring = rings[processor]
        for (offset, word) in record.enumerated() {
            memory.store(
                word, at: MachineAddress(ring.address(ring.producer) + UInt64(offset) * 8))
        }
        rings[processor].producer += 1
    }

    private var isByFrame: Bool { policy.trace?.indication == .frame }

    /// The bit of a machine page in the map of frames.
    private func frameBit(_ machinePage: UInt64) -> Bool {
        guard layout.frames.contains(machinePage >> 12) else { return false }
        let bit = machinePage >> 12 - layout.frames.lowerBound
        let byte = memory.load(UInt8.self, at: MachineAddress(layout.frameMap + bit / 8)) ?? 0
        return byte >> (bit % 8) & 1 != 0
    }

    /// Stores a guest entry through the direct map, as a kernel does.
    func edit(_ entry: UInt64, _ value: UInt64, processor: Int = 0) {
        write(directMap + entry, value, processor: processor)
    }

    // MARK: The processor

    struct Fault: Error { var error: PageFaultError }

    private func translate(_ address: UInt64, _ kind: AccessKind) -> Result<Cached, Fault> {
        for _ in 0..<24 {
            if let found = cache[address >> 12], permits(found, kind) { return .success(found) }
            cache[address >> 12] = nil
            let answer: FaultResolution
            switch walk(address, kind) {
            case .found(let found) where permits(found, kind):
                cache[address >> 12] = found
                return .success(found)
            case .found(let found)
            where isCompleting && kind.contains(.write) && found.isProtected:
                // One access is let through; nothing of it is cached.
                return .success(found)
            case .found, .miss:
                applyCompleted()
                drain(.pageFault)
                answer = mmu.resolve(
                    GuestVirtualAddress(address), kind, mode, processor: current)
            case .second(let physical, let kind):
                applyCompleted()
                answer = mmu.resolveSecondDimension(GuestPhysicalAddress(physical), kind)
            case .fault(let error): return .failure(Fault(error: error))
            }
            switch answer {
            case .hidden, .unsynced: break
            case .injected(let error): return .failure(Fault(error: error))
            case .tableWrite: isCompleting = true
            }
        }
        Issue.record("no progress at \(String(address, radix: 16))")
        return .failure(Fault(error: []))
    }

    /// What the shadow says now of an address; nil also where the guest's own tables say it.
    func walkShadow(_ address: UInt64) -> Cached? {
        var table = mmu.liveRoot(processor: current).rawValue
        var writable = true
        var user = true
        var executeDisable = false
        for shift in shifts {
            let raw =
                memory.load(UInt64.self, at: MachineAddress(table + (address >> shift & 511) * 8))
                ?? 0
            if raw & 1 == 0 { return nil }
            #expect(raw & Self.accessed != 0)
            writable = writable && raw & 2 != 0
            user = user && raw & 4 != 0
            executeDisable = executeDisable || raw >> 63 != 0
            let base = raw & 0x000f_ffff_ffff_f000
            if isSwitch(raw, shift) { return nil }
            if shift == 12 || raw & Self.large != 0 {
                let page = base + address & ((1 << shift) - 1) & ~0xfff
                let dirty = raw & Self.dirty != 0
                return Cached(
                    machinePage: page, writable: writable, user: user,
                    executeDisable: executeDisable, dirty: dirty,
                    traced: raw >> 52 & 1 != 0 || isByFrame && dirty && frameBit(page),
                    global: raw & Self.global != 0)
            }
            table = base
        }
        return nil
    }

    var shifts: [UInt64] {
        mmu.liveTop(processor: current) == .pml5 ? [48, 39, 30, 21, 12] : [39, 30, 21, 12]
    }

    private func permits(_ found: Cached, _ kind: AccessKind) -> Bool {
        if kind.contains(.write) && !found.dirty { return false }
        return mode.cr0 & CR0.paging == 0
            || Oracle.permits(
                kind, mode, writable: found.writable, user: found.user,
                executeDisable: found.executeDisable)
    }

    // MARK: Checks

    /// Everything that must hold once records are drained: the auditor finds nothing, what the
    /// shadow translates the guest's tables translate alike, and no write to a table can escape.
    func verify(_ comment: String = "", sourceLocation: SourceLocation = #_sourceLocation) {
        drain(.invalidatePage)
        let violations = mmu.audit()
        #expect(violations == [], "\(comment)", sourceLocation: sourceLocation)
        for address in shadowedAddresses() {
            guard let shadow = walkShadow(address) else { continue }
            let truth = Oracle.walk(self, address)
            guard let truth else {
                Issue.record(
                    "\(comment) shadow without guest at \(String(address, radix: 16))",
                    sourceLocation: sourceLocation)
                continue
            }
            #expect(
                shadow.machinePage == memory.guestBase + truth.page
                    && shadow.writable == truth.writable && shadow.user == truth.user
                    && shadow.executeDisable == truth.executeDisable
                    && (shadow.dirty || shadow.isProtected) == truth.dirty
                    && shadow.global == truth.global,
                "\(comment) at \(String(address, radix: 16))", sourceLocation: sourceLocation)
        }
        for (page, found) in cache {
            if found.nestedSpan != 0 {
                verifyNested(found, comment, sourceLocation)
                continue
            }
            guard let shadow = walkShadow(page << 12) else {
                Issue.record(
                    "\(comment) cached without shadow at page \(String(page, radix: 16))",
                    sourceLocation: sourceLocation)
                continue
            }
            var expected = shadow
            if isByFrame && found.traced { expected.traced = true }
            #expect(expected == found, "\(comment)", sourceLocation: sourceLocation)
        }
        let ledger = mmu.ledger
        #expect(
            ledger.shadowPagesMade
                == ledger.shadowPagesLive + ledger.shadowPagesDropped + ledger.shadowPagesReclaimed,
            sourceLocation: sourceLocation)
        #expect(
            ledger.recordsDrained == ledger.recordsByLevel.sum + ledger.recordsOfFormerTables,
            sourceLocation: sourceLocation)
    }

    /// What must hold of a page once INVLPG was executed for it: its translation, if it has one, is
    /// what the guest's tables say now, and not what they said.
    func verifyInvalidated(
        _ address: UInt64, _ comment: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        guard let shadow = walkShadow(address) else { return }
        guard let truth = Oracle.walk(self, address) else {
            Issue.record("\(comment) stale", sourceLocation: sourceLocation)
            return
        }
        #expect(
            shadow.machinePage == memory.guestBase + truth.page
                && shadow.writable == truth.writable && shadow.user == truth.user
                && shadow.executeDisable == truth.executeDisable
                && (!shadow.dirty || truth.dirty),
            "\(comment)", sourceLocation: sourceLocation)
    }

    /// Whether the guest's tables, read afresh, permit an access.
    func isPermitted(_ address: UInt64, _ kind: AccessKind) -> Bool {
        guard let truth = Oracle.walk(self, address, needsAccessed: false) else { return false }
        return Oracle.permits(
            kind, mode, writable: truth.writable, user: truth.user,
            executeDisable: truth.executeDisable)
    }

    /// The first address of every leaf below the live root, and its last page.
    func shadowedAddresses() -> [UInt64] {
        var found: [UInt64] = []
        collect(mmu.liveRoot(processor: current).rawValue, shifts[0], 0, &found)
        return found
    }

    private func collect(_ table: UInt64, _ shift: UInt64, _ base: UInt64, _ found: inout [UInt64])
    {
        for index in 0..<512 as Range<UInt64> {
            let raw = memory.load(UInt64.self, at: MachineAddress(table + index * 8)) ?? 0
            if raw & 1 == 0 { continue }
            var address = base | index << shift
            if shift == shifts[0] && index >= 256 { address |= .max << (shift + 9) }
            if shift == 12 || raw & Self.large != 0 {
                found.append(address)
                if shift > 12 { found.append(address + (1 << shift) - 4096) }
            } else if !isSwitch(raw, shift) {
                collect(raw & 0x000f_ffff_ffff_f000, shift - 9, address, &found)
            }
        }
    }
}
