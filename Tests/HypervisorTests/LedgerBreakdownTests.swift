import Hypervisor
import Testing
import X86

/// The ledger in parts: regions, and where exits come from.
@Suite struct LedgerBreakdownTests {
    /// A ledger that is `n` events after the start; each count has its own pace.
    static func ledger(after n: UInt64) -> Ledger {
        var ledger = Ledger()
        ledger.instructions = n * 100
        ledger.exits[.pageFault] = n * 3
        ledger.exits[.secondDimensionFault] = n
        ledger.fullInvalidations = n * 7
        ledger.shadowPagesLive = n % 5
        ledger.shadowPagesPeak = 5
        return ledger
    }

    @Test("a ledger is a row of 64-bit words, which intervals rely on")
    func layout() {
        let fields = Mirror(reflecting: Ledger()).children
        let counters = fields.filter { $0.value is UInt64 }.count
        let tallies = fields.filter { "\(type(of: $0.value))".hasPrefix("Tally<") }.count
        #expect(counters + tallies == fields.count && tallies > 0)
        #expect(MemoryLayout<Tally<ExitReason>>.size == 24 * 8)
        #expect(MemoryLayout<Ledger>.size == (counters + 24 * tallies) * 8)
    }

    @Test("an interval adds counts up, and takes states over")
    func interval() {
        var sum = Self.ledger(after: 10)
        sum.add(from: Self.ledger(after: 4), to: Self.ledger(after: 7))
        var expected = Self.ledger(after: 13)
        expected.shadowPagesLive = 2
        #expect(sum == expected)
    }

    @Test("regions divide the run: their counts sum up to the whole ledger's")
    func division() {
        var random = SplitMix64(seed: 11)
        var regions = RegionLedgers()
        var now: UInt64 = 0
        for _ in 0..<1000 {
            now += random.next() % 5
            let number = UInt16(1 + random.next() % 6)
            let marker: RegionMarker = random.next() % 3 == 0 ? .end(number) : .begin(number)
            regions.mark(marker, Self.ledger(after: now))
        }
        now += 3
        let all = regions.all(Self.ledger(after: now))
        #expect(Set(all.map(\.number)) == [0, 1, 2, 3, 4, 5, 6])
        var sum = Ledger()
        for region in all { sum.add(from: Ledger(), to: region.ledger) }
        sum.shadowPagesLive = now % 5
        #expect(sum == Self.ledger(after: now))
    }

    @Test("regions do not nest: the next one ends the one before, and a foreign end means nothing")
    func flat() {
        var regions = RegionLedgers()
        regions.mark(.begin(1), Self.ledger(after: 1))
        regions.mark(.begin(2), Self.ledger(after: 3))
        regions.mark(.end(1), Self.ledger(after: 6))
        regions.mark(.end(2), Self.ledger(after: 10))
        regions.mark(.end(2), Self.ledger(after: 15))
        regions.mark(.begin(1), Self.ledger(after: 21))
        let all = regions.all(Self.ledger(after: 28))
        #expect(all.map(\.number) == [0, 1, 2])
        #expect(all.map(\.begun) == [2, 2, 1])
        #expect(all.map(\.ledger.instructions) == [1200, 900, 700])
        #expect(all.map { $0.ledger.exits[.pageFault] } == [36, 27, 21])
    }

    @Test("regions beyond the most that are told apart share one place")
    func manyRegions() {
        var regions = RegionLedgers()
        for number in 1...1000 as ClosedRange<UInt16> {
            regions.mark(.begin(number), Self.ledger(after: UInt64(number)))
        }
        regions.mark(.end(1000), Self.ledger(after: 1001))
        let all = regions.all(Self.ledger(after: 1002))
        #expect(all.count == RegionLedgers.mostRegions + 2)
        #expect(all.filter { $0.number == nil }.map(\.begun) == [745])
        #expect(all.reduce(0) { $0 + $1.ledger.instructions } == 100_200)
        #expect(all[0].ledger.instructions == 200)
    }

    @Test("places are counted exactly, by region and reason, those with most exits first")
    func places() {
        var places = ExitPlaces()
        for _ in 0..<3 { places.count(.pageFault, at: 0x20, region: 0) }
        for _ in 0..<2 { places.count(.pageFault, at: 0x10, region: 0) }
        places.count(.tableWrite, at: 0x10, region: 0)
        places.count(.tableWrite, at: 0x30, region: 1)
        let outside = places.places(region: 0)
        #expect(outside.map(\.address) == [0x10, 0x20])
        #expect(outside.map(\.exits.sum) == [3, 3])
        #expect(outside[0].exits[.pageFault] == 2 && outside[0].exits[.tableWrite] == 1)
        #expect(places.places(region: 1).map(\.address) == [0x30])
        #expect(places.places(region: 2).isEmpty)
    }

    @Test("more places than there is memory for are counted together, and none is lost")
    func manyPlaces() {
        var places = ExitPlaces(most: 10)
        for round in 0..<3 {
            for address in 0..<100 as Range<UInt64> {
                places.count(round == 0 ? .pageFault : .bufferFull, at: address, region: 0)
            }
        }
        let all = places.places(region: 0)
        // The first ten, by reason, have a place each.
        #expect(all.compactMap(\.address) == Array(0..<10))
        #expect(all.count == 11 && all.last?.address == nil)
        #expect(all.reduce(0) { $0 + $1.exits.sum } == 300)
        #expect(all.last?.exits[.pageFault] == 90)
        #expect(all.last?.exits[.bufferFull] == 200)
    }
}
