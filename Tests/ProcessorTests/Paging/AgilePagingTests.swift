import MachineMemory
import Processor
import Testing
import X86

/// A walk that begins in shadow tables and switches to the guest's own part-way down.
///
/// The low 2 MiB are a large page of the shadow and of the second dimension, 1:1: code, stacks,
/// descriptor tables. Guest-physical 2…4 MiB are machine 4…6 MiB, in 4 KiB pages, and hold the
/// guest's tables and data that the tests reach:
/// ```
///  linear                        the shadow ends at           guest tables (guest-physical)
///  2 MiB + n × 4 KiB             PD entry 1, a switch         PT 0x20_4000
///  1 GiB …                       PDPT entry 1, a switch       PD 0x20_5000 → PT 0x20_6000
///  512 GiB …                     PML4 entry 1, a switch       PDPT 0x20_7000 → the same PD
/// ```
@Suite struct AgilePagingTests {
    private static let one: UInt64 = 0x20_0000
    private static let two: UInt64 = 1 << 30
    private static let three: UInt64 = 1 << 39
    /// P, R/W, U/S, A, D: the hypervisor's entries.
    private let all: UInt64 = 0x67
    private let large = PagingEntry.largeBit
    private let root: UInt64 = 0x60_0000
    private let second: UInt64 = 0x61_0000
    /// The machine address of guest-physical 2 MiB.
    private let moved: UInt64 = 0x40_0000
    /// MOV RAX, [RSI]; HLT and MOV [RSI], RAX; HLT.
    private let read: [UInt8] = [0x48, 0x8b, 0x06, 0xf4]
    private let write: [UInt8] = [0x48, 0x89, 0x06, 0xf4]

    private func agile(_ bits: UInt64 = 7) throws -> SystemMachine {
        let machine = try SystemMachine(.long)
        machine.store(root + 0x1000 | all, at: root)
        machine.store(root + 0x2000 | all, at: root + 0x1000)
        machine.store(0 | all | large, at: root + 0x2000)
        setShadow(machine, root + 0x2008, machine: moved + 0x4000, all)
        setShadow(machine, root + 0x1008, machine: moved + 0x5000, all)
        setShadow(machine, root + 8, machine: moved + 0x7000, all)
        machine.store(second + 0x1000 | all, at: second)
        machine.store(second + 0x2000 | all, at: second + 0x1000)
        machine.store(0 | all | large, at: second + 0x2000)
        machine.store(second + 0x3000 | all, at: second + 0x2008)
        for page in 0..<512 as Range<UInt64> {
            machine.store(moved + page << 12 | all, at: second + 0x3000 + page * 8)
        }
        // The guest's tables: A and D clear.
        for page in 0..<64 as Range<UInt64> {
            machine.store(0x21_0000 + page << 12 | bits, at: moved + 0x4000 + page * 8)
            machine.store(0x21_0000 + page << 12 | bits, at: moved + 0x6000 + page * 8)
        }
        machine.store(UInt64(0x20_6007), at: moved + 0x5000)
        machine.store(0x20_0000 | 7 | large, at: moved + 0x5008)
        machine.store(UInt64(0x20_5007), at: moved + 0x7000)
        machine.processor.control.paging = .agile(
            root: MachineAddress(root), second: MachineAddress(second))
        machine.processor.control.exitsOnPagingOperations = true
        machine.processor.control.exitsOnInvalidation = false
        machine.processor.invalidateAll()
        return machine
    }

    /// Puts a switch into a shadow table.
    private func setShadow(
        _ machine: SystemMachine, _ slot: UInt64, machine table: UInt64, _ bits: UInt64
    ) {
        machine.store(table | bits | PagingEntry.switchBit, at: slot)
        machine.processor.invalidateAll()
    }

    /// Maps a guest-physical page of 2…4 MiB with other bits.
    private func setSecond(_ machine: SystemMachine, _ guest: UInt64, _ bits: UInt64) {
        let page = guest - 0x20_0000
        machine.store(moved + page | bits, at: second + 0x3000 + page >> 9)
        machine.processor.invalidateAll()
    }

    private func run(_ machine: SystemMachine, _ code: [UInt8], _ address: UInt64) -> Exit {
        machine.processor[.rsi] = address
        machine.processor[.rsp] = SystemMachine.stack
        return machine.run(code)
    }

    /// The entry at a guest-physical address of 2…4 MiB.
    private func peek(_ machine: SystemMachine, _ guest: UInt64) throws -> UInt64 {
        try machine.load(UInt64.self, at: guest + 0x20_0000)
    }

    @Test(
        "a walk reads the shadow's entries, one of the table behind the switch, and two dimensions",
        arguments: [
            // 3 + 1 + 4; 2 + 1 + (4 + 1) + 4; 1 + 1 + 2 × (4 + 1) + 4; a large guest page.
            (one + 0x3000, 8), (two + 0x3000, 12), (three + 0x3000, 16),
            (two + 0x21_3000, 7),
        ] as [(UInt64, UInt64)])
    func references(address: UInt64, count: UInt64) throws {
        let machine = try agile()
        machine.store(UInt64(77), at: moved + 0x1_3000)
        // The code's walk, in the shadow alone, has 3.
        #expect(run(machine, read, address) == .halted)
        #expect(machine.processor[.rax] == 77)
        #expect(machine.processor.statistics.walkReferences == 3 + count)
        #expect(machine.processor.statistics.tlbMisses == 2)
        machine.processor.jump(to: SystemMachine.code)
        #expect(machine.proceed() == .halted)
        #expect(machine.processor.statistics.walkReferences == 3 + count)
    }

    @Test("A and D are set in the guest's tables, and in neither part of the hypervisor's")
    func accessedAndDirty() throws {
        let machine = try agile()
        let clean = all & ~(PagingEntry.accessedBit)
        setSecond(machine, 0x21_2000, clean)
        #expect(run(machine, write, Self.three + 0x2000) == .halted)
        #expect(try peek(machine, 0x20_7000) == 0x20_5027)
        #expect(try peek(machine, 0x20_5000) == 0x20_6027)
        #expect(try peek(machine, 0x20_6000 + 2 * 8) == 0x21_2067)
        #expect(try machine.load(UInt64.self, at: second + 0x3000 + 0x12 * 8) == 0x41_2000 | clean)
        #expect(run(machine, read, Self.one + 0x1000) == .halted)
        #expect(try peek(machine, 0x20_4000 + 8) == 0x21_1027)
    }

    @Test("rights are those of both parts together, and the guest gets the fault without an exit")
    func rights() throws {
        let switches: [(UInt64, UInt64)] = [
            (Self.one, root + 0x2008), (Self.two, root + 0x1008), (Self.three, root + 8),
        ]
        for (address, slot) in switches {
            for (bits, guest, code) in [
                // The upper part's rights, the guest leaf's, and the error code of a write.
                (0x67, 7, nil), (0x65, 7, 3), (0x67, 5, 3), (0x65, 5, 3),
            ] as [(UInt64, UInt64, UInt64?)] {
                let machine = try agile(guest)
                let table = try machine.load(UInt64.self, at: slot) & PagingEntry.addressMask
                setShadow(machine, slot, machine: table, bits)
                #expect(run(machine, write, address) == .halted)
                #expect(machine.haltedVector == code.map { _ in 14 })
                if let code {
                    #expect(try machine.frame(0) == code)
                    #expect(machine.processor.cr2 == address)
                }
                // Read-only is no bar to a read.
                #expect(run(machine, read, address) == .halted)
                #expect(machine.haltedVector == nil)
            }
        }
    }

    @Test("U/S and XD of the upper part bind below the switch")
    func userAndExecute() throws {
        for (bits, isFault) in [(0x67, false), (0x63, true)] as [(UInt64, Bool)] {
            let machine = try agile()
            setShadow(machine, root + 0x2008, machine: moved + 0x4000, bits)
            machine.enterUser()
            machine.processor.control.paging = .agile(
                root: MachineAddress(root), second: MachineAddress(second))
            machine.processor[.rsi] = Self.one
            // MOV RAX, [RSI]; INT3, whose gate level 3 may use.
            #expect(machine.run([0x48, 0x8b, 0x06, 0xcc]) == .halted)
            #expect(machine.haltedVector == (isFault ? 14 : 3))
            if isFault { #expect(try machine.frame(0) == 5) }
        }
        let machine = try agile()
        // WRMSR: EFER.NXE. Then CALL RSI, into the page of a HLT.
        machine.store(UInt8(0xf4), at: moved + 0x1_1000)
        let code: [UInt8] = [
            0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32, 0x0d, 0, 0x08, 0, 0, 0x0f, 0x30, 0xff, 0xd6,
        ]
        #expect(run(machine, code, Self.one + 0x1000) != .halted, "the change of mode exits")
        #expect(machine.proceed() == .halted)
        #expect(machine.processor.rip == Self.one + 0x1001)
        setShadow(
            machine, root + 0x2008, machine: moved + 0x4000,
            all | PagingEntry.executeDisableBit)
        #expect(run(machine, [0xff, 0xd6], Self.one + 0x1000) == .halted)
        #expect(machine.haltedVector == 14)
        #expect(try machine.frame(0) == 0x11)
    }

    @Test("P and RSVD of a fault below the switch are those of the guest's entry")
    func errorCodes() throws {
        let machine = try agile()
        for (entry, code) in [
            (0, 2), (1 << 45 | 7, 0xb), (0x21_0000 | 5, 3), (0x7f00_0000_0000 | 7, 0xb),
        ] as [(UInt64, UInt64)] {
            machine.store(entry, at: moved + 0x4000)
            machine.store(entry, at: moved + 0x6000)
            for address in [Self.one, Self.two, Self.three] {
                #expect(run(machine, write, address) == .halted)
                #expect(machine.haltedVector == 14)
                #expect(try machine.frame(0) == code, "\(entry)")
            }
        }
        // A table where no memory answers reads as all ones.
        machine.store(UInt64(0x20_9007), at: moved + 0x5000)
        machine.store(0xff_ffff_f000 | all, at: second + 0x3000 + 9 * 8)
        machine.processor.invalidateAll()
        #expect(run(machine, read, Self.two) == .halted)
        #expect(try machine.frame(0) == 9)
    }

    @Test("each part exits for what it lacks itself")
    func exits() throws {
        let machine = try agile()
        // The shadow: an entry that is absent, and one above the switch.
        #expect(
            run(machine, read, 0x40_0000) == .pageFault(GuestVirtualAddress(0x40_0000), []))
        machine.store(UInt64(0), at: root + 0x2008)
        #expect(
            run(machine, write, Self.one) == .pageFault(GuestVirtualAddress(Self.one), .write))
        setShadow(machine, root + 0x2008, machine: moved + 0x4000, all)
        // The second dimension: a page, a table; not the table that the switch names.
        setSecond(machine, 0x21_0000, 0)
        setSecond(machine, 0x20_4000, 0)
        #expect(
            run(machine, write, Self.one + 8)
                == .secondDimensionFault(GuestPhysicalAddress(0x21_0008), .write))
        setSecond(machine, 0x21_0000, all)
        #expect(run(machine, write, Self.one + 8) == .halted)
        setSecond(machine, 0x20_6000, 0)
        #expect(
            run(machine, write, Self.two + 0x3008)
                == .secondDimensionFault(GuestPhysicalAddress(0x20_6018), []))
        setSecond(machine, 0x20_5000, 0)
        #expect(
            run(machine, write, Self.two + 0x3008)
                == .secondDimensionFault(GuestPhysicalAddress(0x20_6018), []))
        #expect(
            run(machine, write, Self.three)
                == .secondDimensionFault(GuestPhysicalAddress(0x20_5000), []))
    }

    @Test("INVLPG, without an exit, ends what is cached of either part")
    func invalidation() throws {
        let machine = try agile()
        // MOV RAX, [RSI]; MOV RBX, [RSI]; INVLPG [RDI]; MOV RCX, [RSI]; HLT
        let code: [UInt8] = [
            0x48, 0x8b, 0x06, 0x48, 0x8b, 0x1e, 0x0f, 0x01, 0x3f, 0x48, 0x8b, 0x0e, 0xf4,
        ]
        for number in 0..<512 as Range<UInt64> {
            machine.store(number, at: moved + number << 12)
        }
        /// Changes `slot` after the first instruction.
        func stale(
            _ address: UInt64, _ invalidated: UInt64, _ slot: UInt64, _ value: UInt64
        ) -> [UInt64] {
            machine.memory.write(code.span, at: MachineAddress(SystemMachine.code))
            machine.processor.codeChanged(in: MachineAddress(SystemMachine.code).frame)
            machine.processor.jump(to: SystemMachine.code)
            machine.processor[.rsi] = address
            machine.processor[.rdi] = invalidated
            #expect(machine.processor.run(until: machine.processor.retired + 1) == .limit)
            machine.store(value, at: slot)
            #expect(machine.proceed() == .halted)
            return [GeneralRegister.rax, .rbx, .rcx].map { machine.processor[$0] }
        }
        #expect(
            stale(Self.one + 0x5000, Self.one + 0x5fff, moved + 0x4000 + 5 * 8, 0x21_9007)
                == [0x15, 0x15, 0x19])
        #expect(
            stale(Self.two + 0x5000, Self.two + 0x5000, moved + 0x6000 + 5 * 8, 0x21_9007)
                == [0x15, 0x15, 0x19])
    }

    @Test("of a page that is large in the guest alone, INVLPG ends every part")
    func fragments() throws {
        let machine = try agile()
        machine.store(UInt64(1), at: moved + 0x15_000)
        machine.store(UInt64(2), at: moved + 0x16_000)
        #expect(run(machine, read, Self.two + 0x21_5000) == .halted)
        #expect(machine.processor[.rax] == 1)
        // The directory's entry names a table now, whose page 0x15 is another.
        machine.store(UInt64(0x20_6007), at: moved + 0x5008)
        machine.store(UInt64(0x21_6007), at: moved + 0x6000 + 0x15 * 8)
        #expect(run(machine, read, Self.two + 0x21_5000) == .halted)
        #expect(machine.processor[.rax] == 1, "stale, as a TLB may be")
        // INVLPG of another address in the large page.
        machine.processor[.rdi] = Self.two + 0x20_0000
        let code: [UInt8] = [0x0f, 0x01, 0x3f, 0x48, 0x8b, 0x06, 0xf4]
        #expect(run(machine, code, Self.two + 0x21_5000) == .halted)
        #expect(machine.processor[.rax] == 2)
    }

    @Test("a page that the second dimension protects exits for a write, and is completed once")
    func protectedPage() throws {
        let machine = try agile()
        let protected = all & ~PagingEntry.dirtyBit | PagingEntry.tracedBit
        setSecond(machine, 0x21_0000, protected)
        machine.processor[.rax] = 5
        #expect(run(machine, read, Self.one) == .halted, "reads are plain")
        let retired = machine.processor.retired
        let exit = Exit.secondDimensionFault(GuestPhysicalAddress(0x21_0000), .write)
        #expect(run(machine, write, Self.one) == exit)
        #expect(machine.processor.retired == retired)
        machine.processor.control.completesProtectedWrites = true
        #expect(machine.proceed() == .writeCompleted)
        #expect(machine.processor.takeCompletedWrites() == [moved + 0x1_0000 | 3])
        #expect(machine.processor.retired == retired + 1)
        #expect(run(machine, write, Self.one) == exit)
        // Clean alone is not protected: the step exits for it still.
        setSecond(machine, 0x21_0000, all & ~PagingEntry.dirtyBit)
        machine.processor.control.completesProtectedWrites = true
        #expect(machine.proceed() == exit)
    }

    @Test("the walk's own writes of A and D to a protected guest table exit, and are completed")
    func protectedTable() throws {
        let machine = try agile()
        let protected = all & ~PagingEntry.dirtyBit | PagingEntry.tracedBit
        setSecond(machine, 0x20_6000, protected)
        let exit = Exit.secondDimensionFault(GuestPhysicalAddress(0x20_6010), .write)
        #expect(run(machine, read, Self.two + 0x2000) == exit)
        #expect(try peek(machine, 0x20_6010) == 0x21_2007)
        machine.processor.control.completesProtectedWrites = true
        #expect(machine.proceed() == .writeCompleted)
        #expect(machine.processor.takeCompletedWrites() == [moved + 0x6010 | 3])
        #expect(try peek(machine, 0x20_6010) == 0x21_2027)
        #expect(run(machine, read, Self.two + 0x2000) == .halted, "A is set")
        #expect(run(machine, write, Self.two + 0x2000) == exit)
        // The table that a switch names is written where it is.
        setSecond(machine, 0x20_4000, protected)
        #expect(run(machine, write, Self.one + 0x2000) == .halted)
        #expect(try peek(machine, 0x20_4010) == 0x21_2067)
    }

    @Test("a fetch that sets A in a protected table and faults is a step of its own")
    func fetchStep() throws {
        let machine = try agile()
        setSecond(
            machine, 0x20_5000, all & ~PagingEntry.dirtyBit | PagingEntry.tracedBit)
        machine.store(UInt64(0), at: moved + 0x6000)
        machine.processor[.rsp] = SystemMachine.stack
        machine.processor.jump(to: Self.three)
        #expect(
            machine.proceed()
                == .secondDimensionFault(GuestPhysicalAddress(0x20_5000), [.fetch, .write]))
        let retired = machine.processor.retired
        machine.processor.control.completesProtectedWrites = true
        #expect(machine.proceed() == .writeCompleted)
        #expect(machine.processor.takeCompletedWrites() == [moved + 0x5000 | 3])
        // The fault was delivered, and nothing of the handler has run.
        #expect(machine.processor.rip == SystemMachine.handlers + 14 * 16)
        #expect(machine.processor.retired == retired)
    }

    @Test("a switch means nothing under shadow alone")
    func otherSchemes() throws {
        let machine = try agile()
        machine.processor.control.paging = .shadow(root: MachineAddress(root))
        // The table's entries are taken for the hypervisor's: an address of 0x21_0000 is machine's.
        machine.store(UInt64(7), at: 0x21_0000)
        machine.store(UInt64(0x21_0000) | all, at: moved + 0x4000)
        machine.processor.invalidateAll()
        #expect(run(machine, read, Self.one) == .halted)
        #expect(machine.processor[.rax] == 7)
    }
}
