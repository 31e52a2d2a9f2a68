import Hypervisor

extension Report {
    /// The report of a run.
    /// - Parameters:
    ///   - ledger: the run's exact counts.
    ///   - facts: what tells this run from others; only the JSON form shows them.
    public init(ledger: Ledger, facts: [Fact]) {
        self.init(facts: facts, sections: Self.sections(ledger))
    }

    /// Every count of a ledger.
    static func sections(_ ledger: Ledger) -> [Section] {
        [
            Section(
                "execution", "Execution", isBreakdown: false,
                rows: [
                    Row("instructions", ledger.instructions),
                    Row("interrupts", ledger.interrupts),
                    Row("exceptions", ledger.exceptions),
                    Row("device-accesses", ledger.deviceAccesses),
                    Row("tlb-misses", ledger.tlbMisses, title: "TLB misses"),
                    Row("walk-references", ledger.walkReferences),
                ]),
            Section("exits", "Exits by reason", of: ledger.exits),
            Section(
                "traced-writes", "Page-table writes", isBreakdown: false,
                rows: [
                    Row("recorded", ledger.recordsWritten),
                    Row("coalesced", ledger.recordsCoalesced),
                    Row("drained", ledger.recordsDrained),
                    Row("former-tables", ledger.recordsOfFormerTables),
                    Row("empty-drains", ledger.emptyDrains),
                    Row("values-superseded", ledger.valuesSuperseded),
                    Row("entries-reread", ledger.entriesReread),
                    Row("entries-refilled", ledger.entriesRefilled),
                    Row("tables-unsynced", ledger.tablesUnsynced),
                    Row("tables-resynced", ledger.tablesResynced),
                    Row("entries-resynced", ledger.entriesResynced),
                    Row("tables-nested", ledger.tablesNested),
                    Row("tables-returned", ledger.tablesReturned),
                    Row("watches-ended", ledger.watchesEnded),
                ]),
            Section("records-by-level", "Drained records by level", of: ledger.recordsByLevel),
            Section("table-writes", "Table-write exits by level", of: ledger.tableWrites),
            Section("drains", "Drains by cause", of: ledger.drains),
            Section("elided", "Operations done without an exit", of: ledger.elided),
            Section(
                "page-faults", "Page faults", isBreakdown: false,
                rows: [
                    Row("hidden", ledger.hiddenFaults),
                    Row("true", ledger.trueFaults),
                    Row("dirty", ledger.dirtyFaults, title: "hidden, first write"),
                    Row("spurious", ledger.spuriousFaults, title: "hidden, nothing to do"),
                ]),
            Section(
                "shadow-pages", "Shadow pages", isBreakdown: false,
                rows: [
                    Row("made", ledger.shadowPagesMade),
                    Row("reused", ledger.shadowPagesReused),
                    Row("dropped", ledger.shadowPagesDropped),
                    Row("reclaimed", ledger.shadowPagesReclaimed),
                    Row("abandoned", ledger.shadowPagesAbandoned),
                    Row("live", ledger.shadowPagesLive),
                    Row("peak", ledger.shadowPagesPeak),
                    Row("entries-installed", ledger.entriesInstalled),
                    Row("entries-dropped", ledger.entriesDropped),
                    Row("traces-started", ledger.tracesStarted),
                    Row("traces-stopped", ledger.tracesStopped),
                    Row("page-invalidations", ledger.pageInvalidations),
                    Row("full-invalidations", ledger.fullInvalidations),
                ]),
        ]
    }
}

extension Report.Section {
    /// A breakdown with one row a case of the tally's key.
    fileprivate init<Key: TallyKey>(_ key: String, _ title: String, of tally: Tally<Key>) {
        self.init(
            key, title, isBreakdown: true,
            rows: tally.pairs.map { Report.Row($0.key.rawValue, $0.count) })
    }
}
