import Glibc
import Hypervisor
import Testing
import VirtualMachine

/// A machine that is saved and restored goes on as if nothing had happened.
@Suite struct SavedRunTests {
    /// Each technique saves, and another one goes on.
    static let pairs = [
        ("bare", "traced"), ("traced", "bare"), ("trap", "unsync"), ("unsync", "nested"),
        ("nested", "agile"), ("agile", "trap"),
    ]

    private static func linuxBench(processors: Int) -> SavingBench {
        var configuration = MachineConfiguration(kernel: Guest.path("vmlinuz"))
        configuration.initrd = Guest.path("initramfs.cpio.gz")
        configuration.commandLine = "console=ttyS0 quiet cryptomgr.notests penumbra.script=work"
        configuration.processors = processors
        return SavingBench(configuration)
    }

    @Test(
        "Linux goes on from wherever it was saved, under another technique, to the same digest",
        arguments: [1, 2])
    func linux(processors: Int) throws {
        let bench = Self.linuxBench(processors: processors)
        // From the first instruction to where processes come and go.
        let counts: [UInt64] = [
            1, 40_000_003, 300_000_007, 700_001_111, 1_500_000_001, 2_400_000_019,
        ]
        let stretch: UInt64 = 30_000_000
        let (reference, console) = try bench.boot("bare")
        var expected: [(UInt64, Digest)] = []
        for count in counts {
            reference.pausePoint = count + stretch
            #expect(reference.run() == .paused)
            expected.append((count, reference.digest()))
        }
        #expect(reference.run() == .poweredOff)
        #expect(console.text.contains("GUEST-OK"))
        // The one that is saved each time goes on as if it were not.
        var names: [String] = []
        let (machine, _) = try bench.boot("traced")
        for count in counts {
            machine.pausePoint = count
            #expect(machine.run() == .paused)
            names.append("\(count)")
            try machine.save(to: bench.folder.file("\(count)"))
        }
        #expect(machine.run() == .poweredOff)
        #expect(machine.digest() == reference.digest())
        #expect(names.count == counts.count)

        for (index, (count, digest)) in expected.enumerated() {
            let techniques =
                index & 1 == 0 ? ["bare", "traced", "trap"] : ["unsync", "nested", "agile"]
            for technique in techniques {
                let (machine, _) = try bench.restore("\(count)", technique)
                #expect(machine.retired == count)
                #expect(machine.ledger.instructions == 0)
                machine.pausePoint = count + stretch
                #expect(machine.run() == .paused)
                #expect(machine.digest() == digest, "\(technique) from \(count)")
                #expect(machine.ledger.instructions == stretch)
            }
        }
        let last = try bench.finish(names[names.count - 1], "agile")
        #expect(last.outcome == .poweredOff)
        #expect(last.digest == reference.digest())
    }

    @Test("a file says nothing of the technique under which it was saved")
    func noTechnique() throws {
        var bench = Self.linuxBench(processors: 1)
        bench.configuration.memoryBytes = 128 << 20
        let count: UInt64 = 420_000_001
        for technique in ["bare", "traced", "trap", "nested", "agile"] {
            try Self.saveOnce(bench, technique, at: count)
        }
        let first = bench.folder.bytes("bare")
        #expect(first.count > 1 << 20)
        for technique in ["traced", "trap", "nested", "agile"] {
            #expect(bench.folder.bytes(technique) == first, "\(technique)")
        }
        // Nor does a restored machine: saved again at once, it is the same file.
        let (machine, _) = try bench.restore("bare", "traced")
        try machine.save(to: bench.folder.file("again"))
        #expect(bench.folder.bytes("again") == first)
    }

    private static func saveOnce(
        _ bench: SavingBench, _ technique: String, at count: UInt64
    ) throws {
        let (machine, _) = try bench.boot(technique)
        machine.pausePoint = count
        #expect(machine.run() == .paused)
        try machine.save(to: bench.folder.file(technique))
    }

    @Test(
        "processors that start, interrupt each other, halt and reset may be saved anywhere",
        arguments: [2, 3, 4])
    func everywhere(processors: Int) throws {
        let kernel = try SmallKernel.write(StartupGuest.code)
        defer { unsafe unlink(kernel) }
        var configuration = MachineConfiguration(kernel: kernel)
        configuration.memoryBytes = 16 << 20
        configuration.debugExitPort = 0xf4
        configuration.processors = processors
        configuration.quantum = 37
        configuration.interleaving = 5
        let bench = SavingBench(configuration)
        let whole = try bench.run("bare")
        #expect(whole.outcome == .debugExit(status: StartupGuest.status(processors: processors)))
        let total = whole.digest.retired
        // All counts, in strides that are no divisor of anything, over the pairs of techniques.
        let step = max(total / 40, 1)
        for (index, (before, after)) in Self.pairs.enumerated() {
            let counts = Array(
                stride(from: UInt64(index) * step / 6, to: total, by: UInt64.Stride(step)))
            let (end, names) = try bench.save(before, at: counts)
            #expect(end == whole, "saving under \(before)")
            #expect(names.count == counts.count)
            for name in names {
                #expect(try bench.finish(name, after) == whole, "\(name) under \(after)")
            }
        }
    }

    @Test(
        "the test kernel may be saved amid interrupts, timers, debug traps and changes of mode",
        arguments: [
            "interrupts", "timers step=4", "debug", "exceptions step=4", "modes",
            "privilege segments",
        ])
    func testKernel(lists: String) throws {
        var configuration = MachineConfiguration(kernel: Guest.path("testkernel.elf"))
        configuration.commandLine = lists
        configuration.debugExitPort = 0xf4
        configuration.memoryBytes = 64 << 20
        let bench = SavingBench(configuration)
        let whole = try bench.run("bare")
        #expect(whole.outcome == .debugExit(status: 1))
        var bits: UInt64 = 12345
        for (before, after) in Self.pairs {
            var counts: [UInt64] = []
            for _ in 0..<2 {
                bits = bits &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                counts.append((bits >> 20) % whole.digest.retired)
            }
            let (end, names) = try bench.save(before, at: counts.sorted())
            #expect(end == whole, "saving under \(before)")
            #expect(names.count == 2)
            for name in names {
                #expect(try bench.finish(name, after) == whole, "\(name) under \(after)")
            }
        }
    }

    @Test(
        "a machine may be saved within a repeated string instruction",
        arguments: SavedRunTests.pairs)
    func repeated(before: String, after: String) throws {
        let kernel = try SmallKernel.write([
            0xbf, 0, 0, 0x20, 0,  // mov edi, 0x200000
            0xb9, 0, 0, 0x38, 0,  // mov ecx, 0x380000
            0xb0, 0x5a,  // mov al, 0x5a
            0xf3, 0xaa,  // rep stosb
            0xbe, 0, 0, 0x20, 0,  // mov esi, 0x200000
            0xbf, 1, 0, 0xa0, 0,  // mov edi, 0xa00001
            0xb9, 0xff, 0xff, 0x2f, 0,  // mov ecx, 0x2fffff
            0xf3, 0xa4,  // rep movsb
            0xe7, 0xf4,  // out 0xf4, eax
        ])
        defer { unsafe unlink(kernel) }
        var configuration = MachineConfiguration(kernel: kernel)
        configuration.memoryBytes = 16 << 20
        configuration.debugExitPort = 0xf4
        let bench = SavingBench(configuration)
        let whole = try bench.run("bare")
        #expect(whole.outcome == .debugExit(status: 0xb5))
        let (machine, console) = try bench.boot(before)
        // The machine looks at its console within long instructions, and there it is paused.
        // Each run begins with such a look, which is not counted.
        var polls = 0
        console.onPoll = { [flag = machine.pauseFlag] in
            polls += 1
            if polls & 1 == 0 { flag.requestStop() }
        }
        var within: [String] = []
        while machine.run() == .paused {
            let name = "\(within.count)"
            try machine.save(to: bench.folder.file(name))
            if machine.retired == 3 || machine.retired == 7 { within.append(name) }
        }
        #expect(machine.digest() == whole.digest)
        #expect(within.count >= 2, "no pause within an instruction")
        for name in within {
            #expect(try bench.finish(name, after) == whole, "\(name)")
        }
    }

    @Test("the clock may change from virtual to the host's and back, and never goes back")
    func clocks() throws {
        var configuration = MachineConfiguration(kernel: Guest.path("testkernel.elf"))
        configuration.commandLine = "memory step=8"
        configuration.debugExitPort = 0xf4
        configuration.memoryBytes = 64 << 20
        configuration.clock = .host
        var bench = SavingBench(configuration)
        let (machine, _) = try bench.boot("bare")
        machine.pausePoint = 1_000_000
        #expect(machine.run() == .paused)
        try machine.save(to: bench.folder.file("host"))
        bench.configuration.clock = .virtual
        let first = try bench.finish("host", "bare")
        #expect(first.outcome == .debugExit(status: 1))
        // From there on it is determined.
        #expect(try bench.finish("host", "traced") == first)
    }

    @Test("--verify judges a restored machine as any other")
    func verified() throws {
        var configuration = MachineConfiguration(kernel: Guest.path("testkernel.elf"))
        configuration.commandLine = "invalidation lawful step=50"
        configuration.debugExitPort = 0xf4
        configuration.memoryBytes = 64 << 20
        var bench = SavingBench(configuration)
        let (machine, _) = try bench.boot("traced")
        machine.pausePoint = 100_000
        #expect(machine.run() == .paused)
        try machine.save(to: bench.folder.file("saved"))
        bench.configuration.verification = .walks
        for technique in ["bare", "traced", "unsync", "nested"] {
            let (machine, _) = try bench.restore("saved", technique)
            #expect(machine.run() == .debugExit(status: 1), "\(technique)")
            #expect(try #require(machine.lawfulness).translations > 100)
        }
    }
}
