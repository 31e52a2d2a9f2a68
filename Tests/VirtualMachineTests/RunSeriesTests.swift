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

    private static func run(
        _ technique: String, sampling interval: UInt64?
    ) throws -> VirtualMachine {
        var configuration = MachineConfiguration(kernel: Guest.path("testkernel.elf"))
        configuration.commandLine = "edits step=64"
        configuration.debugExitPort = 0xf4
        configuration.technique = try Technique(parsing: technique)
        configuration.sampleInterval = interval
        let machine = try VirtualMachine(configuration, console: RecordingConsole())
        #expect(machine.run() == .debugExit(status: 1))
        return machine
    }

    @Test(
        "points stand at the same instructions under every technique, and sampling changes nothing")
    func sampling() throws {
        let plain = try Self.run("traced", sampling: nil)
        #expect(plain.series == nil)
        let traced = try Self.run("traced", sampling: 5000)
        #expect(traced.digest() == plain.digest())
        #expect(traced.ledger == plain.ledger)
        let series = try #require(traced.series)
        #expect(series.points.count > 10)
        #expect(
            series.points.map(\.instructions)
                == (1...UInt64(series.points.count)).map { $0 * series.interval })
        // The buffer holds 512 records.
        let fullest = series.points.map(\.bufferedRecords).max() ?? 0
        #expect(fullest > 0 && fullest <= 512)
        let last = try #require(series.points.last)
        #expect(last.records > 0 && last.records <= traced.ledger.recordsWritten)
        #expect(last.drains > 0 && last.drains <= traced.ledger.drains.sum)
        let bare = try #require(try Self.run("bare", sampling: 5000).series)
        #expect(bare.points.map(\.instructions) == series.points.map(\.instructions))
        #expect(bare.points.allSatisfy { $0.exits == 0 && $0.bufferedRecords == 0 })
    }
}
