import Hypervisor
import Testing

@Suite("The auditor")
struct AuditorTests {
    /// A guest that has used its page table, and an alias of it, and has nothing pending.
    private func settled(_ technique: String, _ defects: Defects = []) throws -> Bench {
        let bench = try Bench(technique, defects)
        bench.load(0, Bench.page)
        bench.load(1, Bench.neighbour)
        bench.store(0, Bench.entry, 0x70_0063)
        bench.load(0, Bench.entry)
        bench.invalidatePage(0, Bench.page)
        bench.load(0, Bench.page)
        bench.load(1, Bench.entry)
        return bench
    }

    @Test(
        "finds nothing where nothing is wrong",
        arguments: ["trap", "unsync", "traced", "nested", "agile,writes=1,quiet=1"])
    func clean(technique: String) throws {
        let bench = try settled(technique)
        #expect(!bench.hypervisor.hasPendingRecords)
        #expect(bench.hypervisor.audit() == [])
    }

    @Test("finds each thing that is put wrong in the shadow", arguments: Corruption.allCases)
    func corruption(_ corruption: Corruption) throws {
        let bench = try settled("traced")
        #expect(bench.hypervisor.audit() == [])
        try #require(bench.hypervisor.corrupt(corruption))
        let found = bench.hypervisor.audit()
        #expect(found.contains { matches($0, corruption) }, "\(corruption): \(found)")
    }

    private func matches(_ violation: Violation, _ corruption: Corruption) -> Bool {
        switch (corruption, violation) {
        case (.accessed, .notAccessed), (.frame, .wrongEntry), (.rights, .wrongEntry),
            (.trace, .wrongTrace), (.link, .badLink), (.lists, .wrongLists),
            (.count, .wrongCount), (.lostPage, .lostPage), (.root, .deadRoot),
            (.traceCount, .wrongTraceCount), (.pool, .leakedPages), (.unsync, .wrongUnsync),
            (.pending, .pendingInvalidations):
            true
        default: false
        }
    }

    /// What a mistake leaves behind in the shadow.
    private func left(_ defects: Defects, _ story: Story, _ technique: String = "traced") throws
        -> [Violation]
    {
        let bench = try Bench(technique, defects)
        story.tell(bench)
        return bench.hypervisor.audit()
    }

    @Test("finds what a technique with a mistake leaves behind")
    func mistakes() throws {
        func hasWrongEntry(_ violations: [Violation]) -> Bool {
            violations.contains { if case .wrongEntry = $0 { true } else { false } }
        }
        #expect(hasWrongEntry(try left(.losesRecords, .ownWrite)))
        #expect(hasWrongEntry(try left(.forgetsGlobalPages, .globalPage)))
        #expect(hasWrongEntry(try left(.keepsUpperLevels, .upperLevel)))
        #expect(hasWrongEntry(try left(.installsUnaccessed, .clearAccessed)))
        #expect(hasWrongEntry(try left(.grantsWrites, .readOnlyPage)))
        #expect(hasWrongEntry(try left(.marksGlobal, .globalBit)))
        for technique in ["traced", "trap"] {
            let found = try left(.leavesTablesWritable, .dataBecomesTable, technique)
            #expect(found.contains { if case .wrongTrace = $0 { true } else { false } })
        }
    }
}
