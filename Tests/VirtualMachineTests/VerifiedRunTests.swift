import Hypervisor
import Processor
import Testing
import Verification
import VirtualMachine

/// Whole guests under the lawfulness oracle. `make verify` runs the full product.
@Suite struct VerifiedRunTests {
    private func run(
        _ words: String, _ technique: String, _ mode: VerificationMode,
        hardware: String = "default"
    ) throws -> (outcome: RunOutcome, counts: LawfulnessCounts?, digest: Digest) {
        var configuration = MachineConfiguration(kernel: Guest.path("testkernel.elf"))
        configuration.commandLine = words
        configuration.memoryBytes = 64 << 20
        configuration.debugExitPort = 0xf4
        configuration.rebootAllowed = false
        configuration.technique = try Technique(parsing: technique)
        configuration.verification = mode
        configuration.hardware = try Hardware(parsing: hardware)
        let console = RecordingConsole()
        let machine = try VirtualMachine(configuration, console: console)
        console.onIdle = { [flag = machine.stopFlag] in flag.requestStop() }
        return (machine.run(), machine.lawfulness, machine.digest())
    }

    @Test(
        "random edits and flushes show the oracle nothing unlawful, and it changes nothing",
        arguments: [
            "bare", "trap", "unsync", "traced", "traced,threshold=8,coalesce=0", "nested",
            "agile,writes=2,quiet=2",
        ])
    func lawful(technique: String) throws {
        let plain = try run("lawful step=16", technique, .off)
        #expect(plain.counts == nil)
        for mode in [VerificationMode.walks, .uses] {
            let verified = try run("lawful step=16", technique, mode)
            #expect(verified.outcome == .debugExit(status: 1))
            #expect(verified.digest == plain.digest)
            let counts = try #require(verified.counts)
            #expect(counts.translations > (mode == .uses ? 1_000_000 : 10_000))
            #expect(counts.faults > 1_000 && counts.tableWrites > 10_000)
            #expect(counts.unjudged == 0 && counts.historiesDropped == 0)
            // A cache keeps what the tables do not give any more, and so does a traced shadow.
            if mode == .uses || technique.hasPrefix("traced") {
                #expect(counts.explainedByHistory > 10)
            }
        }
    }

    @Test(
        "operations and edits show the oracle nothing unlawful",
        arguments: ["invalidation step=5", "edits step=23", "forms"],
        ["bare", "trap", "unsync", "traced", "nested", "agile,writes=2,quiet=2"])
    func lists(words: String, technique: String) throws {
        let verified = try run(words, technique, .walks)
        #expect(verified.outcome == .debugExit(status: 1))
        #expect(verified.counts?.unjudged == 0)
    }

    @Test(
        "each use of a translation is lawful on hardware that keeps all that it may",
        arguments: ["bare", "trap", "traced", "nested", "agile,writes=2,quiet=2"])
    func awkwardHardware(technique: String) throws {
        let verified = try run(
            "lawful step=24", technique, .uses, hardware: "tlb=keep,tlb=speculative,tlb=fragment")
        #expect(verified.outcome == .debugExit(status: 1))
        let counts = try #require(verified.counts)
        #expect(counts.unjudged == 0)
        #expect(counts.explainedByHistory > 10)
    }

    @Test("the oracle catches each erratum of the hardware", arguments: Erratum.allCases)
    func errata(_ erratum: Erratum) throws {
        let verified = try run(
            "lawful invalidation step=8", "bare", .uses,
            hardware: "erratum=\(erratum.rawValue)")
        guard case .unlawful(let violation) = verified.outcome else {
            Issue.record("\(erratum): \(verified.outcome)")
            return
        }
        let rules: Set<LawfulnessRule> =
            erratum == .cachedNotAccessed
            ? [.notAccessed] : [.staleLeaf, .staleStructure, .wrongRoot, .staleChild]
        #expect(rules.contains(violation.rule), "\(erratum): \(violation)")
    }
}
