import Hypervisor
import Processor
import Testing
import Verification
import VirtualMachine

/// The real thing: Debian's cloud kernel, which `make setup` fetches, boots to user space, works,
/// and powers off.
@Suite struct LinuxTests {
    /// What one run left behind.
    struct Run {
        var outcome: RunOutcome
        var digest: Digest
        var console: String
        var ledger: Ledger
        var breakdown: LedgerBreakdown
        var lawfulness: LawfulnessCounts?
    }

    static func boot(
        _ technique: String, task: String = "penumbra.script=work", processors: Int = 1,
        shadowBytes: UInt64 = 64 << 20,
        hardware: String = "default", verification: VerificationMode = .off,
        options: String = "", engine: Engine = TestEngine.chosen
    ) throws -> Run {
        let console = RecordingConsole()
        var configuration = MachineConfiguration(kernel: Guest.path("vmlinuz"))
        configuration.initrd = Guest.path("initramfs.cpio.gz")
        configuration.commandLine =
            "console=ttyS0 quiet cryptomgr.notests \(task) \(options)"
        configuration.engine = engine
        configuration.technique = try Technique(parsing: technique)
        configuration.processors = processors
        configuration.hardware = try Hardware(parsing: hardware)
        configuration.shadowMemoryBytes = shadowBytes
        configuration.verification = verification
        configuration.countsPlaces = true
        let machine = try VirtualMachine(configuration, console: console)
        let outcome = machine.run()
        return Run(
            outcome: outcome, digest: machine.digest(), console: console.text,
            ledger: machine.ledger, breakdown: machine.breakdown, lawfulness: machine.lawfulness)
    }

    @Test("Linux works alike, to the bit, under bare and under traced shadow paging")
    func techniquesAgree() async throws {
        async let bareRun = Task { try Self.boot("bare") }.value
        async let tracedRun = Task { try Self.boot("traced") }.value
        let (bare, traced) = try await (bareRun, tracedRun)
        #expect(bare.outcome == .poweredOff)
        #expect(bare.console.contains("GUEST-OK"))
        #expect(traced.console == bare.console)
        #expect(traced.digest == bare.digest)
        #expect(traced.outcome == .poweredOff)

        #expect(bare.ledger.exits.sum == 0)
        #expect(bare.ledger.recordsWritten == 0)
        #expect(traced.ledger.instructions == bare.ledger.instructions)
        #expect(traced.ledger.interrupts == bare.ledger.interrupts)
        #expect(traced.ledger.exceptions == bare.ledger.exceptions)
        #expect(traced.ledger.recordsWritten > 100_000)
        #expect(traced.ledger.hiddenFaults > 10_000)
        #expect(traced.ledger.trueFaults > 10_000)
        #expect(traced.ledger.shadowPagesLive > 0)
    }

    @Test(
        "Linux works alike, to the bit, under both engines, and leaves the same ledger",
        .enabled(if: Engine.translatorLack == nil), arguments: ["bare", "traced", "agile"])
    func enginesAgree(technique: String) async throws {
        async let interpretedRun = Task { try Self.boot(technique, engine: .interpreter) }.value
        async let translatedRun = Task { try Self.boot(technique, engine: .translator) }.value
        let (interpreted, translated) = try await (interpretedRun, translatedRun)
        #expect(interpreted.outcome == .poweredOff)
        #expect(translated.outcome == .poweredOff)
        #expect(translated.console == interpreted.console)
        #expect(translated.digest == interpreted.digest)
        #expect(translated.ledger == interpreted.ledger)
    }

    @Test("Linux works alike under trap, unsync, nested and agile")
    func otherTechniques() async throws {
        async let first = Task {
            (try Self.boot("bare"), try Self.boot("trap"), try Self.boot("agile"))
        }.value
        async let second = Task { (try Self.boot("unsync"), try Self.boot("nested")) }.value
        let ((bare, trap, agile), (unsync, nested)) = try await (first, second)
        #expect(bare.outcome == .poweredOff)
        for other in [trap, unsync, nested, agile] {
            #expect(other.outcome == .poweredOff)
            #expect(other.digest == bare.digest)
            #expect(other.console == bare.console)
            #expect(other.ledger.exceptions == bare.ledger.exceptions)
        }
        #expect(trap.ledger.exits[.tableWrite] > 100_000)
        #expect(trap.ledger.exits[.invalidatePage] == 0)
        #expect(unsync.ledger.tablesUnsynced > 1000)
        #expect(unsync.ledger.exits[.tableWrite] < trap.ledger.exits[.tableWrite] / 2)
        #expect(nested.ledger.exits.sum == nested.ledger.exits[.secondDimensionFault])
        #expect(nested.ledger.walkReferences > bare.ledger.walkReferences)
        #expect(agile.ledger.tablesNested > 1000 && agile.ledger.tablesReturned > 10)
        #expect(agile.ledger.exits[.tableWrite] < trap.ledger.exits[.tableWrite] / 5)
        #expect(agile.ledger.exits[.invalidatePage] == 0)
    }

    @Test("Linux works alike under every setting of the traced-write facility")
    func settingsAreInvisible() async throws {
        let settings = [
            "traced,indication=frame,record=mask,elide=on,refill=on",
            "traced,record=value,levels=leaf,elide=on,stop=never",
        ]
        async let firstRun = Task { try Self.boot(settings[0]) }.value
        async let secondRun = Task { (try Self.boot(settings[1]), try Self.boot("bare")) }.value
        let (first, (second, bare)) = try await (firstRun, secondRun)
        for run in [first, second] {
            #expect(run.outcome == .poweredOff)
            #expect(run.digest == bare.digest)
            #expect(run.console == bare.console)
            #expect(run.ledger.recordsWritten > 10_000)
            #expect(run.ledger.elided.pairs.allSatisfy { $0.count > 0 })
        }
        #expect(first.ledger.entriesRefilled > 100_000)
        #expect(first.ledger.recordsCoalesced > 100_000)
        #expect(first.ledger.tableWrites.sum == 0)
        #expect(second.ledger.tableWrites[.pml4] > 10_000)
        #expect(second.ledger.tableWrites[.table] == 0)
        #expect(second.ledger.shadowPagesAbandoned == 0)
    }

    @Test("Linux works alike, to the bit, where caches keep all they may, and where they do not")
    func hardware() async throws {
        async let keepingRun = Task {
            try Self.boot("traced", hardware: "tlb=keep,tlb=speculative")
        }.value
        async let forgettingRun = Task {
            try Self.boot("bare", hardware: "tlb=random:1,tlb=fragment")
        }.value
        let (keeping, forgetting) = try await (keepingRun, forgettingRun)
        #expect(keeping.outcome == .poweredOff)
        #expect(keeping.console.contains("GUEST-OK"))
        #expect(keeping.digest == forgetting.digest)
        #expect(keeping.console == forgetting.console)
        #expect(keeping.ledger.tlbMisses < forgetting.ledger.tlbMisses)
    }

    @Test("Linux shows the oracle nothing unlawful, where caches keep all that they may")
    func lawful() async throws {
        func verified(_ techniques: [String]) throws -> [Run] {
            try techniques.map {
                try Self.boot($0, hardware: "tlb=keep", verification: .walks)
            }
        }
        async let firstRuns = Task { try verified(["bare", "unsync", "traced"]) }.value
        async let secondRuns = Task { try verified(["nested", "agile", "trap"]) }.value
        let runs = try await firstRuns + secondRuns
        for run in runs {
            #expect(run.outcome == .poweredOff)
            #expect(run.digest == runs[0].digest)
            let counts = try #require(run.lawfulness)
            #expect(counts.translations > 50_000 && counts.faults > 10_000)
            #expect(counts.unjudged == 0)
        }
    }

    @Test(
        "a second run, a tiny write buffer and a tight shadow ceiling change nothing the guest sees"
    )
    func parametersAreInvisible() async throws {
        async let firstRun = Task { try Self.boot("traced,coalesce=4") }.value
        async let tightRun = Task {
            try Self.boot("traced,capacity=4096,threshold=16,coalesce=0", shadowBytes: 64 << 12)
        }.value
        let (first, tight) = try await (firstRun, tightRun)
        #expect(first.outcome == .poweredOff)
        #expect(first.console.contains("GUEST-OK"))
        #expect(tight.digest == first.digest)
        #expect(tight.console == first.console)
        #expect(tight.ledger.shadowPagesPeak <= 64)
        #expect(tight.ledger.shadowPagesReclaimed > 0)
        #expect(tight.ledger.exits[.bufferThreshold] > 0)
    }
}
