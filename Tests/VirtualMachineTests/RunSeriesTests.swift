import Hypervisor
import Testing
import VirtualMachine

@Suite struct RunSeriesTests {
    private static func point(_ instructions: UInt64, buffered: UInt64 = 0) -> RunSeries.Point {
        RunSeries.Point(Ledger(), instructions: instructions, bufferedRecords: buffered)
    }

    @Test func `a long run has a bounded number of points, and loses no peak of the buffer`() {
        var series = RunSeries(interval: 10, start: 0)
        for number in 1...100_000 as ClosedRange<UInt64> {
            // Only points that are due are added.
            let instructions = number * 10
            guard instructions % series.interval == 0 else { continue }
            series.add(Self.point(instructions, buffered: instructions == 1300 ? 7 : 1))
        }
        #expect(series.points.count >= RunSeries.mostPoints / 2 - 1)
        #expect(series.points.count < RunSeries.mostPoints)
        #expect(series.interval == 10 << 8)
        #expect(
            series.points.map(\.instructions)
                == (1...UInt64(series.points.count)).map { $0 * series.interval })
        #expect(series.points.filter { $0.bufferedRecords == 7 }.count == 1)
        #expect(series.points[0].bufferedRecords == 7)
    }

    @Test func `a point has the hypervisor's exits, not the engine's`() {
        var ledger = Ledger()
        ledger.exits[.halted] = 100
        ledger.exits[.limit] = 1000
        ledger.exits[.stopped] = 10_000
        ledger.exits[.pageFault] = 3
        ledger.recordsWritten = 4
        ledger.recordsCoalesced = 5
        ledger.drains[.rootLoaded] = 6
        ledger.shadowPagesLive = 7
        let point = RunSeries.Point(ledger, instructions: 1, bufferedRecords: 2)
        #expect(point.exits == 3)
        #expect(point.records == 4)
        #expect(point.coalesced == 5)
        #expect(point.drains == 6)
        #expect(point.shadowPages == 7)
    }
}
