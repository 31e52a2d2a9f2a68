import Hypervisor
import MachineMemory
import Processor
import Testing
import X86

/// A guest program that edits the page table that it runs on, executed by the real processor.
@Suite("A guest program under each technique")
struct GuestProgramTests {
    /// Gives a page table at 0x300000 to virtual address 128 MiB; then, 2000 times, maps one of
    /// its 8 first pages to one of 256 frames, executes INVLPG, and reads and writes through it,
    /// with a MOV to CR3 every 16 times; then gives the table up, zeroes it as data, and halts.
    static let program: [UInt8] = [
        0xb8, 0x03, 0x00, 0x30, 0x00,  // mov eax, 0x300003
        0x48, 0x89, 0x04, 0x25, 0x00, 0x32, 0x00, 0x00,  // mov [0x3200], rax
        0x31, 0xc9,  // xor ecx, ecx
        0x48, 0x89, 0xcb,  // 1: mov rbx, rcx
        0x83, 0xe3, 0x07,  // and ebx, 7
        0x48, 0x89, 0xc8,  // mov rax, rcx
        0x25, 0xff, 0x00, 0x00, 0x00,  // and eax, 255
        0x48, 0xc1, 0xe0, 0x0c,  // shl rax, 12
        0x48, 0x05, 0x03, 0x00, 0x40, 0x00,  // add rax, 0x400003
        0x48, 0x89, 0x04, 0xdd, 0x00, 0x00, 0x30, 0x00,  // mov [rbx*8 + 0x300000], rax
        0x48, 0x89, 0xda,  // mov rdx, rbx
        0x48, 0xc1, 0xe2, 0x0c,  // shl rdx, 12
        0x48, 0x81, 0xc2, 0x00, 0x00, 0x00, 0x08,  // add rdx, 0x8000000
        0x0f, 0x01, 0x3a,  // invlpg [rdx]
        0x48, 0x01, 0x0a,  // add [rdx], rcx
        0x48, 0x03, 0x32,  // add rsi, [rdx]
        0xf6, 0xc1, 0x0f,  // test cl, 15
        0x75, 0x06,  // jnz 2f
        0x0f, 0x20, 0xd8,  // mov rax, cr3
        0x0f, 0x22, 0xd8,  // mov cr3, rax
        0x48, 0xff, 0xc1,  // 2: inc rcx
        0x48, 0x81, 0xf9, 0xd0, 0x07, 0x00, 0x00,  // cmp rcx, 2000
        0x72, 0xb2,  // jb 1b
        0x31, 0xc0,  // xor eax, eax
        0x48, 0x89, 0x04, 0x25, 0x00, 0x32, 0x00, 0x00,  // mov [0x3200], rax
        0xbf, 0x00, 0x00, 0x30, 0x00,  // mov edi, 0x300000
        0xb9, 0x00, 0x02, 0x00, 0x00,  // mov ecx, 512
        0xf3, 0x48, 0xab,  // rep stosq
        0xf4,  // hlt
    ]

    struct Outcome: Equatable {
        var exit: Exit
        var retired: UInt64
        var sum: UInt64
        var digest: UInt64
    }

    private func run(_ technique: Technique, shadowBytes: UInt64 = 1 << 20) throws -> (
        Outcome, Ledger, [Violation]
    ) {
        let memory = try MachineMemory(
            guestBytes: 16 << 20,
            hypervisorBytes: Hypervisor.hypervisorBytes(
                for: technique, shadowBytes: shadowBytes, processors: 1, guestBytes: 16 << 20))
        func poke(_ guest: UInt64, _ value: UInt64) {
            memory.store(value, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
        }
        // Tables at 0x1000 map 16 MiB to themselves by 2 MiB pages; the code is at 0x10000.
        poke(0x1000, 0x2007)
        poke(0x2000, 0x3007)
        for page in 0..<8 as Range<UInt64> { poke(0x3000 + page * 8, page << 21 | 0x87) }
        memory.write(
            Self.program.span, at: memory.machineAddress(of: GuestPhysicalAddress(0x10000)))
        let processor = Processor(
            memory: memory, platform: EmptyPlatform(), model: .penumbraV2, index: 0)
        var registers = BootRegisters()
        registers.rip = 0x10000
        registers.rflags = 2
        registers.cr0 =
            CR0.protectionEnable | CR0.paging | CR0.writeProtect | CR0.extensionType
        registers.cr3 = 0x1000
        registers.cr4 = CR4.physicalAddressExtension
        registers.efer = EFER.longModeEnable | EFER.longModeActive
        // 64-bit code and flat data, both of privilege level 0.
        registers.code = .init(selector: 0x10, limit: 0xffff_ffff, attributes: 0xa09b)
        registers.data = .init(selector: 0x18, limit: 0xffff_ffff, attributes: 0xc093)
        processor.setBootState(registers)
        let hypervisor = try Hypervisor(
            memory: memory, processors: [processor], technique: technique,
            shadowBytes: shadowBytes)
        hypervisor.start()
        var exit = processor.run(until: 100_000)
        var exits = 0
        while hypervisor.handle(exit, processor: 0), exits < 50_000 {
            exit = processor.run(until: 100_000)
            exits += 1
        }
        let outcome = Outcome(
            exit: exit, retired: processor.retired, sum: processor[.rsi],
            digest: memory.guestDigest())
        if hypervisor.hasPendingRecords {
            _ = hypervisor.handle(.invalidatePage(GuestVirtualAddress(0)), processor: 0)
        }
        return (outcome, hypervisor.ledger, hypervisor.audit())
    }

    /// What the program's sum must be, by a model of the program.
    private func expectedSum() -> UInt64 {
        var frames = [UInt64](repeating: 0, count: 256)
        var sum: UInt64 = 0
        for step in 0..<2000 {
            frames[step & 255] += UInt64(step)
            sum += frames[step & 255]
        }
        return sum
    }

    @Test("bare and traced execute the same instructions to the same registers and memory")
    func sameOutcome() throws {
        let (bare, bareLedger, _) = try run(.bare)
        #expect(bare.exit == .halted)
        #expect(bare.sum == expectedSum())
        #expect(bareLedger.exits.sum == 1)
        for text in ["traced", "traced,threshold=1", "traced,capacity=8192,coalesce=0"] {
            let (traced, ledger, violations) = try run(Technique(parsing: text))
            #expect(traced == bare, "\(text)")
            #expect(violations == [], "\(text)")
            #expect(ledger.exits[.invalidatePage] >= 2000)
            #expect(ledger.exits[.rootLoaded] == 125)
            #expect(ledger.recordsDrained >= 2000)
            #expect(ledger.recordsDrained == ledger.recordsWritten)
            #expect(ledger.exits[.pageFault] == ledger.hiddenFaults)
            #expect(ledger.trueFaults == 0)
            #expect(ledger.instructions == bareLedger.instructions)
        }
    }

    @Test(
        "every parameter of the facility changes the cost alone",
        arguments: [
            "traced,indication=frame", "traced,record=value", "traced,record=mask",
            "traced,elide=on", "traced,refill=on", "traced,levels=leaf", "traced,stop=never",
            "traced,stop=1", "traced,threshold=0", "trap,refill=on", "trap,stop=never",
            "traced,indication=frame,record=mask,elide=on,refill=on,levels=leaf",
            "traced,indication=frame,record=value,capacity=4096,threshold=1,elide=on",
        ])
    func parameters(text: String) throws {
        let (bare, bareLedger, _) = try run(.bare)
        let technique = try Technique(parsing: text)
        let (other, ledger, violations) = try run(technique)
        #expect(other == bare)
        #expect(violations == [])
        #expect(ledger.instructions == bareLedger.instructions)
        #expect(ledger.recordsDrained == ledger.recordsWritten)
        #expect(ledger.recordsDrained == ledger.recordsByLevel.sum + ledger.recordsOfFormerTables)
        #expect(ledger.exits[.pageFault] == ledger.hiddenFaults)
        #expect(ledger.exits[.tableWrite] == ledger.tableWrites.sum)
        // The program's entries have A clear: none of them may be there before it is used.
        #expect(ledger.entriesRefilled == 0)
        // Nobody else writes into its tables.
        #expect(ledger.valuesSuperseded == 0)
        guard case .traced(let parameters) = technique else { return }
        // Each INVLPG follows a write, which is drained before where it reaches the threshold. Each
        // MOV to CR3 follows an INVLPG; the first one has to be made known.
        #expect(ledger.elided[.rootLoaded] == (parameters.elide ? 124 : 0))
        #expect(ledger.elided[.rootLoaded] + ledger.exits[.rootLoaded] == 125)
        let isDrainedBefore = parameters.elide && parameters.threshold == 1
        #expect((ledger.elided[.invalidatePage] > 1) == isDrainedBefore)
        #expect(ledger.tableWrites[.directory] == (parameters.levels == .leaf ? 2 : 0))
        #expect(ledger.tableWrites.sum == ledger.tableWrites[.directory])
        #expect(ledger.entriesReread >= 2000)
    }

    @Test("trap executes them too, and each write to the page table exits once")
    func trap() throws {
        let (bare, bareLedger, _) = try run(.bare)
        let (trap, ledger, violations) = try run(.trap(.standard))
        #expect(trap == bare)
        #expect(violations == [])
        #expect(ledger.instructions == bareLedger.instructions)
        // One write a step after the first, by which the table is none yet; and the two of the
        // directory's entry, by the second of which it is none any more.
        #expect(ledger.tableWrites.pairs.map { $0.count } == [1999, 2, 0, 0, 0])
        #expect(ledger.exits[.tableWrite] == 2001)
        #expect(ledger.exits[.invalidatePage] == 0)
        #expect(ledger.exits[.rootLoaded] == 125)
        #expect(ledger.exits[.pageFault] == ledger.hiddenFaults)
        #expect(ledger.recordsWritten == 0 && ledger.drains.sum == 0)
        #expect(ledger.spuriousFaults == 0)
    }

    @Test("unsync executes them too, and one write to the page table exits between two flushes")
    func unsync() throws {
        let (bare, _, _) = try run(.bare)
        let (unsync, ledger, violations) = try run(.unsync)
        #expect(unsync == bare)
        #expect(violations == [])
        // 125 times MOV to CR3, and the time before the first.
        #expect(ledger.tableWrites.pairs.map { $0.count } == [125, 2, 0, 0, 0])
        #expect(ledger.tablesUnsynced == 125)
        // The last time it is given up.
        #expect(ledger.tablesResynced == 124)
        #expect(ledger.entriesResynced >= 1900)
        #expect(ledger.exits[.invalidatePage] == 2000)
        #expect(ledger.exits[.pageFault] == ledger.hiddenFaults)
    }

    @Test("nested executes them too, and exits for the second dimension alone")
    func nested() throws {
        let (bare, bareLedger, _) = try run(.bare)
        let (nested, ledger, violations) = try run(.nested)
        #expect(nested == bare)
        #expect(violations == [])
        #expect(ledger.exits[.secondDimensionFault] == ledger.exits.sum - 1)
        #expect(ledger.exits.sum <= 8)
        // A walk that the second dimension ends is walked again.
        let faults = ledger.exits[.secondDimensionFault]
        #expect(ledger.tlbMisses == bareLedger.tlbMisses + faults)
        #expect(ledger.walkReferences > 4 * bareLedger.walkReferences)
    }

    @Test("agile executes them too, and the table that is written all the time exits a few times")
    func agile() throws {
        let (bare, bareLedger, _) = try run(.bare)
        for (text, watches) in [
            // The program loads CR3 125 times. The table is watched at the end of each epoch, the
            // first one's for the first time, and written in the next; at last it is given up.
            ("agile", 0...1), ("agile,writes=1", 0...1), ("agile,writes=4,quiet=1", 122...125),
            ("agile,quiet=10", 10...12),
        ] as [(String, ClosedRange<UInt64>)] {
            let (agile, ledger, violations) = try run(Technique(parsing: text))
            #expect(agile == bare, "\(text)")
            #expect(violations == [], "\(text)")
            #expect(ledger.tablesNested >= 1)
            #expect(ledger.exits[.tableWrite] == ledger.tableWrites.sum)
            #expect(ledger.exits[.tableWrite] < 20)
            #expect(ledger.exits[.invalidatePage] == 0)
            #expect(ledger.exits[.rootLoaded] == 125)
            #expect(ledger.exits[.pageFault] == ledger.hiddenFaults)
            #expect(ledger.spuriousFaults == 0)
            #expect(watches.contains(ledger.watchesEnded), "\(text) \(ledger.watchesEnded)")
            #expect(ledger.walkReferences > bareLedger.walkReferences)
        }
    }

    @Test(
        "a ceiling of a few pages changes nothing but the cost",
        arguments: [Technique.traced(.standard), .trap(.standard), .unsync, .agile(.standard)])
    func smallCeiling(technique: Technique) throws {
        let (bare, _, _) = try run(.bare)
        let least = ShadowMMU.leastPages(processors: 1, policy: technique.policy)
        let (traced, ledger, violations) = try run(technique, shadowBytes: least * 4096)
        #expect(traced == bare)
        #expect(violations == [])
        #expect(ledger.shadowPagesPeak < least)
    }
}
