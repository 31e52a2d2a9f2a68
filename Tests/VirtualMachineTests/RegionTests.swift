import Glibc
import Hypervisor
import Testing
import VirtualMachine

/// Regions that a guest marks, on the whole machine.
@Suite struct RegionTests {
    /// mov eax, 0x40000001; mov ecx, subleaf; cpuid
    static func mark(_ subleaf: UInt32) -> [UInt8] {
        let bytes = (0..<4 as Range<UInt32>).map { UInt8(truncatingIfNeeded: subleaf >> ($0 * 8)) }
        return [0xb8, 0x01, 0, 0, 0x40, 0xb9] + bytes + [0x0f, 0xa2]
    }

    /// Three instructions outside, region 5, ten no-ops, its end, region 6, and the end of the run.
    static let code: [UInt8] =
        mark(5) + Array(repeating: 0x90, count: 10) + mark(0x8000_0005) + [0x90] + mark(6)
        + [0xb0, 7, 0xe6, 0xf4]  // mov al, 7; out 0xf4, al

    @Test(
        "a region has the instructions behind its beginning, its end included",
        arguments: ["bare", "trap", "unsync", "nested", "agile", "traced"])
    func instructions(technique: String) throws {
        let run = try MachineTests.run(Self.code, technique: technique) { $0.countsPlaces = true }
        #expect(run.outcome == .debugExit(status: 15))
        let parts = run.machine.breakdown.parts
        #expect(parts.map(\.region.number) == [0, 5, 6])
        #expect(parts.map(\.region.begun) == [2, 1, 1])
        #expect(parts.map(\.region.ledger.instructions) == [7, 13, 2])
        // Markers themselves are no exits.
        #expect(parts[1].region.ledger.exits.sum == 0)
        #expect(parts[0].code.reduce(0) { $0 + $1.exits.sum } == run.machine.ledger.exits.sum)
    }

    @Test(
        "a run stops at a region and goes on, to the digest of one that did not",
        arguments: ["bare", "traced"], [1, 2])
    func stopsAndGoesOn(technique: String, processors: Int) throws {
        // One file, whose name the guest finds in memory.
        let path = try SmallKernel.write(Self.code)
        defer { unsafe unlink(path) }
        func machine() throws -> VirtualMachine {
            var configuration = MachineConfiguration(kernel: path)
            configuration.memoryBytes = 16 << 20
            configuration.debugExitPort = 0xf4
            configuration.processors = processors
            configuration.technique = try Technique(parsing: technique)
            return try VirtualMachine(configuration, console: RecordingConsole())
        }
        let whole = try machine()
        #expect(whole.run() == .debugExit(status: 15))
        let stopped = try machine()
        stopped.stopRegion = 5
        #expect(stopped.run() == .marked)
        #expect(stopped.retired == 3)
        #expect(stopped.run() == .debugExit(status: 15))
        #expect(stopped.digest() == whole.digest())
        #expect(stopped.breakdown == whole.breakdown)
    }
}
