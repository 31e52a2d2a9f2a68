import Hypervisor
import Reporting
import Testing

@Suite struct BreakdownReportTests {
    private static func exits(_ faults: UInt64, _ writes: UInt64 = 0) -> Tally<ExitReason> {
        var tally = Tally<ExitReason>()
        tally[.pageFault] = faults
        tally[.tableWrite] = writes
        return tally
    }

    private static func part(
        _ number: UInt16?, code: [ExitPlace], processes: [ExitPlace] = []
    ) -> LedgerBreakdown.Part {
        var ledger = Ledger()
        ledger.exits = code.reduce(into: Tally()) { sum, place in
            for (reason, count) in place.exits.pairs { sum[reason] += count }
        }
        return .init(
            region: .init(number: number, begun: 1, ledger: ledger), code: code,
            processes: processes)
    }

    private static func report(symbols: SymbolTable? = nil) -> Report {
        var report = Report(ledger: Ledger(), facts: [])
        report.add(
            LedgerBreakdown(parts: [
                part(0, code: []),
                part(
                    7,
                    code: [
                        .init(address: 0x1010, exits: exits(4)),
                        .init(address: 0x2000, exits: exits(1, 2)),
                        .init(address: 0x1020, exits: exits(2)),
                        .init(address: 0x10, exits: exits(1)),
                        .init(address: nil, exits: exits(5)),
                    ],
                    processes: [.init(address: 0x5000, exits: exits(13, 2))]),
                part(nil, code: []),
            ]), symbols: symbols)
        return report
    }

    @Test func `regions have their ledgers, and their places by falling count`() throws {
        let report = Self.report()
        #expect(report.regions.map(\.key) == ["outside", "7", "others"])
        let region = report.regions[1]
        let exits = try #require(region.sections.first { $0.key == "exits" })
        #expect(exits.total == 15)
        #expect(region.places.map(\.key) == ["exits-by-code", "exits-by-process"])
        #expect(region.places[0].top.map(\.count) == [4, 3, 2, 1])
        #expect(region.places[0].others == 5)
        #expect(region.places[0].top[1].rows.map(\.key) == ["page-fault", "table-write"])
        #expect(region.places[1].top.map(\.name) == ["0x0000000000005000"])
    }

    @Test func `with symbols exits are counted by function too`() throws {
        let symbols = try SymbolTable(parsing: Array("1000 T first\n2000 T second\n".utf8))
        let region = Self.report(symbols: symbols).regions[1]
        let functions = try #require(region.places.first { $0.key == "exits-by-function" })
        #expect(functions.top.map(\.name) == ["first", "second", "(no function)"])
        #expect(functions.top.map(\.count) == [6, 3, 1])
        #expect(functions.others == 5)
        let code = try #require(region.places.first { $0.key == "exits-by-code" })
        #expect(code.top.map(\.symbol) == ["first+0x10", "second+0x0", "first+0x20", nil])
    }

    @Test func `a report has a bounded number of places, and the rest as one number`() {
        let code = (0..<1000 as Range<UInt64>).map {
            ExitPlace(address: $0, exits: Self.exits(2000 - $0))
        }
        var report = Report(ledger: Ledger(), facts: [])
        report.add(LedgerBreakdown(parts: [Self.part(0, code: code)]))
        let places = report.regions[0].places[0]
        #expect(places.top.count == Report.mostPlaces)
        #expect(places.top.reduce(places.others) { $0 + $1.count } == 1_500_500)
    }

    @Test func `JSON and table have the regions`() throws {
        let report = Self.report()
        let json = report.json()
        #expect(json.contains(#""7": {"#) && json.contains(#""outside": {"#))
        #expect(
            json.contains(
                """
                          {
                            "count": 3,
                            "place": "0x0000000000002000",
                            "reasons": {
                              "page-fault": 1,
                              "table-write": 2
                            }
                          },
                """))
        let table = report.table()
        #expect(table.contains("\nRegion 7, begun 1 times\nExits by reason"))
        #expect(table.contains("  0x0000000000001010"))
        // What lies outside is the whole less the regions.
        #expect(!table.contains("Region outside"))
    }
}
