import Comparison
import Hypervisor
import Reporting
import Testing

@Suite struct PriceTests {
    private static func technique(_ text: String) throws -> Technique {
        try Technique(parsing: text)
    }

    @Test func `every count of the ledger is priced, or on the list of those that are not`() {
        let priced = Set(Figure.allCases.flatMap(\.counts))
        let unpriced = Unpriced.all.map(\.count)
        #expect(Set(unpriced).count == unpriced.count)
        #expect(priced.isDisjoint(with: unpriced))
        #expect(priced.union(unpriced) == Set(CountName.all))
        for entry in Unpriced.all { #expect(entry.reason.count > 10) }
    }

    @Test func `a price is the sum of counts times figures`() throws {
        let profile = try Profile.parse(
            ProfileTests.sample {
                $0["instruction"] = "{value: 0.7, unit: cycles, state: recalled, source: there}"
                $0["exit"] = "{value: 784, unit: cycles, state: recalled, source: there}"
            }, file: "p.yaml")
        let counts: LedgerDocument.Counts = [
            CountName("execution", "instructions"): 1001,
            CountName("execution", "walk-references"): 10,
            CountName("exits", "page-fault"): 3, CountName("exits", "table-write"): 4,
            CountName("exits", "halted"): 1000,
            CountName("page-faults", "hidden"): 2, CountName("page-faults", "true"): 1,
            CountName("page-faults", "dirty"): 2,
            CountName("shadow-pages", "dropped"): 5, CountName("shadow-pages", "reclaimed"): 6,
            CountName("shadow-pages", "peak"): 1_000_000,
        ]
        let price = Price(counts, technique: try Self.technique("trap"), profile: profile)
        func cycles(_ figure: Figure) -> UInt64? {
            price.items.first { $0.figure == figure.rawValue }?.cycles
        }
        // 1001 × 0.7 = 700.7.
        #expect(cycles(.instruction) == 701)
        #expect(cycles(.walkReference) == 120)
        #expect(cycles(.exit) == 7 * 784)
        #expect(cycles(.dispatch) == 14)
        #expect(cycles(.tableWrite) == 8)
        #expect(cycles(.hiddenFault) == 4)
        #expect(cycles(.trueFault) == 2)
        #expect(cycles(.shadowPageDropped) == 22)
        #expect(price.cycles == 701 + 120 + 5488 + 14 + 8 + 4 + 2 + 22)
        #expect(price.groups.map { $0.cycles } == [701, 120, 5502, 0, 14, 0, 22])
        #expect(price.groups.reduce(0) { $0 + $1.cycles } == price.cycles)
    }

    private static let recordFigures: [(String, String?)] = [
        ("traced", "record-address"), ("traced,record=value", "record-value"),
        ("traced,record=mask", "record-mask"), ("trap", nil), ("bare", nil),
    ]

    @Test(arguments: recordFigures)
    func `records are priced by their format`(text: String, figure: String?) throws {
        let profile = try Profile.named("sandy-bridge")
        let price = Price(
            [CountName("traced-writes", "recorded"): 100], technique: try Self.technique(text),
            profile: profile)
        #expect(price.items.filter { $0.cycles > 0 }.map(\.figure) == (figure.map { [$0] } ?? []))
    }

    @Test func `counts without end give the most and no trap`() throws {
        var counts: LedgerDocument.Counts = [:]
        for name in CountName.all { counts[name] = .max }
        let price = Price(
            counts, technique: try Self.technique("traced"),
            profile: try Profile.named("nested-cloud"))
        #expect(price.cycles == .max)
    }

    @Test func `the table has each item that happened, within 100 columns`() throws {
        let text = Report(ledger: Self.ledger, facts: [.init("technique", "trap,refill=off")])
            .json()
        let document = try LedgerDocument.parse(text, file: "l.json")
        let report = try PriceReport(
            document, file: "l.json", profile: try Profile.parse(ProfileTests.sample(), file: "p"))
        #expect(
            report.table() == """
                priced by sample: trap,refill=off
                run                                      count   cycles each                cycles   share
                  instruction                            1,000             2                 2,000   98.8 %
                  exit                                       4             2                     8    0.4 %
                  dispatch                                   4             2                     8    0.4 %
                  table-write                                4             2                     8    0.4 %
                  all                                                                        2,024

                """)
        #expect(try report.json().contains("\"cycles\" : 2024"))
    }

    private static let ledger: Ledger = {
        var ledger = Ledger()
        ledger.instructions = 1000
        ledger.exits[.tableWrite] = 4
        ledger.exits[.halted] = 7
        return ledger
    }()
}
