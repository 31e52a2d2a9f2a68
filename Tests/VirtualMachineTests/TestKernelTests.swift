import Hypervisor
import Processor
import Testing
import VirtualMachine

/// The project's own test kernel (`Guests/TestKernel`), which `Scripts/testkernel.sh` builds: what
/// the architecture owes to a guest, checked by a guest, under every technique.
@Suite struct TestKernelTests {
    /// A way to run: the technique and the ceiling on shadow pages, in bytes.
    struct Way: Sendable {
        var technique: String
        var shadowBytes: UInt64 = 64 << 20
        var hardware = "default"

        /// The first is the baseline that the others must agree with.
        static let all = [
            Way(technique: "bare"),
            Way(technique: "traced"),
            Way(technique: "traced,capacity=4096,threshold=8,coalesce=0"),
            Way(technique: "traced,capacity=4096", shadowBytes: 256 << 10),
            Way(technique: "trap"),
            Way(technique: "unsync"),
            Way(technique: "unsync", shadowBytes: 256 << 10),
            Way(technique: "nested"),
            Way(technique: "agile,writes=3,quiet=2"),
        ]
    }

    /// Settings of the techniques, each of which is tried on a sample of the cases.
    static let settings = [
        "traced,indication=frame,elide=on,refill=on",
        "traced,record=mask,levels=leaf,elide=on,stop=never",
        "traced,record=value,capacity=4096,threshold=8,indication=frame,stop=1",
        "trap,refill=on",
    ]

    /// What a run of the kernel printed and left behind.
    struct Run: Sendable {
        var outcome: RunOutcome
        var console: String
        var digest: Digest
        /// How many cases the kernel says it has checked.
        var cases: Int
    }

    static func run(
        _ words: String, _ way: Way, configure: (inout MachineConfiguration) -> Void = { _ in }
    ) throws -> Run {
        var configuration = MachineConfiguration(kernel: Guest.path("testkernel.elf"))
        configuration.engine = TestEngine.chosen
        configuration.commandLine = words
        configuration.memoryBytes = 64 << 20
        configuration.debugExitPort = 0xf4
        configuration.rebootAllowed = false
        configuration.technique = try Technique(parsing: way.technique)
        configuration.shadowMemoryBytes = way.shadowBytes
        configuration.hardware = try Hardware(parsing: way.hardware)
        configure(&configuration)
        let console = RecordingConsole()
        let machine = try VirtualMachine(configuration, console: console)
        console.onIdle = { [flag = machine.stopFlag] in flag.requestStop() }
        let outcome = machine.run()
        let total = console.text.split(separator: "\n").last { $0.hasPrefix("CASES ") }
        let cases = total.flatMap { Int($0.split(separator: " ")[1]) } ?? 0
        return Run(
            outcome: outcome, console: console.text, digest: machine.digest(), cases: cases)
    }

    /// Runs a list of tests every way. All must succeed; where everything that the tests do is
    /// defined, all must agree to the bit.
    static func check(
        _ words: String, cases: Int, agree: Bool = true, ways: [Way] = Way.all,
        configure: (inout MachineConfiguration) -> Void = { _ in }
    ) throws {
        var baseline: Run?
        for way in ways {
            let run = try run(words, way, configure: configure)
            #expect(run.outcome == .debugExit(status: 1), "\(way): \(run.console)")
            #expect(!run.console.contains("FAIL "), "\(way)")
            #expect(run.cases >= cases, "\(way)")
            if let baseline, agree { #expect(run.digest == baseline.digest, "\(way)") }
            baseline = baseline ?? run
        }
    }

    @Test("no setting of a technique changes what a guest is owed", arguments: settings)
    func settingsAreInvisible(technique: String) throws {
        let way = Way(technique: technique)
        let loose = try Self.run("access edits lawful step=16", way)
        #expect(loose.outcome == .debugExit(status: 1), "\(loose.console)")
        #expect(loose.cases >= 69_000)
        let words = "invalidation memory exceptions privilege segments interrupts modes step=3"
        let (bare, strict) = (try Self.run(words, Way.all[0]), try Self.run(words, way))
        #expect(strict.outcome == .debugExit(status: 1), "\(strict.console)")
        #expect(strict.digest == bare.digest)
        #expect(strict.cases >= 37_000)
    }

    @Test("every combination of entry bits, control bits and accesses has the right outcome")
    func access() throws {
        // The oracle sees all of them once, and a sample under the other techniques.
        let full = try Self.run("access", Way.all[1])
        #expect(full.outcome == .debugExit(status: 1), "\(full.console)")
        #expect(full.cases >= 800_000)
        try Self.check("access step=11", cases: 70_000)
    }

    @Test("protection keys deny what PKRU says, at once, to pages of every size")
    func keys() throws {
        try Self.check("keys", cases: 140_000) { $0.processorModel = "penumbra-v2,+pku" }
    }

    @Test("after an edit of an entry, old rights are seen only where a TLB may hold them")
    func edits() throws {
        // Stale rights may differ between techniques, and so may what the guest does then.
        try Self.check("edits step=3", cases: 90_000, agree: false)
    }

    @Test("every operation that ends staleness does so")
    func invalidation() throws { try Self.check("invalidation", cases: 34_000) }

    @Test("random edits and flushes never show what no TLB could hold")
    func lawful() throws {
        try Self.check("lawful step=4", cases: 25_000, agree: false)
        // The technique that leaves most stale gets all of them: few show what is wrong with it.
        let full = try Self.run("lawful", Way(technique: "unsync"))
        #expect(full.outcome == .debugExit(status: 1), "\(full.console)")
        #expect(full.cases >= 100_000)
    }

    static let awkward = ["tlb=keep", "tlb=random:7", "tlb=speculative", "tlb=fragment"]

    @Test(
        "on no hardware does a technique show what no TLB could hold", arguments: awkward,
        ["bare", "traced", "trap", "nested", "agile,writes=2,quiet=2"])
    func hardware(_ hardware: String, _ technique: String) throws {
        let way = Way(technique: technique, hardware: hardware)
        let run = try Self.run("lawful invalidation edits step=24", way)
        #expect(run.outcome == .debugExit(status: 1), "\(run.console)")
        #expect(!run.console.contains("FAIL "))
        #expect(run.cases >= 45_000)
    }

    @Test("caches that keep, guess and split together are lawful too")
    func allAtOnce() throws {
        for technique in ["bare", "traced", "trap", "nested", "agile,writes=2,quiet=2"] {
            let way = Way(
                technique: technique, hardware: "tlb=keep,tlb=speculative,tlb=fragment")
            let run = try Self.run("lawful step=4", way)
            #expect(run.outcome == .debugExit(status: 1), "\(technique): \(run.console)")
            #expect(run.cases >= 25_000)
        }
    }

    @Test(
        "the kernel finds each erratum, where the guest's own tables are walked",
        arguments: Erratum.allCases)
    func errata(_ erratum: Erratum) throws {
        let way = Way(technique: "bare", hardware: "erratum=\(erratum.rawValue)")
        let run = try Self.run("lawful invalidation step=8", way)
        #expect(run.outcome == .debugExit(status: 3), "\(run.console.suffix(500))")
        #expect(run.console.contains("FAIL "))
        let sound = try Self.run("lawful invalidation step=8", Way(technique: "bare"))
        #expect(sound.outcome == .debugExit(status: 1), "\(sound.console.suffix(500))")
    }

    @Test("INVLPG that leaves global pages is found under traced shadow paging too")
    func erratumUnderShadow() throws {
        let way = Way(technique: "traced", hardware: "erratum=invlpg-global-pcid")
        let run = try Self.run("lawful step=4", way)
        #expect(run.outcome == .debugExit(status: 3), "\(run.console.suffix(500))")
        #expect(run.console.contains("FAIL lawful caching"))
    }

    @Test("accesses that cross pages or fault half-way leave what the architecture says")
    func memory() throws { try Self.check("memory", cases: 2_400) }

    @Test("exceptions have the right vector, error code, return address and stack")
    func exceptions() throws { try Self.check("exceptions", cases: 160) }

    @Test("single steps and breakpoints trap where they should, over instructions of every class")
    func debug() throws { try Self.check("debug stepping", cases: 1_140) }

    /// What a processor offers must be what it has, and all else undefined or #GP.
    static let models = ["penumbra-v2", "max", "max,-smap,-umip,-fsgsbase,-pku,-la57,-xsave"]

    @Test(
        "LOCK, non-canonical operands, each bit of control registers and MSRs, and features agree",
        arguments: models)
    func corners(_ model: String) throws {
        try Self.check("corners", cases: 4_500) { $0.processorModel = model }
    }

    @Test("what AVX and its kin need of the system, and what CPUID says of them, agree")
    func wideFeatures() throws {
        guard HostVectors.hasAVX2 else { return }
        try Self.check("corners", cases: 4_500, ways: [Way.all[0]]) {
            $0.processorModel = "penumbra-v3"
        }
    }

    @Test(
        "extended state, x87 pointers and the operands of paging are what the manual says",
        arguments: ["penumbra-v2", "max"])
    func state(_ model: String) throws {
        try Self.check("state", cases: 1_640) { $0.processorModel = model }
    }

    @Test("ring 3 comes and goes by every way, and may do no more than it should")
    func privilege() throws {
        try Self.check("privilege segments", cases: 186) { $0.processorModel = "max" }
    }

    @Test("interrupts come in order, when they may, and no sooner")
    func interrupts() throws {
        try Self.check("interrupts", cases: 1_873)
        try Self.check("interrupts", cases: 219, ways: [Way.all[0]]) {
            $0.processorModel = "penumbra-v2,-x2apic"
        }
    }

    @Test("timers come when they are due")
    func timers() throws {
        try Self.check("timers", cases: 1_075) { $0.processorModel = "max" }
    }

    @Test("real mode and protected mode without paging work, and long mode comes back")
    func modes() throws { try Self.check("modes", cases: 90) }

    @Test("page tables of 2 levels and of PAE mean what the manual says")
    func forms() throws {
        // What is seen of an edit before a flush may differ, and what the guest does then.
        // Some of the memory lies above 4 GiB, for PSE-36: 64 of the cases.
        try Self.check("forms", cases: 33_000, agree: false) {
            $0.memoryBytes = 3 << 30 | 64 << 20
        }
        try Self.check("forms", cases: 31_000, agree: false) {
            $0.processorModel = "penumbra-v2,-pse36,-smep,-smap"
        }
        try Self.check("pointers", cases: 1_000)
    }

    @Test("segments, tasks and virtual-8086 mode of 32-bit code do what the manual says")
    func legacy() throws {
        try Self.check("legacy", cases: 167) { $0.processorModel = "max" }
    }

    @Test("no setting of a technique changes what other forms of page tables mean")
    func formsUnderSettings() throws {
        for technique in Self.settings {
            let run = try Self.run("forms pointers", Way(technique: technique))
            #expect(run.outcome == .debugExit(status: 1), "\(technique): \(run.console)")
            #expect(run.cases >= 33_000)
        }
    }

    @Test("5-level paging works where CPUID offers it")
    func fiveLevels() throws {
        try Self.check("levels5", cases: 60_000) {
            $0.processorModel = "penumbra-v2,+la57"
        }
    }
}
