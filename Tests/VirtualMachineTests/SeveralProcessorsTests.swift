import Glibc
import Hypervisor
import Testing
import VirtualMachine
import X86

/// Several virtual processors in one machine.
@Suite struct SeveralProcessorsTests {
    @Test("Linux works on two processors alike, to the bit, in every run and under each technique")
    func linux() async throws {
        async let bareRun = Task {
            try LinuxTests.boot("bare", processors: 2, options: "loglevel=7")
        }.value
        async let tracedRun = Task {
            try LinuxTests.boot("traced", processors: 2, options: "loglevel=7")
        }.value
        async let otherRuns = Task {
            (
                try LinuxTests.boot("trap", processors: 2, options: "loglevel=7"),
                try LinuxTests.boot("unsync", processors: 2, options: "loglevel=7"),
                try LinuxTests.boot("nested", processors: 2, options: "loglevel=7"),
                try LinuxTests.boot("agile", processors: 2, options: "loglevel=7")
            )
        }.value
        let (bare, traced) = try await (bareRun, tracedRun)
        #expect(bare.outcome == .poweredOff)
        #expect(bare.console.contains("Brought up 1 node, 2 CPUs"))
        #expect(bare.console.contains("GUEST-OK"))
        #expect(traced.outcome == .poweredOff)
        #expect(traced.console == bare.console)
        #expect(traced.digest == bare.digest)
        #expect(traced.ledger.instructions == bare.ledger.instructions)
        #expect(traced.ledger.interrupts == bare.ledger.interrupts)
        #expect(traced.ledger.recordsDrained > 100_000)

        let (trap, unsync, nested, agile) = try await otherRuns
        for other in [trap, unsync, nested, agile] {
            #expect(other.outcome == .poweredOff)
            #expect(other.digest == bare.digest)
            #expect(other.ledger.interrupts == bare.ledger.interrupts)
        }
        #expect(trap.ledger.exits[.tableWrite] > 100_000)
        #expect(unsync.ledger.tablesUnsynced > 1000)
        #expect(nested.ledger.exits[.secondDimensionFault] > 0)
        #expect(agile.ledger.tablesNested > 1000)

        let tight = try LinuxTests.boot(
            "traced,capacity=4096,threshold=16,coalesce=0", processors: 2, shadowBytes: 64 << 12,
            options: "loglevel=7")
        #expect(tight.digest == bare.digest)
        #expect(tight.ledger.exits[.bufferThreshold] > 0)
        #expect(tight.ledger.shadowPagesReclaimed > 0)
    }

    @Test(
        "all processors start by INIT and SIPI and take each other's interrupts",
        arguments: [2, 3, 16], [1, 100, 10_000] as [UInt64])
    func startup(processors: Int, quantum: UInt64) throws {
        // One file for both runs: its name is in the guest's memory.
        let path = try SmallKernel.write(StartupGuest.code)
        defer { unsafe unlink(path) }
        func run(_ technique: String) throws -> (RunOutcome, Digest, Ledger) {
            var configuration = MachineConfiguration(kernel: path)
            configuration.memoryBytes = 16 << 20
            configuration.debugExitPort = 0xf4
            configuration.technique = try Technique(parsing: technique)
            configuration.processors = processors
            configuration.quantum = quantum
            let console = RecordingConsole()
            let machine = try VirtualMachine(configuration, console: console)
            console.onIdle = { [flag = machine.stopFlag] in flag.requestStop() }
            return (machine.run(), machine.digest(), machine.ledger)
        }
        let bare = try run("bare")
        #expect(bare.0 == .debugExit(status: StartupGuest.status(processors: processors)))
        for technique in ["traced", "trap", "unsync", "nested", "agile,writes=2,quiet=3"] {
            let other = try run(technique)
            #expect(other.0 == bare.0, "\(technique)")
            #expect(other.1 == bare.1, "\(technique)")
            #expect(other.2.interrupts == bare.2.interrupts, "\(technique)")
        }
        // An NMI and a ping to each of the others; their answers may merge into one.
        #expect(bare.2.interrupts >= UInt64(processors - 1) * 2 + 1)
        #expect(bare.2.instructions == bare.1.retired)
    }

    @Test(
        "storms of writes to tables, shootdowns and INITs end alike under every technique",
        arguments: [2, 4, 16])
    func storms(processors: Int) throws {
        try TestKernelTests.check("processors step=4", cases: 90) {
            $0.processors = processors
            $0.quantum = 300
            $0.interleaving = UInt64(processors)
            $0.shadowMemoryBytes = max($0.shadowMemoryBytes, 288 << 10)
        }
    }

    @Test(
        "random edits and flushes on several processors never show what no TLB of theirs could hold",
        arguments: [2, 5])
    func lawful(processors: Int) throws {
        try TestKernelTests.check("lawful step=40", cases: 5_000, agree: false) {
            $0.processors = processors
            $0.quantum = 50
        }
    }

    @Test("a seed varies the interleaving: the same one gives the same run, another another")
    func interleaving() throws {
        func run(_ seed: UInt64?, _ technique: String) throws -> Digest {
            let run = try TestKernelTests.run(
                "processors step=10", TestKernelTests.Way(technique: technique)
            ) {
                $0.processors = 3
                $0.quantum = 1000
                $0.interleaving = seed
            }
            #expect(run.outcome == .debugExit(status: 1), "\(run.console)")
            return run.digest
        }
        let seeds: [UInt64?] = [nil, 0, 1, 2, .max]
        var seen: [Digest] = []
        for seed in seeds {
            let digest = try run(seed, "bare")
            #expect(!seen.contains(digest), "\(String(describing: seed))")
            seen.append(digest)
        }
        for technique in ["bare", "traced", "trap", "unsync", "nested", "agile,writes=2,quiet=3"] {
            #expect(try run(1, technique) == seen[2], "\(technique)")
        }
    }

    @Test(
        "a processor that takes exceptions for ever does not keep the others from their turns",
        arguments: [2, 3])
    func standstill(processors: Int) throws {
        // The first starts the others, counts to 100,000 and ends the machine. The others get an
        // undefined instruction whose handler begins with itself.
        let path = try SmallKernel.write([
            // 0x8000: mov ax, 0x9000; mov ss, ax; ud2. Its vector leads to the ud2.
            0xc7, 0x05, 0x00, 0x80, 0, 0, 0xb8, 0x00, 0x90, 0x8e,
            0xc7, 0x05, 0x04, 0x80, 0, 0, 0xd0, 0x0f, 0x0b, 0x90,
            0xc7, 0x05, 0x18, 0, 0, 0, 0x05, 0x80, 0, 0,
            0xc7, 0x05, 0xf0, 0, 0xe0, 0xfe, 0xff, 1, 0, 0,
            // INIT, and the start-up IPI.
            0xc7, 0x05, 0, 3, 0xe0, 0xfe, 0, 0x45, 0x0c, 0,
            0xc7, 0x05, 0, 3, 0xe0, 0xfe, 8, 0x46, 0x0c, 0,
            0xb9, 0xa0, 0x86, 1, 0, 0xe2, 0xfe,  // mov ecx, 100000; loop
            0xb8, 21, 0, 0, 0, 0xe7, 0xf4,  // mov eax, 21; out 0xf4, eax
        ])
        defer { unsafe unlink(path) }
        func run(_ technique: String) throws -> (RunOutcome, Digest, Ledger) {
            var configuration = MachineConfiguration(kernel: path)
            configuration.memoryBytes = 16 << 20
            configuration.debugExitPort = 0xf4
            configuration.technique = try Technique(parsing: technique)
            configuration.processors = processors
            let console = RecordingConsole()
            let machine = try VirtualMachine(configuration, console: console)
            var polls = 0
            console.onPoll = { [flag = machine.stopFlag] in
                polls += 1
                if polls > 10_000 { flag.requestStop() }
            }
            return (machine.run(), machine.digest(), machine.ledger)
        }
        let bare = try run("bare")
        #expect(bare.0 == .debugExit(status: 43))
        #expect(bare.2.exceptions >= 256 * 10 * UInt64(processors - 1))
        for technique in ["traced", "trap", "unsync", "nested", "agile"] {
            let other = try run(technique)
            #expect(other.1 == bare.1, "\(technique)")
            #expect(other.2.exceptions == bare.2.exceptions, "\(technique)")
        }
    }

    @Test("a machine has 1 to 16 processors", arguments: [Int.min, -1, 0, 17, .max])
    func tooMany(count: Int) throws {
        var configuration = MachineConfiguration(kernel: "/nonexistent")
        configuration.processors = count
        let error = #expect(throws: MachineError.self) {
            try VirtualMachine(configuration, console: RecordingConsole())
        }
        #expect(error?.description.contains("give 1 to 16") == true)
    }

    @Test(
        "code that one processor writes is what another executes next",
        arguments: ["bare", "traced", "trap", "unsync", "nested", "agile,writes=2,quiet=3"])
    func crossModifiedCode(technique: String) throws {
        let pair = try ProcessorPair(technique)
        pair.put(
            // 1: mov [0x40001], ecx; jmp 1b
            [0x89, 0x0c, 0x25, 0x01, 0x00, 0x04, 0x00, 0xeb, 0xf7],
            at: ProcessorPair.code[0])
        pair.put(
            [0xe8, 0xfb, 0xef, 0x02, 0x00, 0xeb, 0xf9],  // 1: call 0x40000; jmp 1b
            at: ProcessorPair.code[1])
        pair.put([0xb8, 0, 0, 0, 0, 0xc3], at: 0x40000)  // mov eax, 0; ret
        // The first write comes before the other has any code there, so that this processor has a
        // writable translation of the page when it becomes code.
        for value in [1, 2, 3, 3, 0x7fff_ffff] as [UInt64] {
            pair.processors[0][.rcx] = value
            pair.run(0, 2)
            pair.run(1, 4)
            #expect(pair.processors[1][.rax] == value)
        }
    }

    @Test(
        "code in a page table changes for all when one processor's access sets A in it",
        arguments: ["bare", "traced", "trap", "unsync", "nested", "agile,writes=2,quiet=3"])
    func walkerWritesCode(technique: String) throws {
        let pair = try ProcessorPair(technique)
        // As an entry: present, read-only, frame 0xc3d. As code: add eax, ebx; ret. With A: and.
        pair.store(0x00c3_d801, at: ProcessorPair.entry)
        pair.put([0xe8, 0x23, 0x00, 0x2f, 0x00, 0xeb, 0xf9], at: ProcessorPair.code[0])
        pair.put([0x48, 0x8b, 0x11], at: ProcessorPair.code[1])  // mov rdx, [rcx]
        pair.processors[0][.rbx] = 3
        for _ in 0..<2 {
            pair.processors[0][.rax] = 5
            pair.run(0, 4)
            #expect(pair.processors[0][.rax] == 8)
        }
        pair.processors[1][.rcx] = ProcessorPair.page
        pair.run(1, 1)
        pair.processors[0][.rax] = 5
        pair.run(0, 4)
        #expect(pair.processors[0][.rax] == 1)
    }

    @Test(
        "INVLPG on one processor sees what another has stored into the page table",
        arguments: [
            "bare", "traced", "traced,coalesce=0", "traced,indication=frame", "traced,record=value",
            "traced,record=mask", "traced,elide=on,levels=leaf", "traced,refill=on", "trap",
            "trap,refill=on", "unsync", "nested", "agile,writes=2,quiet=3",
        ])
    func otherProcessorsRecord(technique: String) throws {
        let pair = try ProcessorPair(technique)
        pair.store(0x60_0003, at: ProcessorPair.entry)
        pair.store(0x6666, at: 0x60_0000)
        pair.store(0x7777, at: 0x70_0000)
        pair.put([0x48, 0x89, 0x01], at: ProcessorPair.code[0])  // mov [rcx], rax
        pair.put(
            [
                0x48, 0x8b, 0x11,  // mov rdx, [rcx]
                0x48, 0x8b, 0x19,  // mov rbx, [rcx]
                0x0f, 0x01, 0x39,  // invlpg [rcx]
                0x48, 0x8b, 0x31,  // mov rsi, [rcx]
            ], at: ProcessorPair.code[1])
        pair.processors[0][.rcx] = ProcessorPair.entry
        pair.processors[0][.rax] = 0x70_0003
        pair.processors[1][.rcx] = ProcessorPair.page
        pair.run(1, 1)
        pair.run(0, 1)
        #expect(pair.hypervisor.hasPendingRecords == technique.hasPrefix("traced"))
        pair.run(1, 1)
        #expect(pair.processors[1][.rdx] == 0x6666)
        // Stale, as a TLB may be; `trap`, and `agile` before it nests, drop what changes at once.
        let isAtOnce = technique.hasPrefix("trap") || technique.hasPrefix("agile")
        #expect(pair.processors[1][.rbx] == (isAtOnce ? 0x7777 : 0x6666))
        pair.run(1, 2)
        #expect(pair.processors[1][.rsi] == 0x7777)
        #expect(!pair.hypervisor.hasPendingRecords)
        #expect(pair.hypervisor.audit() == [])
    }

    @Test(
        "a device's write to a table comes after what the processors wrote to the tables below",
        arguments: ["traced", "trap", "unsync"])
    func deviceWrite(technique: String) throws {
        let pair = try ProcessorPair(technique)
        pair.store(0x60_0063, at: ProcessorPair.entry)
        pair.store(0x30_0021, at: ProcessorPair.directory)
        pair.put([0x48, 0x89, 0x01, 0x48, 0x89, 0x01], at: ProcessorPair.code[0])
        pair.put([0x48, 0x8b, 0x11], at: ProcessorPair.code[1])
        pair.processors[1][.rcx] = ProcessorPair.page
        pair.run(1, 1)
        // The leaf becomes read-only, and then the link to its table writable.
        pair.processors[0][.rcx] = ProcessorPair.entry
        pair.processors[0][.rax] = 0x60_0061
        pair.run(0, 2)
        pair.store(0x30_0023, at: ProcessorPair.directory)
        let written = GuestPhysicalAddress(ProcessorPair.directory)
        pair.hypervisor.guestMemoryWritten(written..<written + 8)
        #expect(!pair.hypervisor.hasPendingRecords)
        #expect(pair.hypervisor.ledger.tablesResynced == (technique == "unsync" ? 1 : 0))
        #expect(pair.hypervisor.audit() == [])
    }

    @Test("with levels=leaf a step that is recorded in part is applied whole, leaves first")
    func partlyRecordedStep() throws {
        let pair = try ProcessorPair("traced,levels=leaf")
        // The table and the directory above it, one after the other in virtual memory.
        pair.store(0x30_0003, at: 0x30_0040)
        pair.store(0x3003, at: 0x30_0048)
        // mov [rcx], rax across their boundary: nothing changes but that both are written.
        pair.put([0x48, 0x89, 0x01], at: ProcessorPair.code[0])
        pair.processors[0][.rcx] = 0x800_8ffc
        pair.processors[0][.rax] = 0xe7 << 32
        pair.run(0, 1)
        // The end of the step is an exit of its own.
        let exit = pair.processors[0].run(until: pair.processors[0].retired)
        if exit != .limit { _ = pair.hypervisor.handle(exit, processor: 0) }
        let ledger = pair.hypervisor.ledger
        #expect(ledger.tableWrites[.directory] == 1)
        #expect(ledger.recordsWritten == 1)
        #expect(!pair.hypervisor.hasPendingRecords)
        #expect(pair.hypervisor.audit() == [])
    }

    @Test(
        "a page that becomes a page table is traced in what every processor has cached",
        arguments: ["traced", "traced,indication=frame", "traced,indication=frame,record=mask"])
    func tracingReachesAll(technique: String) throws {
        let pair = try ProcessorPair(technique)
        pair.store(0x60_0003, at: ProcessorPair.entry)
        pair.store(0x70_0003, at: 0x50_0000)
        pair.store(0x6666, at: 0x60_0000)
        pair.store(0x7777, at: 0x70_0000)
        // mov [rcx], rax twice
        pair.put([0x48, 0x89, 0x01, 0x48, 0x89, 0x01], at: ProcessorPair.code[0])
        pair.put([0x48, 0x8b, 0x11, 0x48, 0x8b, 0x11], at: ProcessorPair.code[1])
        // Processor 0 has 0x500000 writable, and cached, while it is data.
        pair.processors[0][.rcx] = 0x50_0000
        pair.processors[0][.rax] = 0x60_0003
        pair.run(0, 1)
        #expect(!pair.hypervisor.hasPendingRecords)
        // Processor 1 makes it a page table by using it as one.
        pair.store(0x50_0003, at: ProcessorPair.directory + 8)
        pair.processors[1][.rcx] = 0x820_0000
        pair.run(1, 1)
        #expect(pair.processors[1][.rdx] == 0x6666)
        // What processor 0 writes now is recorded.
        pair.run(0, 1)
        #expect(pair.hypervisor.hasPendingRecords)
    }
}
