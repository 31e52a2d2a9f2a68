import Hypervisor
import Reporting
import Testing

@Suite struct ReportTests {
    private let report = Report(
        facts: [.init("technique", "traced"), .init("kernel", "a \"b\"\\\n")],
        sections: [
            .init(
                "faults", "Page faults", isBreakdown: false,
                rows: [.init("true", 0), .init("hidden", 1_234_567)]),
            .init(
                "exits", "Exits by reason", isBreakdown: true,
                rows: [.init("page-fault", 999), .init("halted", 0), .init("buffer-full", 1)]),
        ])

    @Test func `the table lines up counts, and leaves empty parts out of breakdowns only`() {
        #expect(
            report.table() == """
                Page faults
                  true                   0
                  hidden         1,234,567
                Exits by reason      1,000
                  page fault           999   99.9 %
                  buffer full            1    0.1 %

                """)
    }

    @Test func `the JSON has every count, keys sorted and text escaped`() {
        #expect(
            report.json() == #"""
                {
                  "facts": {
                    "kernel": "a \"b\"\\\n",
                    "technique": "traced"
                  },
                  "ledger": {
                    "exits": {
                      "buffer-full": 1,
                      "halted": 0,
                      "page-fault": 999
                    },
                    "faults": {
                      "hidden": 1234567,
                      "true": 0
                    }
                  },
                  "version": 1
                }

                """#)
    }

    @Test func `an empty report is an empty table and valid JSON`() {
        let empty = Report(facts: [], sections: [])
        #expect(empty.table() == "")
        #expect(empty.json() == "{\n  \"facts\": {},\n  \"ledger\": {},\n  \"version\": 1\n}\n")
    }

    @Test(
        arguments: [
            (0, "0"), (999, "999"), (1000, "1,000"), (123_456, "123,456"), (1_000_000, "1,000,000"),
            (UInt64.max, "18,446,744,073,709,551,615"),
        ])
    func `digits are grouped by threes`(count: UInt64, text: String) {
        #expect(Report.grouped(count) == text)
    }

    @Test(
        arguments: [
            (0, 1, "    0.0 %"), (1, 3, "   33.3 %"), (2, 3, "   66.7 %"), (7, 7, "  100.0 %"),
            (1, 2000, "    0.1 %"), (UInt64.max, UInt64.max, "  100.0 %"),
            (UInt64.max / 2, UInt64.max, "   50.0 %"),
        ])
    func `shares are rounded to a tenth of a percent`(part: UInt64, total: UInt64, text: String) {
        #expect(Report.share(of: part, in: total) == text)
    }

    @Test func `there is no share of nothing, and a total that is too large stays the largest`() {
        #expect(Report.share(of: 0, in: 0) == "")
        let section = Report.Section(
            "s", "S", isBreakdown: true, rows: [.init("a", .max), .init("b", 1)])
        #expect(section.total == .max)
    }

    @Test func `control characters are escaped by number, other characters are kept`() {
        #expect(JSONValue.quoted("\u{1}\u{1F}\t\r é€") == #""\u0001\u001f\t\r é€""#)
    }
}

@Suite struct LedgerReportTests {
    @Test func `every field of the ledger is reported, once`() {
        let fields = Mirror(reflecting: Ledger()).children
        let counters = fields.filter { $0.value is UInt64 }.count
        let tallies = fields.count - counters
        let sections = Report(ledger: Ledger(), facts: []).sections
        #expect(counters > 0 && tallies > 0)
        #expect(sections.filter(\.isBreakdown).count == tallies)
        #expect(sections.filter { !$0.isBreakdown }.flatMap(\.rows).count == counters)
        #expect(Set(sections.map(\.key)).count == sections.count)
        for section in sections {
            #expect(Set(section.rows.map(\.key)).count == section.rows.count)
        }
    }

    @Test func `counts stand under their names`() throws {
        var ledger = Ledger()
        ledger.instructions = 1
        ledger.exits[.invalidatePage] = 2
        ledger.recordsWritten = 3
        ledger.recordsByLevel[.pml4] = 4
        ledger.drains[.rootLoaded] = 5
        ledger.hiddenFaults = 6
        ledger.trueFaults = 7
        ledger.shadowPagesMade = 8
        let report = Report(ledger: ledger, facts: [])
        func count(_ section: String, _ row: String) -> UInt64? {
            report.sections.first { $0.key == section }?.rows.first { $0.key == row }?.count
        }
        #expect(count("execution", "instructions") == 1)
        #expect(count("exits", "invalidate-page") == 2)
        #expect(count("traced-writes", "recorded") == 3)
        #expect(count("records-by-level", "pml4-table") == 4)
        #expect(count("drains", "root-loaded") == 5)
        #expect(count("page-faults", "hidden") == 6)
        #expect(count("page-faults", "true") == 7)
        #expect(count("shadow-pages", "made") == 8)
    }
}
