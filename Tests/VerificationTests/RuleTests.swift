import MachineMemory
import Processor
import Testing
import Verification
import X86

/// Single translations, made up, put before the oracle.
@Suite("The lawfulness oracle's rules")
struct RuleTests {
    /// A translation of the page at `Bench.page`, as its entry gives it, with changes.
    private func made(_ bench: Bench, _ change: (inout ObservedTranslation) -> Void = { _ in })
        -> ObservedTranslation
    {
        var translation = ObservedTranslation(
            address: Bench.page + 0x123, access: [], base: bench.memory.guestBase + 0x60_0000,
            shift: 12, isWritable: true, isUser: false, isExecuteDisabled: false, isDirty: true,
            isGlobal: false)
        change(&translation)
        return translation
    }

    private func judge(_ bench: Bench, _ translation: ObservedTranslation) -> LawfulnessRule? {
        bench.oracle.translated(translation, isUse: true, by: bench.processors[0])
        return bench.rule
    }

    private func rule(
        _ entry: UInt64 = 0x60_0063, _ change: (inout ObservedTranslation) -> Void
    ) throws -> LawfulnessRule? {
        let bench = try Bench("traced", entry: entry)
        return judge(bench, made(bench, change))
    }

    @Test("what the tables give, and less than that, is lawful")
    func less() throws {
        #expect(try rule { _ in } == nil)
        #expect(try rule { $0.isWritable = false } == nil)
        #expect(try rule { $0.isDirty = false } == nil)
        #expect(try rule { $0.isExecuteDisabled = true } == nil)
    }

    @Test("more than that is not")
    func more() throws {
        #expect(try rule { $0.base += 0x1000 } == .neverHeld)
        #expect(try rule { $0.isUser = true } == .moreRights)
        #expect(try rule { $0.isGlobal = true } == .neverGlobal)
        #expect(try rule(0x60_5063) { $0.shift = 21 } == .largerPage)
        #expect(try rule(0x60_0061) { _ in } == .moreRights)
        #expect(try rule(0x60_0023) { _ in } == .neverDirty)
        #expect(try rule(0x60_0023) { $0.isDirty = false } == nil)
        #expect(
            try rule(0x60_0023) {
                $0.isDirty = false
                $0.access = .write
            } == .neverDirty)
        #expect(try rule(0x60_0043) { _ in } == .notAccessed)
        #expect(try rule(0x60_0062) { _ in } == .invalidEntry)
        #expect(try rule(0x60_0063 | 1 << 45) { _ in } == .invalidEntry)
        #expect(try rule(0x60_0063 | 1 << 63) { _ in } == .moreRights)
        // The directory's entry makes it the supervisor's.
        #expect(try rule(0x60_0067) { _ in } == nil)
    }

    @Test("an access needs the rights of its translation, under the present CR0.WP and SMAP")
    func permission() throws {
        #expect(
            try rule {
                $0.isWritable = false
                $0.access = .write
            } == .notPermitted)
        #expect(try rule { $0.access = .user } == .notPermitted)
        #expect(
            try rule {
                $0.isExecuteDisabled = true
                $0.access = .fetch
            } == .notPermitted)
        #expect(try rule { $0.access = [.write, .implicit] } == nil)
        let user = try Bench("traced", entry: 0x60_0067)
        user.store(0, Bench.directory, 0x30_0027)
        user.invalidatePage(0, Bench.page)
        #expect(judge(user, made(user) { $0.isUser = true }) == nil)
        user.toggle(0, cr4: CR4.supervisorAccessPrevention)
        #expect(judge(user, made(user) { $0.isUser = true }) == .notPermitted)
        let open = try Bench("traced")
        let unprotected = open.processors[0].cr0 & ~CR0.writeProtect
        open.execute(0, [0x0f, 0x22, 0xc0], rcx: 0, rax: unprotected)
        let write = made(open) {
            $0.isWritable = false
            $0.access = .write
        }
        #expect(judge(open, write) == nil)
    }

    @Test("an entry that is not present is never cached, however short it was so")
    func invalidInBetween() throws {
        let bench = try Bench("traced")
        bench.store(0, Bench.entry, 0x70_0062)
        bench.store(0, Bench.entry, 0x60_0063)
        #expect(judge(bench, made(bench) { $0.base += 0x10_0000 }) == .invalidEntry)
    }

    @Test("D and rights of an older value are lawful until they are ended")
    func older() throws {
        let bench = try Bench("traced")
        bench.store(0, Bench.entry, 0x60_0021)
        #expect(judge(bench, made(bench)) == nil)
        #expect(bench.oracle.counts.explainedByHistory > 0)
        bench.invalidatePage(0, Bench.page)
        #expect(judge(bench, made(bench)) == .staleLeaf)
    }

    @Test("what one processor ends may be cached by another still")
    func perProcessor() throws {
        let bench = try Bench("traced")
        bench.store(0, Bench.entry, 0x70_0063)
        bench.invalidatePage(0, Bench.page)
        bench.oracle.translated(made(bench), isUse: true, by: bench.processors[1])
        #expect(bench.rule == nil)
        #expect(judge(bench, made(bench)) == .staleLeaf)
    }

    @Test("a parent may be older than its leaf, until an INVLPG of any address")
    func mixed() throws {
        let bench = try Bench("traced")
        bench.put(0x90_0063, at: 0x50_0028)
        bench.store(0, Bench.directory, 0x50_0023)
        bench.store(0, Bench.entry, 0x70_0063)
        let translation = made(bench) { $0.base += 0x10_0000 }
        #expect(judge(bench, translation) == nil)
        bench.invalidatePage(0, 0x900_0000)
        // Filled before it, from the old parent: the leaf is not covered.
        #expect(judge(bench, translation) == nil)
        bench.store(0, Bench.entry, 0x80_0063)
        #expect(judge(bench, made(bench) { $0.base += 0x20_0000 }) == .staleStructure)
    }

    @Test("a global translation is lawful in any PCID, and ends at INVLPG in any")
    func global() throws {
        let bench = try Bench("traced")
        for number in 0..<2 { bench.toggle(number, cr4: CR4.pageGlobalEnable) }
        bench.store(0, Bench.entry, 0x60_0163)
        bench.toggle(0, cr4: CR4.pcidEnable)
        bench.loadRoot(0, Bench.otherRoot | 7)
        let translation = made(bench) { $0.isGlobal = true }
        #expect(judge(bench, translation) == nil)
        bench.store(0, Bench.entry, 0x70_0163)
        #expect(judge(bench, translation) == nil)
        bench.invalidatePCID(0, type: 3)
        #expect(judge(bench, translation) == nil)
        bench.invalidatePage(0, Bench.page)
        #expect(judge(bench, translation) == .staleLeaf)
    }

    @Test("a write that nobody told of is found")
    func unobserved() throws {
        let bench = try Bench("bare")
        unsafe bench.memory.base.storeBytes(
            of: 0x70_0063, toByteOffset: Int(Bench.entry), as: UInt64.self)
        bench.load(0, Bench.page)
        #expect(bench.rule == .unobservedWrite)
    }

    @Test("without paging, addresses are translated to themselves")
    func identity() throws {
        let bench = try Bench("traced")
        bench.processors[0].reset()
        bench.oracle.translated(
            made(bench) { $0.base = bench.memory.guestBase + Bench.page & ~0xfff }, isUse: false,
            by: bench.processors[0])
        #expect(bench.rule == nil)
        #expect(judge(bench, made(bench)) == .notIdentity)
    }

    @Test("history is bounded: past the bound the oracle says so, is lenient, and judges again")
    func bounded() throws {
        let bench = try Bench("traced", limits: OracleLimits(versions: 200))
        var lines: [String] = []
        bench.oracle.onLeniency = { lines.append($0) }
        let stale = made(bench) { $0.base = bench.memory.guestBase + 0x60_0000 }
        for step in 0..<1000 as Range<UInt64> {
            bench.store(0, Bench.entry, 0x60_0063 | (step & 15) << 16)
        }
        #expect(bench.oracle.counts.historiesDropped > 1)
        #expect(lines.count == 1)
        bench.store(0, Bench.entry, 0x90_0063)
        #expect(judge(bench, made(bench) { $0.base += 0x7f_0000 }) == nil)
        #expect(bench.oracle.counts.unjudged == 1)
        bench.loadRoot(0, Bench.root)
        #expect(judge(bench, stale) == .staleLeaf || bench.rule == .neverHeld)
    }

    @Test("more tables than can be watched are not judged, and that is said")
    func manyTables() throws {
        var lines: [String] = []
        let bench = try Bench("traced", limits: OracleLimits(tables: 3))
        bench.oracle.onLeniency = { lines.append($0) }
        bench.loadRoot(0, Bench.otherRoot)
        #expect(lines.count == 1)
        #expect(judge(bench, made(bench) { $0.base += 0x1000 }) == nil)
        #expect(bench.oracle.counts.unjudged > 0)
    }

    @Test("a table that becomes data is given up, and its content is not known from then on")
    func tableBecomesData() throws {
        let bench = try Bench("traced")
        bench.store(0, Bench.directory, 0)
        bench.invalidatePage(0, Bench.page)
        for step in 0..<100 as Range<UInt64> { bench.store(0, 0x30_0100, step << 12) }
        let writes = bench.oracle.counts.tableWrites
        bench.store(0, 0x30_0100, 0x1234)
        #expect(bench.oracle.counts.tableWrites == writes)
        bench.store(0, Bench.directory, 0x30_0023)
        bench.store(0, 0x30_0100, 0x1235)
        #expect(bench.oracle.counts.tableWrites > writes)
        bench.load(0, Bench.page)
        #expect(bench.rule == nil)
    }
}
