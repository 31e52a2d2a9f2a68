import Hypervisor
import MachineMemory
import Processor
import Testing
import X86

/// One instruction whose pages share as few tables as they can: it must come to its end with as
/// few shadow pages as there may be.
@Suite("The smallest ceiling and the widest instruction")
struct InstructionCeilingTests {
    /// The guest: each structure that the call touches lies across a boundary of its own, between
    /// two entries of the root.
    private struct Guest {
        let memory: MachineMemory
        let form: PagingForm
        var nextTable: UInt64 = 0x40_0000
        /// Linear addresses, and the tables below the root that lead there.
        var pages: [(linear: UInt64, table: UInt64)] = []

        func poke<W: FixedWidthInteger>(_ guest: UInt64, _ value: W) {
            memory.store(value, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
        }

        func peek(_ guest: UInt64) -> UInt64 {
            memory.load(UInt64.self, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
                ?? 0
        }

        /// The linear address where structure `number` is cut in two.
        func cut(_ number: UInt64) -> UInt64 { number << UInt64(form == .fiveLevel ? 49 : 40) }

        /// Its guest-physical address.
        func place(_ number: UInt64) -> UInt64 { 0x20_1000 + number << 13 }

        /// - Returns: the table whose entry maps it.
        @discardableResult
        mutating func map(
            _ linear: UInt64, _ guest: UInt64, _ leaf: PageLevel = .table
        ) -> UInt64 {
            var table: UInt64 = 0x1000
            var level = form.topLevel
            var first: UInt64 = 0
            while level > leaf, let below = level.below {
                let slot = table + UInt64(form.index(GuestVirtualAddress(linear), at: level)) * 8
                if peek(slot) == 0 {
                    poke(slot, nextTable | 7)
                    nextTable += 0x1000
                }
                table = peek(slot) & ~0xfff
                if first == 0 { first = table }
                level = below
            }
            let slot = table + UInt64(form.index(GuestVirtualAddress(linear), at: level)) * 8
            poke(slot, guest | (leaf == .table ? 7 : 0x87))
            if leaf == .table { pages.append((linear, first)) }
            return table
        }
    }

    /// LLDT; for each of 12 pages a read, and a write to a table above it; IRET to level 3, where
    /// the call stands.
    private static let prelude: [UInt8] = [
        0x0f, 0x00, 0xd2,  // lldt edx
        0x48, 0x8b, 0x33,  // 1: mov rsi,[rbx]
        0x48, 0x8b, 0x3e,  // mov rdi,[rsi]
        0x48, 0x8b, 0x73, 8,  // mov rsi,[rbx+8]
        0x48, 0x8b, 0x3e,  // mov rdi,[rsi]
        0x48, 0x89, 0x3e,  // mov [rsi],rdi
        0x48, 0x83, 0xc3, 16,  // add rbx,16
        0xff, 0xc9,  // dec ecx
        0x75, 0xe8,  // jnz 1b
        0x48, 0xcf,  // iretq
    ]

    private static func registers(_ form: PagingForm) -> BootRegisters {
        var registers = BootRegisters()
        registers.rip = 0x10000
        registers.cr0 =
            CR0.protectionEnable | CR0.paging | CR0.writeProtect | CR0.extensionType
        registers.cr3 = 0x1000
        registers.cr4 =
            CR4.physicalAddressExtension | (form == .fiveLevel ? CR4.fiveLevelPaging : 0)
        registers.efer = EFER.longModeEnable | EFER.longModeActive
        registers.code = .init(selector: 0x08, limit: 0xffff_ffff, attributes: 0xa09b)
        registers.data = .init(selector: 0x18, limit: 0xffff_ffff, attributes: 0xc093)
        return registers
    }

    @Test(
        "a far call through a gate to an inner stack ends, with 12 pages that share no table",
        arguments: [PagingForm.fourLevel, .fiveLevel],
        [
            "bare", "traced", "traced,refill=on", "traced,levels=leaf", "trap", "unsync", "agile",
            "agile,writes=1", "nested",
        ])
    func callGate(form: PagingForm, text: String) throws {
        let technique = try Technique(parsing: text)
        let least = ShadowMMU.leastPages(processors: 1, policy: technique.policy)
        let memory = try MachineMemory(
            guestBytes: 16 << 20,
            hypervisorBytes: Hypervisor.hypervisorBytes(
                for: technique, shadowBytes: least << 12, processors: 1))
        var guest = Guest(memory: memory, form: form)
        for page in 0..<8 as Range<UInt64> { guest.map(page << 21, page << 21, .directory) }
        for number in 1...6 as ClosedRange<UInt64> {
            guest.map(guest.cut(number) - 0x1000, guest.place(number) - 0x1000)
            guest.map(guest.cut(number), guest.place(number))
        }
        memory.write(
            Self.prelude.span, at: memory.machineAddress(of: GuestPhysicalAddress(0x10000)))
        guest.poke(0x11000, UInt8(0xf4))
        for (index, value) in [guest.cut(1) - 2, 0x13, 2, 0x70000, 0x1b].enumerated() {
            guest.poke(0x80000 + UInt64(index) * 8, value)
        }
        for (index, page) in guest.pages.enumerated() {
            guest.poke(0x90000 + UInt64(index) * 16, page.linear)
            guest.poke(0x90008 + UInt64(index) * 16, page.table)
        }
        // 1: call far [rax]. 2: its pointer.
        let call: [UInt8] = [0x48, 0xff, 0x18]
        memory.write(
            call.span, at: memory.machineAddress(of: GuestPhysicalAddress(guest.place(1) - 2)))
        guest.poke(guest.place(2) + 3, UInt16(7))
        // 3: the LDT with a gate to 0x11000. 4: the GDT.
        guest.poke(guest.place(3) - 8, 0x0000_ec00_0008_1000 | (1 as UInt64) << 48)
        guest.poke(guest.place(4) - 4, 0x00af_9b00_0000_ffff as UInt64)
        guest.poke(guest.place(4) + 4, 0x00af_fb00_0000_ffff as UInt64)
        guest.poke(guest.place(4) + 12, 0x00cf_f300_0000_ffff as UInt64)
        let table = guest.cut(3) - 8
        guest.poke(
            guest.place(4) + 20,
            0x0000_8200_0000_000f | (table & 0xff_ffff) << 16 | (table >> 24 & 0xff) << 56)
        guest.poke(guest.place(4) + 28, table >> 32)
        // 5: the TSS with the stack pointer of level 0. 6: that stack.
        guest.poke(guest.place(5) - 4, guest.cut(6) + 16)
        var registers = Self.registers(form)
        registers.gdt = .init(base: guest.cut(4) - 12, limit: 0x2f)
        registers.task = .init(
            selector: 0x30, base: guest.cut(5) - 8, limit: 0x67, attributes: 0x8b)
        let processor = Processor(
            memory: memory, platform: EmptyPlatform(),
            model: try ProcessorModel(parsing: "penumbra-v2,+la57"), index: 0)
        processor.setBootState(registers)
        processor[.rsp] = 0x80000
        processor[.rax] = guest.cut(2) - 5
        processor[.rbx] = 0x90000
        processor[.rcx] = UInt64(guest.pages.count)
        processor[.rdx] = 0x20
        let hypervisor = try Hypervisor(
            memory: memory, processors: [processor], technique: technique,
            shadowBytes: least << 12)
        hypervisor.start()
        var exit = Exit.stopped
        for _ in 0..<20_000 {
            exit = processor.run(until: 1000)
            if !hypervisor.handle(exit, processor: 0) { break }
        }
        #expect(exit == .halted)
        #expect(processor.rip == 0x11001)
        #expect(processor[.rsp] == guest.cut(6) - 16)
        #expect(guest.pages.count == 12)
        #expect(processor.retired == 1 + 12 * 8 + 3)
        #expect(hypervisor.ledger.shadowPagesPeak < least)
        if text == "agile,writes=1" { #expect(hypervisor.ledger.tablesNested >= 12) }
        #expect(hypervisor.audit() == [])
    }

    /// What each attempt writes looks like a table that is none any more, and would end its use as
    /// one each time, and with it what the attempt before was resumed for.
    @Test(
        "ENTER ends whose stack lies in the page table that maps the rest of its operands",
        arguments: ["traced", "traced,stop=1", "traced,levels=leaf", "trap", "unsync", "agile"])
    func stackInTable(text: String) throws {
        var digests: [UInt64] = []
        for technique in [Technique.bare, try Technique(parsing: text)] {
            let pages = ShadowMMU.leastPages(processors: 1, policy: technique.policy)
            let memory = try MachineMemory(
                guestBytes: 16 << 20,
                hypervisorBytes: Hypervisor.hypervisorBytes(
                    for: technique, shadowBytes: pages << 12, processors: 1))
            var guest = Guest(memory: memory, form: .fourLevel)
            for page in 0..<8 as Range<UInt64> { guest.map(page << 21, page << 21, .directory) }
            // The stack goes from page 101 down to 100, the frames that ENTER reads from 201 to 200.
            let base: UInt64 = 1 << 40
            let table = guest.map(base + 100 << 12, 0x20_0000)
            guest.map(base + 101 << 12, table)
            guest.map(base + 200 << 12, 0x20_1000)
            guest.map(base + 201 << 12, 0x20_2000)
            for index in 0..<20 as Range<UInt64> {
                guest.poke(0x20_2000 + index * 8, 1 | (1 as UInt64) << 51)
            }
            // enter 0,31; hlt
            let code: [UInt8] = [0xc8, 0, 0, 31, 0xf4]
            memory.write(
                code.span, at: memory.machineAddress(of: GuestPhysicalAddress(0x10000)))
            let processor = Processor(
                memory: memory, platform: EmptyPlatform(), model: .penumbraV2, index: 0)
            processor.setBootState(Self.registers(.fourLevel))
            let top = base + 101 << 12 + 22 * 8
            processor[.rsp] = top
            processor[.rbp] = base + 201 << 12 + 20 * 8
            let hypervisor = try Hypervisor(
                memory: memory, processors: [processor], technique: technique,
                shadowBytes: pages << 12)
            hypervisor.start()
            var exit = Exit.stopped
            for _ in 0..<5000 {
                exit = processor.run(until: 1000)
                if !hypervisor.handle(exit, processor: 0) { break }
            }
            #expect(exit == .halted)
            #expect(processor.retired == 2)
            #expect(processor[.rsp] == top - 32 * 8)
            digests.append(memory.guestDigest())
            if hypervisor.hasPendingRecords {
                _ = hypervisor.handle(.invalidatePage(GuestVirtualAddress(0)), processor: 0)
            }
            #expect(hypervisor.audit() == [])
        }
        #expect(digests[0] == digests[1])
    }
}
