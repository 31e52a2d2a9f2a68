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
            [0x89, 0x0c, 0x25, 0x01, 0x00, 0x04, 0x00, 0xeb, 0xf7],  // 1: mov [0x40001], ecx; jmp 1b
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
            "bare", "traced", "traced,coalesce=0", "trap", "unsync", "nested",
            "agile,writes=2,quiet=3",
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
        // Stale, as a TLB may be; `trap` drops what changes at once.
        #expect(pair.processors[1][.rbx] == (technique == "trap" ? 0x7777 : 0x6666))
        pair.run(1, 2)
        #expect(pair.processors[1][.rsi] == 0x7777)
        #expect(!pair.hypervisor.hasPendingRecords)
        #expect(pair.hypervisor.audit() == [])
    }

    @Test("a page that becomes a page table is traced in what every processor has cached")
    func tracingReachesAll() throws {
        let pair = try ProcessorPair("traced")
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
