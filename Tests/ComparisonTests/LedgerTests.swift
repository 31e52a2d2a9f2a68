import Comparison
import Foundation
import Hypervisor
import Reporting
import Testing

@Suite struct LedgerTests {
    private static func text(_ facts: [Report.Fact] = [.init("technique", "bare")]) -> String {
        var ledger = Ledger()
        ledger.instructions = .max
        ledger.exits[.pageFault] = 12
        return Report(ledger: ledger, facts: facts).json()
    }

    private static func error(_ text: String) -> InputError? {
        do {
            _ = try LedgerDocument.parse(text, file: "l.json")
            return nil
        } catch { return error }
    }

    @Test func `a ledger is read back as it was written`() throws {
        let text = Self.text([.init("technique", "traced"), .init("kernel", "a \"b\"\\\n\té€")])
        let document = try LedgerDocument.parse(text, file: "l.json")
        #expect(document.facts == ["technique": "traced", "kernel": "a \"b\"\\\n\té€"])
        #expect(document.counts[CountName("execution", "instructions")] == .max)
        #expect(document.counts[CountName("exits", "page-fault")] == 12)
        #expect(document.counts.count == CountName.all.count)
        #expect(document.regions.isEmpty)
    }

    @Test(arguments: [
        ("\"version\": 1", "\"version\": 2", "is a ledger of another version; this program reads"),
        ("\"page-fault\": 12", "\"page-fault\": -12", "exits/page-fault is no count; give a whole"),
        ("\"page-fault\": 12", "\"page-fault\": \"12\"", "exits/page-fault is no count; give"),
        ("\"page-fault\": 12", "\"page-fault\": 1.5", "exits/page-fault is no count; give"),
        ("\"page-fault\": 12", "\"page-fault\": 18446744073709551616", "is no count; give"),
        ("\"page-fault\": 12", "\"page-felt\": 12", "exits has no 'page-felt'; allowed are limit,"),
        ("\"page-fault\": 12", "\"limit\": 12", "'limit' is given twice; give it once"),
        ("\"exits\": {", "\"exist\": {", "ledger has no 'exist'; allowed are execution, exits,"),
    ])
    func `a ledger with something wrong is refused with its line`(
        old: String, new: String, words: String
    ) throws {
        let text = Self.text()
        let range = try #require(text.firstRange(of: old))
        let error = try #require(Self.error(text.replacingCharacters(in: range, with: new)))
        #expect(error.description.contains(words), "\(error)")
        if !words.contains("twice") {
            let line = text[..<range.lowerBound].count { $0 == "\n" } + 1
            #expect(abs((error.line ?? 0) - line) <= 1, "\(error)")
        }
    }

    @Test func `a ledger that misses a count, or its counts, is refused`() throws {
        let text = Self.text()
        let short = text.split(separator: "\n").filter { !$0.contains("\"page-fault\"") }
        let error = try #require(Self.error(short.joined(separator: "\n")))
        #expect(error.description.contains("the ledger misses 'exits/page-fault'; give the whole"))
        #expect(
            Self.error("{\"version\": 1}")?.description
                == "l.json:1: is no ledger; give what 'penumbra run --ledger' writes: version, facts, "
                + "ledger")
        #expect(Self.error("") != nil)
    }

    @Test func `a ledger without a technique, or with an unknown one, has no price`() throws {
        let profile = try Profile.named("sandy-bridge")
        for facts in [[], [Report.Fact("technique", "magic")]] {
            let document = try LedgerDocument.parse(Self.text(facts), file: "l.json")
            #expect(throws: InputError.self) {
                try PriceReport(document, file: "l.json", profile: profile)
            }
        }
    }

    @Test func `a cut ledger is refused wherever it is cut`() {
        let text = Self.text()
        for length in stride(from: 0, to: text.count - 2, by: 23) {
            #expect(Self.error(String(text.prefix(length))) != nil, "\(length)")
        }
    }

    @Test func `a series is read back as it was written, and its points are all as long`() throws {
        var report = Report(ledger: Ledger(), facts: [])
        report.series = Report.Series(
            interval: 10, columns: ["instructions", "exits"], points: [[10, 3], [20, .max]])
        let text = report.json()
        #expect(text.contains("      [20, 18446744073709551615]\n"))
        let document = try LedgerDocument.parse(text, file: "l.json")
        #expect(
            document.series
                == Report.Series(
                    interval: 10, columns: ["instructions", "exits"],
                    points: [[10, 3], [20, .max]]))
        let error = Self.error(text.replacing("[10, 3]", with: "[10]"))
        #expect(error?.message == "a point has 1 numbers; give 2")
    }

    @Test func `counts of interest are those of marked regions, and of the run where none is`() {
        let instructions = CountName("execution", "instructions")
        let peak = CountName("shadow-pages", "peak")
        var document = LedgerDocument(facts: [:], counts: [instructions: 100, peak: 9])
        #expect(document.countsOfInterest[instructions] == 100)
        func region(_ key: String, _ count: UInt64, _ most: UInt64) -> LedgerDocument.Region {
            LedgerDocument.Region(
                key: key, begun: 1, counts: [instructions: count, peak: most], places: [])
        }
        document.regions = [region("outside", 70, 9)]
        #expect(document.countsOfInterest[instructions] == 100)
        document.regions += [region("1", 20, 5), region("7", 10, 8)]
        #expect(document.countsOfInterest[instructions] == 30)
        #expect(document.countsOfInterest[peak] == 8)
    }
}
