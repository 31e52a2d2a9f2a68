import Hypervisor
import MachineMemory
import Processor
import Testing
import X86

/// 32-bit tasks that have page tables of their own, in which the GDT, the LDT and the stack lie in
/// other frames: what a switch loads after CR3 must come through the new tables.
@Suite("Task switches to other page tables")
struct TaskSwitchTests {
    /// What is left of a run, alike under every technique.
    struct Outcome: Equatable {
        var exit: Exit
        var retired: UInt64
        var registers: UInt64
        var digest: UInt64
    }

    static let techniques = [
        "traced", "traced,elide=on,threshold=1", "traced,levels=leaf", "trap", "trap,refill=on",
        "unsync", "nested", "agile", "agile,writes=1,quiet=1",
    ]
    static let rounds: UInt8 = 50

    /// A far jump to task 1, which counts and jumps back; then #GP, through a task gate to task 2,
    /// which adds up the error codes, lets task 0 go on after the instruction, and returns.
    static let programs: [[UInt8]] = [
        [
            0xb9, rounds, 0, 0, 0,  // 0: mov ecx,rounds
            0xea, 0, 0, 0, 0, 0x08, 0x10,  // 5: jmp 0x1008:0
            0xb8, 0xf8, 0, 0, 0,  // c: mov eax,0xf8
            0x8e, 0xd8,  // 11: mov ds,eax
            0x49,  // 13: dec ecx
            0x75, 0xef,  // 14: jnz 5
            0xf4,  // 16: hlt
        ],
        [
            0xff, 0x05, 0, 0x40, 2, 0,  // 0: inc dword [0x24000]
            0xea, 0, 0, 0, 0, 0x00, 0x10,  // 6: jmp 0x1000:0
            0xeb, 0xf1,  // d: jmp 0
        ],
        [
            0x58,  // 0: pop eax
            0x01, 0x05, 0, 0x40, 2, 0,  // 1: add [0x24000],eax
            0x83, 0x05, 0x20, 0x20, 2, 0, 2,  // 7: add dword [0x22020],2, task 0's EIP
            0xcf,  // e: iretd
            0xeb, 0xef,  // f: jmp 0
        ],
    ]

    static func tables(_ task: UInt64) -> UInt64 { 0x40000 + task * 0x4000 }
    static func data(_ task: UInt64) -> UInt64 { 0x2_5000 + task << 20 }
    static func taskState(_ task: UInt64) -> UInt64 { 0x23000 + task * 0x100 }

    /// The guest, in memory. Linear pages 0x20 (GDT), 0x22 (LDT), 0x25 (data) and 0x26 (stack) are
    /// each task's own, and all others of the first 160 KiB shared.
    /// - Parameters:
    ///   - inTables: LDT and stack of a task are part of its own page table.
    ///   - unmapped: the linear page that task 1's tables do not have.
    static func build(
        _ memory: MachineMemory, _ form: PagingForm, inTables: Bool, unmapped: UInt64?
    ) {
        func poke<W: FixedWidthInteger>(_ guest: UInt64, _ value: W) {
            memory.store(value, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
        }
        func entry(_ table: UInt64, _ index: UInt64, _ value: UInt64) {
            if form == .twoLevel {
                poke(table + index * 4, UInt32(value))
            } else {
                poke(table + index * 8, value)
            }
        }
        for task in 0..<3 as Range<UInt64> {
            let root = tables(task)
            let table = root + 0x1000
            if form == .pae {
                entry(root, 0, root + 0x2001)
                entry(root + 0x2000, 0, table | 7)
            } else {
                entry(root, 0, table | 7)
            }
            let isInTable = inTables && task != 0
            for page in 0..<40 as Range<UInt64> where task != 1 || page != unmapped {
                let target: UInt64 =
                    switch page {
                    case 0x22 where isInTable, 0x26 where isInTable: table
                    case 0x20, 0x22, 0x25, 0x26: page << 12 + task << 20
                    default: page << 12
                    }
                entry(table, page, target | 7)
            }
            let own = task << 20
            poke(0x2_0008 + own, 0x00cf_9b00_0000_ffff as UInt64)
            poke(0x2_0010 + own, 0x00cf_9300_0000_ffff as UInt64)
            // Of task 0 it is no LDT's.
            poke(0x2_0028 + own, (task == 0 ? 0 : 0x0000_8202_2f00_0017) as UInt64)
            if task != 0 {
                let local = (isInTable ? table : 0x2_2000 + own) + 0xf00
                poke(local, 0x00cf_9a00_0000_ffff as UInt64)
                poke(local + 8, 0x00cf_9200_0000_ffff as UInt64)
                poke(local + 16, 0x00cf_9200_1000_ffff as UInt64)
            }
            let state = taskState(task)
            let busy: UInt64 = task == 0 ? 0x8b : 0x89
            poke(
                0x2_1000 + task * 8,
                0x67 | (state & 0xffff) << 16 | (state >> 16) << 32 | busy << 40)
            poke(state + 28, UInt32(root))
            poke(state + 32, UInt32(0x10000 + task << 12))
            poke(state + 36, UInt32(2))
            poke(state + 56, UInt32(0x27000))
            for (number, selector) in [0x14, 0x04, 0x0c, 0x14, 0, 0].enumerated() {
                poke(state + 72 + UInt64(number) * 4, UInt32(selector))
            }
            poke(state + 96, UInt32(task == 0 ? 0 : 0x28))
            let program = programs[Int(task)]
            memory.write(
                program.span,
                at: memory.machineAddress(of: GuestPhysicalAddress(0x10000 + task << 12)))
        }
        // #GP and #PF come through task gates.
        for vector in [13, 14] as [UInt64] {
            poke(0x2_7000 + vector * 8, 0x0000_8500_1010_0000 as UInt64)
        }
    }

    static func run(
        _ technique: String, _ form: PagingForm, pages: UInt64 = 256, inTables: Bool = false,
        unmapped: UInt64? = nil
    ) throws -> (Outcome, MachineMemory, Processor, Ledger) {
        let technique = try Technique(parsing: technique)
        let memory = try MachineMemory(
            guestBytes: 16 << 20,
            hypervisorBytes: Hypervisor.hypervisorBytes(
                for: technique, shadowBytes: pages << 12, processors: 1, guestBytes: 16 << 20))
        build(memory, form, inTables: inTables, unmapped: unmapped)
        let processor = Processor(
            memory: memory, platform: EmptyPlatform(), model: .penumbraV2, index: 0)
        var registers = BootRegisters()
        registers.rip = 0x10000
        registers.general[Int(GeneralRegister.rsp.rawValue)] = 0x27000
        registers.cr0 =
            CR0.protectionEnable | CR0.paging | CR0.writeProtect | CR0.extensionType
        registers.cr3 = tables(0)
        registers.cr4 = form == .pae ? CR4.physicalAddressExtension : 0
        registers.pointers = [tables(0) + 0x2001, 0, 0, 0]
        registers.gdt = .init(base: 0x20000, limit: 0x1fff)
        registers.idt = .init(base: 0x27000, limit: 0x7f)
        registers.code = .init(selector: 0x08, limit: 0xffff_ffff, attributes: 0xc09b)
        registers.data = .init(selector: 0x10, limit: 0xffff_ffff, attributes: 0xc093)
        registers.task = .init(
            selector: 0x1000, base: taskState(0), limit: 0x67, attributes: 0x8b)
        processor.setBootState(registers)
        let hypervisor = try Hypervisor(
            memory: memory, processors: [processor], technique: technique,
            shadowBytes: pages << 12)
        hypervisor.start()
        var exit = Exit.stopped
        for _ in 0..<50_000 {
            exit = processor.run(until: 10_000)
            if !hypervisor.handle(exit, processor: 0) { break }
        }
        if hypervisor.hasPendingRecords {
            _ = hypervisor.handle(.invalidatePage(GuestVirtualAddress(0)), processor: 0)
        }
        #expect(hypervisor.audit() == [])
        let outcome = Outcome(
            exit: exit, retired: processor.retired, registers: processor.registerDigest,
            digest: memory.guestDigest())
        return (outcome, memory, processor, hypervisor.ledger)
    }

    static func word(_ memory: MachineMemory, _ guest: UInt64) -> UInt32? {
        memory.load(UInt32.self, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
    }

    @Test(
        "a task's segments and its error code come through its own tables, whoever keeps them",
        arguments: [PagingForm.twoLevel, .pae], [false, true])
    func ownTables(form: PagingForm, inTables: Bool) throws {
        let (bare, memory, _, _) = try Self.run("bare", form, inTables: inTables)
        #expect(bare.exit == .halted)
        #expect(Self.word(memory, Self.data(1)) == UInt32(Self.rounds))
        #expect(Self.word(memory, Self.data(2)) == UInt32(Self.rounds) * 0xf8)
        for technique in Self.techniques {
            let policy = try Technique(parsing: technique).policy
            for pages in [ShadowMMU.leastPages(processors: 1, policy: policy), 256] {
                let (other, _, _, ledger) = try Self.run(
                    technique, form, pages: pages, inTables: inTables)
                #expect(other == bare, "\(technique), \(pages) pages")
                #expect(ledger.shadowPagesPeak < pages)
                if technique == "trap" {
                    // Four switches a round, each an exit in its middle.
                    #expect(ledger.exits[.rootLoaded] == 4 * UInt64(Self.rounds))
                    #expect(inTables == (ledger.tableWrites.sum >= UInt64(Self.rounds)))
                }
            }
        }
    }

    @Test(
        "what the new task's tables do not map faults in the new task, at its first instruction",
        arguments: [PagingForm.twoLevel, .pae], [0x20, 0x22] as [UInt64])
    func unmapped(form: PagingForm, page: UInt64) throws {
        for technique in ["bare"] + Self.techniques {
            let (outcome, memory, processor, _) = try Self.run(technique, form, unmapped: page)
            // Task 2 gets #PF(0) of a supervisor's read, and returns to task 1, for ever.
            #expect(outcome.exit == .stopped || outcome.exit == .limit, "\(technique)")
            #expect(Self.word(memory, Self.data(2)) == 0)
            #expect(Self.word(memory, Self.data(1)) == 0)
            #expect(Self.word(memory, Self.taskState(2)) == 0x1008, "\(technique)")
            #expect(Self.word(memory, Self.taskState(1) + 32) == 0x11000)
            #expect(processor.cr2 == (page == 0x20 ? 0x20028 : 0x22f00))
        }
    }
}
