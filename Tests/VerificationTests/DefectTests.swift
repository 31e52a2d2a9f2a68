import Hypervisor
import Testing
import Verification
import X86

/// What a guest does, that shows a mistake of the hypervisor's if it makes it.
enum Story: String, CaseIterable, Sendable {
    case otherProcessorWrites, globalPage, upperLevel, clearAccessed, ownWrite, relinkedTable
    case newPCID, dataBecomesTable, rootLoad, invalidateAddress, invalidateContext
    case invalidateAll, invalidateNonGlobal, globalPagesToggled, readOnlyPage, readOnlyWrite
    case globalBit

    func tell(_ bench: Bench) {
        let page = Bench.page
        let entry = Bench.entry
        switch self {
        case .otherProcessorWrites:
            bench.load(0, page)
            bench.store(1, entry, 0x70_0063)
            bench.invalidatePage(0, page)
        case .globalPage:
            bench.toggle(0, cr4: CR4.pageGlobalEnable)
            bench.store(0, entry, 0x60_0163)
            bench.invalidatePage(0, page)
            bench.load(0, page)
            bench.store(0, entry, 0x70_0163)
            bench.invalidatePage(0, page)
        case .upperLevel:
            // The link to the page table is replaced, INVLPG of another page ends it, and then
            // the old table changes.
            bench.put(0x90_0063, at: 0x50_0028)
            bench.store(0, entry, 0x68_0021)
            bench.invalidatePage(0, page)
            bench.load(0, page)
            bench.store(0, Bench.directory, 0x50_0023)
            bench.invalidatePage(0, 0x800_7000)
            bench.store(0, entry, 0x68_0063)
            bench.invalidatePage(0, page)
        case .clearAccessed:
            bench.store(0, entry, 0x68_0003)
        case .ownWrite, .rootLoad, .invalidateAddress, .invalidateContext, .invalidateAll,
            .invalidateNonGlobal, .globalPagesToggled:
            bench.load(0, page)
            bench.store(0, entry, 0x70_0063)
            end(bench)
        case .relinkedTable:
            // A table that the other root did not lead to is changed, linked there, and used.
            bench.load(0, page)
            bench.load(0, Bench.neighbour)
            bench.loadRoot(0, Bench.otherRoot)
            bench.store(0, Bench.neighbourEntry, 0x70_0063)
            bench.store(0, Bench.otherNextDirectory, 0x30_0023)
            bench.load(0, page + 0x20_0000)
            bench.load(0, Bench.neighbour + 0x20_0000)
            return
        case .newPCID:
            bench.load(0, page)
            bench.store(0, entry, 0x70_0063)
            bench.toggle(0, cr4: CR4.pcidEnable)
            bench.loadRoot(0, Bench.root | 1 | CR3.noFlush)
        case .dataBecomesTable:
            bench.store(0, 0x50_0028, 0x60_0063)
            bench.store(0, Bench.nextDirectory, 0x50_0023)
            bench.load(0, page + 0x20_0000)
            bench.store(0, 0x50_0028, 0x70_0063)
            bench.invalidatePage(0, page + 0x20_0000)
            bench.load(0, page + 0x20_0000)
            return
        case .readOnlyPage:
            bench.store(0, entry, 0x68_0021)
            bench.invalidatePage(0, page)
        case .readOnlyWrite:
            bench.store(0, entry, 0x60_0061)
            bench.invalidatePage(0, page)
            bench.store(0, page, 1)
            return
        case .globalBit:
            bench.toggle(0, cr4: CR4.pageGlobalEnable)
        }
        bench.load(0, page)
    }

    /// The operation that ends staleness after a write of the processor's own.
    private func end(_ bench: Bench) {
        switch self {
        case .rootLoad: bench.loadRoot(0, Bench.root)
        case .invalidateAddress: bench.invalidatePCID(0, type: 0, Bench.page)
        case .invalidateContext: bench.invalidatePCID(0, type: 1)
        case .invalidateAll: bench.invalidatePCID(0, type: 2)
        case .invalidateNonGlobal: bench.invalidatePCID(0, type: 3)
        case .globalPagesToggled: bench.toggle(0, cr4: CR4.pageGlobalEnable)
        default: bench.invalidatePage(0, Bench.page)
        }
    }
}

/// A mistake, a story that shows it, and what the oracle has to say.
struct Mistake: Sendable, CustomTestStringConvertible {
    var name: String
    var defects: Defects
    var technique = "traced"
    var story: Story
    var rule: LawfulnessRule
    /// What the message has to say beside.
    var words: [String] = []

    var testDescription: String { name }

    static let all = [
        Mistake(
            name: "skips another processor's ring", defects: .skipsOtherRings,
            story: .otherProcessorWrites, rule: .staleLeaf,
            words: [
                "ended by\n    INVLPG 0x8005000 by processor 0",
                "0x700063 (P W A D) by processor 1 at guest code 0x20000 after",
                "linear 0x8005000 → guest-physical 0x600000, 4 KiB page, W S X D -",
                "taken from a table by processor 0 at guest code 0x10",
                "level 1 at 0x300028: 0x600063 (P W A D), held from [0] to [",
            ]),
        Mistake(
            name: "forgets global pages at INVLPG", defects: .forgetsGlobalPages,
            story: .globalPage, rule: .staleLeaf, words: ["INVLPG 0x8005000", "(P W A D G)"]),
        Mistake(
            name: "keeps upper levels after INVLPG", defects: .keepsUpperLevels,
            story: .upperLevel, rule: .staleStructure,
            words: ["ended by\n    INVLPG 0x8007000 by processor 0", "level 2 at 0x3200"]),
        Mistake(
            name: "installs with A=0", defects: .installsUnaccessed, story: .clearAccessed,
            rule: .notAccessed),
        Mistake(
            name: "sees a store before its record", defects: .losesRecords, story: .ownWrite,
            rule: .staleLeaf, words: ["INVLPG 0x8005000", "by processor 0 at guest code 0x10"]),
        Mistake(
            name: "links a parent before its children are synced", defects: .linksUnsynced,
            technique: "unsync", story: .relinkedTable, rule: .staleChild),
        Mistake(
            name: "does not drain at a fault", defects: .skipsDrainAtFault,
            story: .relinkedTable, rule: .staleChild, words: ["level 1 at 0x300030"]),
        Mistake(
            name: "reuses a root after PCIDE 0→1", defects: .reusesRoots, story: .newPCID,
            rule: .wrongRoot, words: ["read in PCID 0"]),
        Mistake(
            name: "keeps a page writable that becomes a table", defects: .leavesTablesWritable,
            story: .dataBecomesTable, rule: .staleLeaf, words: ["INVLPG 0x8205000"]),
        Mistake(
            name: "keeps a write-protected page writable", defects: .leavesTablesWritable,
            technique: "trap", story: .dataBecomesTable, rule: .staleLeaf),
        Mistake(
            name: "ignores INVLPG", defects: .ignoresInvalidatePage, story: .ownWrite,
            rule: .staleLeaf, words: ["ended by\n    INVLPG"]),
        Mistake(
            name: "keeps stale after MOV CR3", defects: .ignoresRootLoad, story: .rootLoad,
            rule: .staleLeaf, words: ["ended by\n    a load of CR3 by"]),
        Mistake(
            name: "keeps stale after INVPCID 0", defects: .ignoresInvalidatePCID(type: 0),
            story: .invalidateAddress, rule: .staleLeaf,
            words: ["ended by\n    INVPCID type 0, PCID 0, address 0x8005000"]),
        Mistake(
            name: "keeps stale after INVPCID 1", defects: .ignoresInvalidatePCID(type: 1),
            story: .invalidateContext, rule: .staleLeaf, words: ["ended by\n    INVPCID type 1"]),
        Mistake(
            name: "keeps stale after INVPCID 2", defects: .ignoresInvalidatePCID(type: 2),
            story: .invalidateAll, rule: .staleLeaf, words: ["ended by\n    INVPCID type 2"]),
        Mistake(
            name: "keeps stale after INVPCID 3", defects: .ignoresInvalidatePCID(type: 3),
            story: .invalidateNonGlobal, rule: .staleLeaf,
            words: ["ended by\n    INVPCID type 3"]),
        Mistake(
            name: "keeps stale after a change of CR4.PGE", defects: .ignoresModeChange,
            story: .globalPagesToggled, rule: .staleLeaf,
            words: ["ended by\n    a change of CR0, CR4 or EFER"]),
        Mistake(
            name: "grants writes", defects: .grantsWrites, story: .readOnlyPage,
            rule: .moreRights),
        Mistake(
            name: "marks pages global", defects: .marksGlobal, story: .globalBit,
            rule: .neverGlobal),
        Mistake(
            name: "takes P of the error code from the shadow", defects: .faultsByShadow,
            story: .readOnlyWrite, rule: .wrongFault,
            words: ["error code 2 (W)", "by the tables now: error code 3 (P W)"]),
    ]
}

@Suite("The lawfulness oracle and deliberate mistakes")
struct DefectTests {
    @Test(
        "a technique with one mistake is caught, with the right explanation",
        arguments: Mistake.all)
    func caught(mistake: Mistake) throws {
        let bench = try Bench(mistake.technique, mistake.defects)
        mistake.story.tell(bench)
        #expect(bench.rule == mistake.rule, "\(bench.text)")
        for words in mistake.words { #expect(bench.text.contains(words), "\(bench.text)") }
    }

    @Test(
        "what the guest does there is lawful without the mistake, under every technique",
        arguments: Story.allCases,
        ["bare", "trap", "unsync", "traced", "nested", "agile,writes=1,quiet=1"])
    func lawful(story: Story, technique: String) throws {
        for uses in [false, true] {
            let bench = try Bench(technique, uses: uses)
            story.tell(bench)
            #expect(bench.rule == nil, "\(bench.text)")
            #expect(bench.oracle.counts.translations >= 2)
            #expect(bench.oracle.counts.unjudged == 0)
            if story == .readOnlyWrite { #expect(bench.oracle.counts.faults > 0) }
        }
    }
}
