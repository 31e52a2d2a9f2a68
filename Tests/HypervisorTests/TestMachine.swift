import Hypervisor
import MachineMemory
import Testing
import X86

/// A machine with a processor that does nothing but translate: a translation cache that keeps
/// everything until it is told to drop it, a walker of shadow tables, and a guest write buffer.
/// The guest's tables are built in its memory; the guest writes them through its direct map.
final class TestMachine: TranslationCacheControl {
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
    /// Where the guest maps all of its RAM with 2 MiB pages, supervisor only.
    static let directMap: UInt64 = 0xffff_8880_0000_0000
    static let guestBytes: UInt64 = 64 << 20

    /// The policies with a shadow, for tests of what each must do.
    static let policies: [Policy] = [
        .shadow(.recorded), .shadow(.readOnly), .shadow(.readOnly, unsyncsLeafTables: true),
        agile,
    ]
    /// Tables nest at the third write and are looked at with every other load of a root.
    static let agile = Policy.agile(
        (try? NestingParameters(writes: 3, quiet: 2)) ?? .standard)

    let memory: MachineMemory
    let policy: Policy
    private(set) var mmu: ShadowMMU!
    var mode: GuestMode
    var rings: [TraceRing]
    var cache: [UInt64: Cached] = [:]
    /// Runs once at the next invalidation: what another processor could do just before it.
    var atInvalidation: (() -> Void)?
    var invalidations = 0
    /// Whether the access is let through protected pages, and what was written to such.
    var isCompleting = false
    var completed: [UInt64] = []
    /// The next free guest frame for tables.
    var nextFrame: UInt64 = 0x100
    let root: UInt64

    init(
        shadowPages: UInt64 = 512, guestBytes: UInt64 = TestMachine.guestBytes,
        processors: Int = 1, policy: Policy = .shadow(.recorded)
    ) throws {
        self.policy = policy
        memory = try MachineMemory(
            guestBytes: guestBytes, hypervisorBytes: 2 * 4096 + shadowPages * 4096)
        rings = [
            TraceRing(base: MachineAddress(0), capacity: 4096),
            TraceRing(base: MachineAddress(4096), capacity: 4096),
        ]
        root = nextFrame
        nextFrame += 1
        mode = GuestMode(
            cr0: CR0.protectionEnable | CR0.paging | CR0.writeProtect, cr3: root << 12,
            cr4: CR4.physicalAddressExtension | CR4.pageGlobalEnable,
            efer: EFER.longModeEnable | EFER.longModeActive | EFER.executeDisableEnable)
        mmu = try ShadowMMU(
            memory: memory, caches: [self] + (1..<processors).map { _ in OtherCaches() },
            firstFrame: 2, pageCount: shadowPages, policy: policy)
        for offset in stride(from: UInt64(0), to: guestBytes, by: 2 << 20) {
            poke(map: Self.directMap + offset, to: offset, Self.present | Self.writable, .directory)
        }
        load()
    }

    // MARK: The caches of the processor

    func invalidate(_ address: GuestVirtualAddress) {
        invalidations += 1
        cache[address.rawValue >> 12] = nil
        hook()
    }

    func invalidateAll() {
        invalidations += 1
        cache.removeAll()
        hook()
    }

    private func hook() {
        let action = atInvalidation
        atInvalidation = nil
        action?()
    }

    func codeChanged(in frame: MachineFrame) {}

    // MARK: Guest memory and tables, behind everyone's back

    func peek(_ guest: UInt64) -> UInt64 {
        memory.load(UInt64.self, at: memory.machineAddress(of: GuestPhysicalAddress(guest))) ?? .max
    }

    func poke(_ guest: UInt64, _ value: UInt64) {
        memory.store(value, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
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
            guest | bits | (level == .table ? 0 : Self.large))
    }

    /// The guest-physical address of the entry that maps `address` at `level`; tables are made.
    func entryAddress(_ address: UInt64, _ leaf: PageLevel, root: UInt64? = nil) -> UInt64 {
        var table = root ?? self.root
        var level = PageLevel.pml4
        while true {
            let slot = table << 12 + UInt64(GuestVirtualAddress(address).index(at: level)) * 8
            guard level > leaf, let below = level.below else { return slot }
            if peek(slot) & Self.present == 0 { poke(slot, newTable() << 12 | Self.all) }
            table = peek(slot) >> 12 & 0xff_ffff
            level = below
        }
    }

    // MARK: What guest code does

    /// MOV to CR3, or a change of mode: an exit, and no flush of the cache.
    func load(_ processor: Int = 0) {
        drain(.rootLoaded)
        _ = mmu.loadRoot(processor: processor, mode: mode)
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
            mmu.invalidated(GuestVirtualAddress(address), processor: 0)
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

    /// Stores a quadword, recorded where the translation says so.
    func write(_ address: UInt64, _ value: UInt64, processor: Int = 0) {
        guard case .success(let found) = translate(address, .write) else {
            Issue.record("the guest's own write faults at \(String(address, radix: 16))")
            return
        }
        let machine = found.machinePage | address & 0xfff
        if found.traced && !found.isProtected { record(machine | 3, processor) }
        memory.store(value, at: MachineAddress(machine))
        if found.isProtected { completed.append(machine | 3) }
        endStep()
    }

    /// Stores half a quadword.
    func write(_ address: UInt64, half value: UInt32) {
        guard case .success(let found) = translate(address, .write) else { return }
        let machine = found.machinePage | address & 0xfff
        if found.traced && !found.isProtected { record(machine & ~7 | 2, 0) }
        memory.store(value, at: MachineAddress(machine))
        if found.isProtected { completed.append(machine & ~7 | 2) }
        endStep()
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

    private func record(_ record: UInt64, _ processor: Int) {
        if rings[processor].pending == rings[processor].capacity / 8 { drain(.bufferFull) }
        let ring = rings[processor]
        memory.store(record, at: ring.base + ring.producer * 8 % ring.capacity)
        rings[processor].producer += 1
    }

    /// Stores a guest entry through the direct map, as a kernel does.
    func edit(_ entry: UInt64, _ value: UInt64, processor: Int = 0) {
        write(Self.directMap + entry, value, processor: processor)
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
                answer = mmu.resolve(GuestVirtualAddress(address), kind, mode, processor: 0)
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
        var table = mmu.liveRoot(processor: 0).rawValue
        var writable = true
        var user = true
        var executeDisable = false
        for shift in [39, 30, 21, 12] as [UInt64] {
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
                return Cached(
                    machinePage: base + address & ((1 << shift) - 1) & ~0xfff, writable: writable,
                    user: user, executeDisable: executeDisable, dirty: raw & Self.dirty != 0,
                    traced: raw >> 52 & 1 != 0, global: raw & Self.global != 0)
            }
            table = base
        }
        return nil
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
                    && (shadow.dirty || policy.protection == .readOnly && shadow.traced)
                        == truth.dirty
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
            #expect(shadow == found, "\(comment)", sourceLocation: sourceLocation)
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
        collect(mmu.liveRoot(processor: 0).rawValue, 39, 0, &found)
        return found
    }

    private func collect(_ table: UInt64, _ shift: UInt64, _ base: UInt64, _ found: inout [UInt64])
    {
        for index in 0..<512 as Range<UInt64> {
            let raw = memory.load(UInt64.self, at: MachineAddress(table + index * 8)) ?? 0
            if raw & 1 == 0 { continue }
            var address = base | index << shift
            if shift == 39 && index >= 256 { address |= 0xffff << 48 }
            if shift == 12 || raw & Self.large != 0 {
                found.append(address)
                if shift > 12 { found.append(address + (1 << shift) - 4096) }
            } else if !isSwitch(raw, shift) {
                collect(raw & 0x000f_ffff_ffff_f000, shift - 9, address, &found)
            }
        }
    }
}

/// The caches of a processor that has nothing cached.
final class OtherCaches: TranslationCacheControl {
    func invalidate(_ address: GuestVirtualAddress) {}
    func invalidateAll() {}
    func codeChanged(in frame: MachineFrame) {}
}

/// An independent reading of the guest's tables.
enum Oracle {
    struct Translation {
        var page: UInt64
        var writable: Bool
        var user: Bool
        var executeDisable: Bool
        var dirty: Bool
        var global: Bool
    }

    /// Nil where nothing may be mapped: not present, not accessed, or malformed.
    static func walk(
        _ machine: TestMachine, _ address: UInt64, needsAccessed: Bool = true
    ) -> Translation? {
        var table = machine.mode.cr3 & 0xff_ffff_f000
        var writable = true
        var user = true
        var executeDisable = false
        for shift in [39, 30, 21, 12] as [UInt64] {
            let raw = machine.peek(table + (address >> shift & 511) * 8)
            let isLeaf = shift == 12 || raw & 0x80 != 0
            if raw & 1 == 0 || needsAccessed && raw & 0x20 == 0 { return nil }
            if raw & 0x000f_ff00_0000_0000 != 0 { return nil }
            if shift == 39 && isLeaf { return nil }
            if isLeaf && shift > 12 && raw & ((1 << shift) - 1) & ~0x1fff != 0 { return nil }
            writable = writable && raw & 2 != 0
            user = user && raw & 4 != 0
            executeDisable = executeDisable || raw >> 63 != 0
            if isLeaf {
                let base = raw & 0xff_ffff_f000 & ~((1 << shift) - 1)
                return Translation(
                    page: base + address & ((1 << shift) - 1) & ~0xfff, writable: writable,
                    user: user, executeDisable: executeDisable, dirty: raw & 0x40 != 0,
                    global: raw & 0x100 != 0)
            }
            table = raw & 0xff_ffff_f000
        }
        return nil
    }

    /// The rights table of SDM Vol. 3A §4.6.1, line by line.
    static func permits(
        _ kind: AccessKind, _ mode: GuestMode, writable: Bool, user: Bool, executeDisable: Bool
    ) -> Bool {
        let isUser = kind.contains(.user)
        let isWrite = kind.contains(.write)
        if kind.contains(.fetch) {
            if executeDisable { return false }
            if isUser { return user }
            return !user || mode.cr4 >> 20 & 1 == 0
        }
        if isUser { return user && (writable || !isWrite) }
        let smap = mode.cr4 >> 21 & 1 == 1
        if user && smap && (kind.contains(.implicit) || !mode.alignmentCheck) { return false }
        return !isWrite || writable || mode.cr0 >> 16 & 1 == 0
    }
}
