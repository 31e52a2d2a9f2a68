import MachineMemory
import Processor
import Testing
import X86

/// The walker over the guest's tables in each form.
@Suite struct PageTableFormTests {
    private static let large = PagingEntry.largeBit

    @Test(
        "a walk reads an entry a level, the PAE pointers excepted",
        arguments: [(PagingForm.twoLevel, 2), (.pae, 2), (.fourLevel, 4), (.fiveLevel, 5)]
            as [(PagingForm, UInt64)])
    func references(_ form: PagingForm, _ levels: UInt64) throws {
        let machine = try FormMachine(form)
        machine.store(0x1234_5678 as UInt32, at: 0x20010)
        #expect(machine.read(0x20010) == 0x1234_5678)
        // One for the code, one for the data.
        #expect(machine.processor.statistics.walkReferences == 2 * levels)
    }

    @Test("A and D are set in entries of the form's own width", arguments: PagingForm.allCases)
    func accessedAndDirty(_ form: PagingForm) throws {
        let machine = try FormMachine(form)
        let next = try machine.entry(FormMachine.table, 0x22)
        machine.processor[.rax] = 0
        #expect(machine.write(0x21000) == .halted)
        #expect(try machine.entry(FormMachine.table, 0x21) == 0x21063)
        #expect(try machine.entry(FormMachine.table, 0x22) == next)
        machine.read(0x23000)
        #expect(try machine.entry(FormMachine.table, 0x23) == 0x23023)
        #expect(try machine.entry(FormMachine.directory, 0) == FormMachine.table | 0x27)
    }

    @Test("what is not present, or not permitted, faults as such", arguments: PagingForm.allCases)
    func faults(_ form: PagingForm) throws {
        let machine = try FormMachine(form)
        machine.read(0)
        #expect(try machine.pageFault() == [])
        #expect(machine.processor.cr2 == 0)
        machine.setEntry(FormMachine.table, 0x21, 0x21001)
        machine.write(0x21004)
        #expect(try machine.pageFault() == [.present, .write])
        #expect(machine.processor.cr2 == 0x21004)
    }

    @Test("a 4 MiB page has bits 39…32 of its address in bits 20…13")
    func pageSizeExtension36() throws {
        let machine = try FormMachine(
            .twoLevel, guestBytes: 5 << 30, cr4: CR4.pageSizeExtensions)
        // Guest-physical 4 GiB + 8 MiB.
        machine.setEntry(FormMachine.directory, 1, 0x80_0000 | 1 << 13 | 7 | Self.large)
        machine.store(0x11 as UInt32, at: 0x1_0080_0010)
        machine.store(0x22 as UInt32, at: 0x1_00a0_0010)
        #expect(machine.read(0x40_0010) == 0x11)
        #expect(machine.read(0x60_0010) == 0x22)
        // Bit 21, and address bits that the processor does not have, are reserved.
        for (bad, model) in [(1 << 21, "penumbra-v2"), (1 << 18, "penumbra-v2,-pse36")]
            as [(UInt64, String)]
        {
            let narrow = try FormMachine(
                .twoLevel, cr4: CR4.pageSizeExtensions, model: ProcessorModel(parsing: model))
            narrow.setEntry(FormMachine.directory, 1, bad | 7 | Self.large)
            narrow.read(0x40_0000)
            #expect(try narrow.pageFault() == [.present, .reserved])
        }
    }

    @Test("without CR4.PSE, PS of a directory entry is ignored")
    func noPageSizeExtensions() throws {
        let machine = try FormMachine(.twoLevel)
        machine.setEntry(FormMachine.directory, 1, FormMachine.spare | 7 | Self.large)
        machine.setEntry(FormMachine.spare, 1, 0x22007)
        machine.store(0x77 as UInt32, at: 0x22010)
        #expect(machine.read(0x40_1010) == 0x77)
    }

    @Test("INVLPG anywhere in a 4 MiB page ends all of it")
    func invalidateHalves() throws {
        let machine = try FormMachine(.twoLevel, cr4: CR4.pageSizeExtensions)
        machine.setEntry(FormMachine.directory, 1, 0x80_0000 | 7 | Self.large)
        for half in [0, 0x20_0000] as [UInt64] {
            machine.store(0x80 as UInt32, at: 0x80_0000 + half)
            machine.store(0x40 as UInt32, at: 0x40_0000 + half)
        }
        for used in [0x40_0000, 0x60_0000] as [UInt64] {
            machine.setEntry(FormMachine.directory, 1, 0x80_0000 | 7 | Self.large)
            #expect(machine.read(used) == 0x80)
            machine.setEntry(FormMachine.directory, 1, 0x40_0000 | 7 | Self.large)
            #expect(machine.read(used) == 0x80, "stale, as a TLB may be")
            machine.processor[.rdi] = used ^ 0x20_0abc
            machine.run([0x0f, 0x01, 0x3f])
            #expect(machine.read(used) == 0x40)
            machine.processor.invalidateAll()
        }
    }

    @Test("the PAE pointers are registers: walks do not read them in memory")
    func pointers() throws {
        let machine = try FormMachine(.pae)
        machine.store(0 as UInt64, at: 0x1000)
        machine.store(FormMachine.directory | 1, at: 0x1008)
        machine.store(0x99 as UInt32, at: 0x20000)
        #expect(machine.read(0x20000) == 0x99)
        machine.write(0x4002_0000)
        #expect(try machine.pageFault() == .write)
        #expect(machine.processor.pointers == [FormMachine.directory | 1, 0, 0, 0])
    }

    @Test("reserved bits of 8-byte entries are the form's", arguments: PagingForm.allCases)
    func reserved(_ form: PagingForm) throws {
        guard form != .twoLevel else { return }
        for bit in [40, 51, 52, 62, 63] as [UInt64] {
            let machine = try FormMachine(form)
            machine.setEntry(FormMachine.table, 0x21, 0x21007 | 1 << bit)
            machine.read(0x21000)
            let isReserved = bit < 52 || bit == 63 || form == .pae
            #expect(try machine.pageFault() == (isReserved ? [.present, .reserved] : nil))
        }
    }

    @Test("I/D of the error code needs XD in use, which 4-byte entries do not have, or SMEP")
    func fetchBit() throws {
        for (form, cr4, efer, isSet) in [
            (.twoLevel, 0, EFER.executeDisableEnable, false), (.pae, 0, 0, false),
            (.twoLevel, CR4.supervisorExecutionPrevention, 0, true),
            (.pae, 0, EFER.executeDisableEnable, true),
        ] as [(PagingForm, UInt64, UInt64, Bool)] {
            let machine = try FormMachine(form, cr4: cr4, efer: efer)
            // JMP ESI
            machine.processor[.rsi] = 0x10_0000
            machine.run([0xff, 0xe6])
            #expect(try machine.pageFault() == (isSet ? .fetch : []))
        }
    }

    @Test("XD forbids fetches under PAE as in long mode")
    func executeDisable() throws {
        for form in [PagingForm.pae, .fourLevel, .fiveLevel] {
            let machine = try FormMachine(form, efer: EFER.executeDisableEnable)
            machine.setEntry(FormMachine.table, 0x21, 0x21003 | 1 << 63)
            machine.processor[.rsi] = 0x21000
            machine.run([0xff, 0xe6])
            #expect(try machine.pageFault() == [.present, .fetch])
        }
    }

    @Test("5-level addresses have 57 bits, and others are not canonical")
    func fiveLevels() throws {
        let machine = try FormMachine(.fiveLevel)
        machine.store(0x6007 as UInt64, at: 0x1000 + 0x1ab * 8)
        machine.store(0x55 as UInt32, at: 0x20000)
        // MOV EAX, [RSI]
        let high = 0xffab_0000_0002_0000 as UInt64
        #expect(machine.read(high) == 0x55)
        machine.read(0x0200_0000_0000_0000)
        #expect(machine.haltedVector == 13)
        let four = try FormMachine(.fourLevel)
        four.read(high)
        #expect(four.haltedVector == 13)
    }

    // MARK: The other schemes

    @Test(
        "a nested walk reads each guest entry by 3 of the second dimension's large pages",
        arguments: [(PagingForm.twoLevel, 11), (.pae, 11), (.fourLevel, 19), (.fiveLevel, 23)]
            as [(PagingForm, UInt64)])
    func nested(_ form: PagingForm, _ references: UInt64) throws {
        let machine = try FormMachine(form, hypervisorBytes: 1 << 20)
        mapGuest(machine, at: 0)
        machine.processor.control.paging = .nested(root: MachineAddress(0))
        machine.store(0x1234 as UInt32, at: 0x20010)
        #expect(machine.read(0x20010) == 0x1234)
        #expect(machine.processor.statistics.walkReferences == 2 * references)
        #expect(machine.write(0x21000) == .halted)
        #expect(try machine.entry(FormMachine.table, 0x21) == 0x21063)
    }

    @Test("the halves of a nested 4 MiB page are found, and ended by INVLPG together")
    func nestedLarge() throws {
        let machine = try FormMachine(
            .twoLevel, hypervisorBytes: 1 << 20, cr4: CR4.pageSizeExtensions)
        mapGuest(machine, at: 0)
        machine.processor.control.paging = .nested(root: MachineAddress(0))
        machine.setEntry(FormMachine.directory, 1, 0x80_0000 | 7 | Self.large)
        machine.store(0x80 as UInt32, at: 0xa0_0000)
        machine.store(0x40 as UInt32, at: 0x60_0000)
        #expect(machine.read(0x60_0000) == 0x80)
        machine.setEntry(FormMachine.directory, 1, 0x40_0000 | 7 | Self.large)
        machine.processor[.rdi] = 0x40_0000
        machine.run([0x0f, 0x01, 0x3f])
        #expect(machine.read(0x60_0000) == 0x40)
    }

    @Test("shadow tables have 4 or 5 levels of 8-byte entries whatever form the guest's have")
    func shadow() throws {
        for form in PagingForm.allCases {
            let machine = try FormMachine(form, hypervisorBytes: 1 << 20)
            let isDeep = form == .fiveLevel
            mapGuest(machine, at: 0)
            func poke(_ address: UInt64, _ value: UInt64) {
                machine.memory.store(value, at: MachineAddress(address))
            }
            // A level 5 above the table at 0, in which the highest address of 32 bits lies too.
            poke(0x8000, 0x67)
            poke(0x1000 + 3 * 8, 0x2067)
            poke(0x2000 + 511 * 8, machine.base | 0x67 | Self.large)
            machine.processor.control.paging =
                isDeep
                ? .shadow(root: MachineAddress(0x8000), top: .pml5)
                : .shadow(root: MachineAddress(0))
            machine.store(0x4321 as UInt32, at: 0x20010)
            #expect(machine.read(0x20010) == 0x4321)
            let levels: UInt64 = isDeep ? 4 : 3
            // One large page has both the code and the data.
            #expect(machine.processor.statistics.walkReferences == levels)
            #expect(machine.read(0xffe2_0010) == 0x4321)
            #expect(try machine.entry(FormMachine.table, 0x20) == 0x20003, "not walked")
            let missed = machine.write(0x4000_0000)
            #expect(missed == .pageFault(GuestVirtualAddress(0x4000_0000), .write))
        }
    }

    /// Maps guest-physical 0…16 MiB with 2 MiB pages, in 4 levels from a machine address up.
    private func mapGuest(_ machine: FormMachine, at root: UInt64) {
        func poke(_ address: UInt64, _ value: UInt64) {
            machine.memory.store(value, at: MachineAddress(address))
        }
        poke(root, root + 0x1000 | 0x67)
        poke(root + 0x1000, root + 0x2000 | 0x67)
        for page in 0..<8 as Range<UInt64> {
            poke(root + 0x2000 + page * 8, machine.base + page << 21 | 0x67 | Self.large)
        }
    }
}
