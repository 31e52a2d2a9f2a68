import Hypervisor
import MachineMemory
import Testing
import X86

@Suite("Guests whose tables have another form")
struct FormTests {
    typealias M = TestMachine
    let a: UInt64 = 0x20_0000
    let b: UInt64 = 0x30_0000

    // MARK: PAE's pointers

    @Test(
        "the memory that PAE's pointers were loaded from counts when they are loaded again",
        arguments: TestMachine.policies)
    func pointers(policy: Policy) throws {
        let machine = try M(processors: 2, policy: policy, form: .pae)
        let page = machine.page
        let pointer = machine.root << 12 + 8
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        // Another directory for the same GiB, and the pointer to it.
        let other = machine.newTable() << 12
        let table = machine.newTable() << 12
        machine.poke(other, table | M.all)
        machine.poke(table, b | M.all)
        machine.edit(pointer, other | M.present)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == a)
        machine.cache.removeAll()
        #expect(machine.reach(page) == a)
        machine.verify("edited")
        // A second processor loads them, and the first has not.
        machine.current = 1
        machine.mode.cr3 = machine.root << 12
        machine.load()
        #expect(machine.reach(page) == b)
        machine.verify("the second")
        machine.current = 0
        #expect(machine.reach(page) == a)
        machine.verify("the first")
        machine.cache.removeAll()
        machine.load()
        #expect(machine.reach(page) == b)
        // Not present, without any flush: the register has it still.
        machine.edit(pointer, 0)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == b)
        machine.cache.removeAll()
        machine.load()
        #expect(machine.fault(page, .write) == .write)
        machine.verify("gone")
    }

    @Test("the page that holds PAE's pointers is none of the tables, and is not traced")
    func pointersAreNotTraced() throws {
        let machine = try M(form: .pae)
        machine.poke(map: machine.page, to: a, M.all)
        #expect(machine.reach(machine.page) == a)
        machine.write(machine.directMap + machine.root << 12, machine.peek(machine.root << 12))
        #expect(machine.rings[0].pending == 0)
        machine.verify()
    }

    @Test("a pointer holds no rights, and two that name one directory share its shadow")
    func sharedDirectory() throws {
        let machine = try M(form: .pae)
        let page = machine.page
        let alias = page + 1 << 30
        machine.poke(map: page, to: a, M.all)
        machine.poke(machine.root << 12 + 16, machine.peek(machine.root << 12 + 8))
        machine.load()
        #expect(machine.reach(page, [.user, .write]) == a)
        let live = machine.mmu.ledger.shadowPagesLive
        #expect(machine.reach(alias, [.user, .write]) == a)
        #expect(machine.mmu.ledger.shadowPagesLive == live)
        machine.edit(machine.entryAddress(page, .table), b | M.all)
        machine.invalidatePage(alias)
        #expect(machine.reach(page) == b && machine.reach(alias) == b)
        machine.verify()
    }

    @Test("roots of 32-bit guests stay cached, and are found again by what the registers hold")
    func cachedRoots() throws {
        for form in [PagingForm.twoLevel, .pae] {
            let machine = try M(form: form)
            machine.poke(map: machine.page, to: a, M.all)
            #expect(machine.reach(machine.page) == a)
            let old = machine.mode
            machine.enter(form)
            machine.poke(map: machine.page, to: b, M.all)
            #expect(machine.reach(machine.page) == b)
            let entry = machine.entryAddress(machine.page, .table, root: machine.root)
            machine.edit(entry, b + 0x1000 | M.all)
            let made = machine.mmu.ledger.shadowPagesMade
            machine.mode = old
            machine.cache.removeAll()
            machine.load()
            #expect(machine.mmu.ledger.shadowPagesMade == made, "\(form)")
            #expect(machine.reach(machine.page) == b + 0x1000)
            machine.verify()
        }
    }

    @Test(
        "a root of PAE is never loaded without an exit, since the pointers are loaded with it",
        arguments: PagingForm.allCases)
    func knownRoots(form: PagingForm) throws {
        let machine = try M(policy: Technique(parsing: "traced,elide=on").policy, form: form)
        machine.mmu.knowRoot(processor: 0, mode: machine.mode)
        let table = try #require(machine.layout.rootTable(0))
        let known = machine.memory.load(UInt64.self, at: MachineAddress(table)) ?? 0
        #expect((known != 0) == (form != .pae))
    }

    // MARK: 2-level tables

    @Test(
        "a 32-bit directory entry is two shadow entries, and a 32-bit table two shadow tables",
        arguments: TestMachine.policies)
    func quadrants(policy: Policy) throws {
        let machine = try M(policy: policy, form: .twoLevel)
        let page = machine.page
        let high = page + 2 << 20
        machine.poke(map: page, to: a, M.all)
        machine.poke(map: high, to: b, M.all)
        #expect(machine.reach(page) == a && machine.reach(high) == b)
        // One write to the table concerns the half that it lies in.
        machine.edit(machine.entryAddress(high, .table), a + 0x1000 | M.all)
        machine.invalidatePage(high)
        #expect(machine.reach(page) == a && machine.reach(high) == a + 0x1000)
        machine.verify("half")
        // Both halves lose the user's rights with the one entry of the directory.
        let directory = machine.entryAddress(page, .directory)
        machine.edit(directory, machine.peek(directory) & ~M.user)
        machine.invalidatePage(page)
        #expect(machine.fault(page, .user) == [.present, .user])
        #expect(machine.fault(high, .user) == [.present, .user])
        machine.verify("rights")
        machine.edit(directory, 0)
        machine.invalidatePage(page)
        #expect(machine.fault(page) == [] && machine.fault(high) == [])
        machine.verify("gone")
    }

    @Test(
        "an 8-byte write changes two 4-byte entries, and a 4-byte write one",
        arguments: TestMachine.policies)
    func widths(policy: Policy) throws {
        let machine = try M(policy: policy, form: .twoLevel)
        let page = machine.page
        machine.poke(map: page, to: a, M.all)
        machine.poke(map: page + 0x1000, to: a, M.all)
        #expect(machine.reach(page) == a && machine.reach(page + 0x1000) == a)
        let entry = machine.directMap + machine.entryAddress(page, .table)
        let two = b | M.all | (b + 0x1000 | M.all) << 32
        machine.write(entry, whole: two)
        machine.invalidatePage(page)
        machine.invalidatePage(page + 0x1000)
        #expect(machine.reach(page) == b && machine.reach(page + 0x1000) == b + 0x1000)
        machine.verify("both")
        machine.write(entry + 4, half: UInt32(a | M.all))
        machine.invalidatePage(page + 0x1000)
        #expect(machine.reach(page) == b && machine.reach(page + 0x1000) == a)
        machine.verify("one")
    }

    @Test(
        "A and D of a 4-byte entry are set in it alone, and not in its neighbour",
        arguments: TestMachine.policies)
    func accessedWidth(policy: Policy) throws {
        let machine = try M(policy: policy, form: .twoLevel)
        let page = machine.page
        for offset in 0..<4 as Range<UInt64> {
            machine.poke(map: page + offset << 12, to: a + offset << 12, M.all)
        }
        #expect(machine.reach(page + 0x1000, .write) == a + 0x1000)
        #expect(machine.reach(page + 0x2000) == a + 0x2000)
        let bits = (0..<4 as Range<UInt64>).map {
            machine.peek(machine.entryAddress(page, .table) + $0 * 4)
                & (M.accessed | M.dirty)
        }
        #expect(bits == [0, M.accessed | M.dirty, M.accessed, 0])
        machine.verify()
    }

    @Test(
        "a 4 MiB page is mapped by two large pages, or split where a table lies, and goes whole",
        arguments: TestMachine.policies)
    func fourMegabytes(policy: Policy) throws {
        let machine = try M(policy: policy, form: .twoLevel)
        let window = machine.window
        machine.poke(map: window, to: 16 << 20, M.all | M.global, .directory)
        #expect(machine.reach(window + 0x1234) == 16 << 20 + 0x1234)
        #expect(machine.reach(window + 0x3f_fff0) == 16 << 20 + 0x3f_fff0)
        // Only its own two entries are in use there.
        #expect(machine.shadowedAddresses().filter { $0 >> 22 == window >> 22 }.count == 4)
        // One D for both halves.
        let entry = machine.entryAddress(window, .directory)
        #expect(machine.peek(entry) & M.dirty == 0)
        #expect(machine.reach(window + 0x20_0000, .write) == 18 << 20)
        #expect(machine.peek(entry) & M.dirty != 0)
        let faults = machine.mmu.ledger.dirtyFaults
        #expect(machine.reach(window, .write) == 16 << 20)
        #expect(machine.mmu.ledger.dirtyFaults == faults)
        machine.verify("large")
        // A table in the upper half splits that, and is noticed through it.
        let table: UInt64 = 19 << 20
        machine.poke(table, a | M.all)
        machine.poke(machine.entryAddress(machine.page, .directory), table | M.all)
        #expect(machine.reach(machine.page) == a)
        machine.write(window + 3 << 20, b | M.all)
        machine.invalidatePage(machine.page)
        #expect(machine.reach(machine.page) == b)
        machine.verify("split")
        // INVLPG of any address ends all of it.
        machine.edit(entry, machine.leaf(24 << 20, .directory) | M.all)
        machine.invalidatePage(window + 0x3f_f000)
        #expect(machine.reach(window + 0x1000) == 24 << 20 + 0x1000)
        #expect(machine.reach(window + 3 << 20) == 27 << 20)
        machine.verify("moved")
    }

    @Test("a 4 MiB page above 4 GiB is reached by PSE-36")
    func pse36() throws {
        let machine = try M(form: .twoLevel)
        let window = machine.window
        machine.poke(map: window, to: 0x12_3400_0000, M.all, .directory)
        #expect(machine.reach(window + 0x20_5678, .write) == 0x12_3420_5678)
        machine.verify()
    }

    @Test("without CR4.PSE an entry with PS names a table, for that processor alone")
    func pageSizeExtensionsDiffer() throws {
        let machine = try M(processors: 2, form: .twoLevel)
        let page = machine.page
        // Bits 21…12 are zero: both a 4 MiB page and a table.
        let table: UInt64 = 20 << 20
        machine.poke(map: page, to: table, M.all, .directory)
        machine.poke(table, a | M.all)
        #expect(machine.reach(page) == table)
        machine.current = 1
        machine.mode.cr4 &= ~CR4.pageSizeExtensions
        machine.load()
        #expect(machine.reach(page) == a)
        machine.verify("without")
        machine.current = 0
        #expect(machine.reach(page) == table)
        machine.verify("with")
    }

    // MARK: Self-maps

    @Test(
        "a 2-level directory that maps itself is a table in both its quadrants",
        arguments: TestMachine.policies)
    func selfMapTwoLevel(policy: Policy) throws {
        let machine = try M(policy: policy, form: .twoLevel)
        let page = machine.page
        let tables: UInt64 = 0xffc0_0000
        machine.poke(machine.root << 12 + 1023 * 4, machine.root << 12 | M.present | M.writable)
        machine.poke(map: page, to: a, M.all)
        machine.poke(map: page + 2 << 20, to: b, M.all)
        #expect(machine.reach(page) == a && machine.reach(page + 2 << 20) == b)
        let entry = tables | page >> 12 * 4
        #expect(machine.reach(entry) == machine.entryAddress(page, .table))
        machine.write(entry, a + 0x5000 | M.all)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == a + 0x5000)
        // The directory itself, in use at both levels and in several quadrants.
        let own = tables | tables >> 10
        #expect(machine.reach(own) == machine.root << 12)
        #expect(machine.reach(own | 1023 * 4) == machine.root << 12 + 1023 * 4)
        machine.verify("seen")
        machine.write(own | page >> 22 * 4, 0)
        machine.invalidatePage(page)
        #expect(machine.fault(page) == [] && machine.fault(page + 2 << 20) == [])
        #expect(machine.fault(entry) == [])
        machine.verify("cut off")
    }

    @Test(
        "PAE directories that map themselves are tables too",
        arguments: TestMachine.policies)
    func selfMapPAE(policy: Policy) throws {
        let machine = try M(policy: policy, form: .pae)
        let page = machine.page
        // The last directory's last four entries name the four directories.
        let last = machine.peek(machine.root << 12 + 24) & ~0xfff
        for index in 0..<4 as Range<UInt64> {
            let directory = machine.peek(machine.root << 12 + index * 8) & ~0xfff
            machine.poke(last + (508 + index) * 8, directory | M.present | M.writable)
        }
        let tables: UInt64 = 0xff80_0000
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = tables | page >> 12 * 8
        #expect(machine.reach(entry) == machine.entryAddress(page, .table))
        machine.write(entry, b | M.all)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == b)
        let own = 0xffff_c000 | (page >> 30) << 12 | page >> 21 & 511 * 8
        #expect(machine.reach(own) == machine.entryAddress(page, .directory))
        machine.write(own, 0)
        machine.invalidatePage(page)
        #expect(machine.fault(page) == [])
        machine.verify()
    }

    // MARK: What entries mean

    struct Rule: CustomTestStringConvertible {
        var form: PagingForm
        var level: PageLevel
        /// Set in a valid entry.
        var bits: UInt64
        var isReserved: Bool
        var off: Off = .nothing
        enum Off { case nothing, executeDisable, gigabytePages, fourBits }
        var testDescription: String {
            "\(form) \(level) \(String(bits, radix: 16)) without \(off)"
        }
    }

    static let rules: [Rule] = [
        // PSE-36: bit 21, and address bits beyond MAXPHYADDR.
        Rule(form: .twoLevel, level: .directory, bits: M.large | 1 << 21, isReserved: true),
        Rule(form: .twoLevel, level: .directory, bits: M.large | 1 << 20, isReserved: false),
        Rule(
            form: .twoLevel, level: .directory, bits: M.large | 1 << 20, isReserved: true,
            off: .fourBits),
        Rule(
            form: .twoLevel, level: .directory, bits: M.large | 1 << 16, isReserved: false,
            off: .fourBits),
        Rule(form: .twoLevel, level: .directory, bits: M.large | 1 << 12, isReserved: false),
        Rule(form: .twoLevel, level: .table, bits: M.large, isReserved: false),
        Rule(form: .pae, level: .table, bits: 1 << 52, isReserved: true),
        Rule(form: .pae, level: .directory, bits: 1 << 62, isReserved: true),
        Rule(form: .pae, level: .table, bits: 1 << 40, isReserved: true),
        Rule(form: .pae, level: .directory, bits: M.large | 1 << 13, isReserved: true),
        Rule(form: .pae, level: .directory, bits: M.large | 1 << 12, isReserved: false),
        Rule(form: .pae, level: .table, bits: M.noExecute, isReserved: false),
        Rule(
            form: .pae, level: .table, bits: M.noExecute, isReserved: true,
            off: .executeDisable),
        Rule(form: .fourLevel, level: .table, bits: 1 << 52, isReserved: false),
        Rule(form: .fourLevel, level: .pml4, bits: M.large, isReserved: true),
        Rule(
            form: .fourLevel, level: .directory, bits: M.noExecute, isReserved: true,
            off: .executeDisable),
        Rule(form: .fourLevel, level: .directoryPointer, bits: M.large, isReserved: false),
        Rule(
            form: .fourLevel, level: .directoryPointer, bits: M.large, isReserved: true,
            off: .gigabytePages),
        Rule(form: .fourLevel, level: .table, bits: 1 << 38, isReserved: false),
        Rule(form: .fourLevel, level: .table, bits: 1 << 38, isReserved: true, off: .fourBits),
        Rule(form: .fiveLevel, level: .pml5, bits: M.large, isReserved: true),
        Rule(form: .fiveLevel, level: .pml4, bits: M.large, isReserved: true),
        Rule(form: .fiveLevel, level: .pml5, bits: 1 << 51, isReserved: true),
        Rule(form: .fiveLevel, level: .pml5, bits: 1 << 58, isReserved: false),
    ]

    @Test("reserved bits depend on the mode, for each processor its own", arguments: rules)
    func reserved(rule: Rule) throws {
        let machine = try M(processors: 2, form: rule.form)
        let page = machine.page
        machine.poke(map: page, to: a, M.all)
        let entry = machine.entryAddress(page, rule.level)
        var value = machine.peek(entry)
        if rule.bits & M.large != 0 && rule.level != .table { value &= 0xfff }
        machine.poke(entry, value | rule.bits)
        machine.current = 1
        switch rule.off {
        case .nothing: break
        case .executeDisable: machine.mode.efer &= ~EFER.executeDisableEnable
        case .gigabytePages: machine.mode.hasGigabytePages = false
        case .fourBits: machine.mode.physicalAddressBits = 36
        }
        machine.load()
        #expect((machine.fault(page) == [.present, .reserved]) == rule.isReserved)
        #expect((machine.reach(page) == nil) == rule.isReserved)
        machine.verify()
        // Where nothing is off, what is reserved on the one is so on the other.
        guard rule.off != .nothing && rule.isReserved else { return }
        machine.current = 0
        #expect(machine.reach(page) != nil)
        machine.verify("the other")
        machine.current = 1
        #expect(machine.fault(page) == [.present, .reserved])
    }

    @Test(
        "EFER.NXE may differ between processors that share their tables",
        arguments: [PagingForm.pae, .fourLevel, .fiveLevel], TestMachine.policies)
    func executeDisableDiffers(form: PagingForm, policy: Policy) throws {
        let machine = try M(processors: 2, policy: policy, form: form)
        let page = machine.page
        let other = page + 0x1000
        machine.poke(map: page, to: a, M.all | M.noExecute)
        machine.poke(map: other, to: b, M.all)
        #expect(machine.reach(page) == a)
        #expect(machine.fault(page, .fetch) == [.present, .fetch])
        machine.current = 1
        machine.mode.efer &= ~EFER.executeDisableEnable
        machine.load()
        #expect(machine.fault(page) == [.present, .reserved])
        #expect(machine.reach(other, .fetch) == b)
        // I/D needs NXE or SMEP.
        #expect(machine.fault(page, .fetch) == [.present, .reserved])
        let entry = machine.entryAddress(other, .table)
        machine.edit(entry, machine.peek(entry) | M.noExecute)
        machine.invalidatePage(other)
        #expect(machine.fault(other) == [.present, .reserved])
        machine.verify("off")
        machine.current = 0
        machine.cache.removeAll()
        #expect(machine.reach(other) == b && machine.reach(page) == a)
        machine.verify("on")
    }

    // MARK: Modes

    @Test(
        "a guest may go from any form to any other, and back, by way of no paging",
        arguments: PagingForm.allCases, PagingForm.allCases)
    func switches(from: PagingForm, to: PagingForm) throws {
        let machine = try M(form: from)
        machine.poke(map: machine.page, to: a, M.all)
        #expect(machine.reach(machine.page) == a)
        let first = machine.mode
        for _ in 0..<2 {
            machine.mode.cr0 &= ~CR0.paging
            machine.cache.removeAll()
            machine.load()
            #expect(machine.reach(0x1234, .write) == 0x1234)
            #expect(machine.mmu.audit() == [])
            machine.enter(to)
            machine.poke(map: machine.page, to: b, M.all)
            #expect(machine.reach(machine.page) == b)
            #expect(machine.mmu.liveTop(processor: 0) == (to == .fiveLevel ? .pml5 : .pml4))
            machine.verify("there")
            machine.mode = first
            machine.cache.removeAll()
            machine.load()
            #expect(machine.reach(machine.page) == a)
            machine.verify("back")
        }
    }

    @Test("a 5-level guest uses all 57 bits of an address")
    func fiveLevels() throws {
        let machine = try M(form: .fiveLevel)
        let low: UInt64 = 0x00ff_ffff_ffff_f000
        let high: UInt64 = 0xff00_0000_0000_0000
        machine.poke(map: low, to: a, M.all)
        machine.poke(map: high, to: b, M.all)
        // The same bits below the fifth level.
        machine.poke(map: 0x0000_ffff_ffff_f000, to: b + 0x1000, M.all)
        #expect(machine.reach(low) == a && machine.reach(high) == b)
        #expect(machine.reach(0x0000_ffff_ffff_f000) == b + 0x1000)
        machine.verify("mapped")
        // What is cached goes at the right address.
        machine.edit(machine.entryAddress(high, .table), 0)
        let before = machine.mmu.ledger.fullInvalidations
        machine.drain(.rootLoaded)
        #expect(machine.mmu.ledger.fullInvalidations == before)
        #expect(machine.cache[high >> 12] == nil)
        #expect(machine.fault(high) == [])
        machine.verify("gone")
    }

    @Test(
        "a 2-level table that is zeroed and reused as data stops being recorded, in both halves")
    func reuse() throws {
        let machine = try M(form: .twoLevel)
        let page = machine.page
        for half in [page, page + 2 << 20] {
            machine.poke(map: half, to: a, M.all)
            #expect(machine.reach(half) == a)
        }
        let table = machine.entryAddress(page, .table)
        // Only the lower half is written, and the upper one is given up too.
        for round in 0..<20 as Range<UInt64> {
            for index in 0..<512 as Range<UInt64> {
                machine.edit(table + index * 4, round * 0x1111_2222)
            }
        }
        machine.invalidatePage(page)
        #expect(machine.mmu.ledger.shadowPagesAbandoned == 2)
        #expect(machine.mmu.ledger.recordsDrained <= 2 * 512)
        machine.verify()
    }

    @Test(
        "4-byte writes are what a 32-bit guest makes, and do not end a table in use",
        arguments: [PagingForm.twoLevel, .pae])
    func narrowWrites(form: PagingForm) throws {
        let machine = try M(form: form)
        let page = machine.page
        for index in 0..<16 as Range<UInt64> {
            machine.poke(map: page + index << 12, to: a + index << 12, M.all | M.dirty)
            #expect(machine.reach(page + index << 12) == a + index << 12)
        }
        let table = machine.entryAddress(page, .table)
        for index in 0..<32 as Range<UInt64> {
            machine.write(
                machine.directMap + table + index * 4, half: 0)
        }
        machine.drain(.bufferThreshold)
        #expect(machine.mmu.ledger.shadowPagesAbandoned == 0)
        machine.verify()
    }

    @Test(
        "a guest that uses its 32-bit tables for everything ends nothing but itself",
        arguments: [PagingForm.twoLevel, .pae, .fiveLevel], TestMachine.policies)
    func cyclic(form: PagingForm, policy: Policy) throws {
        let machine = try M(shadowPages: 24, policy: policy, form: form)
        let first: UInt64 = 0x200
        var seed: UInt64 = 99
        func next() -> UInt64 {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return seed
        }
        for table in first..<first + 64 {
            for index in 0..<4096 / form.entryBytes {
                let bits = form == .pae && index < 4 ? M.present : M.all
                machine.poke(
                    table << 12 + index * form.entryBytes, (first + next() >> 58) << 12 | bits)
            }
        }
        for step in 0..<2000 {
            if step % 50 == 0 {
                // A million roots, in small.
                machine.mode.cr3 = (first + next() >> 58) << 12
                machine.cache.removeAll()
                machine.load()
            }
            let address: UInt64 =
                switch form {
                case .twoLevel, .pae: next() >> 32
                case .fourLevel, .fiveLevel: UInt64(bitPattern: Int64(bitPattern: next()) >> 7)
                }
            let page = machine.reach(address & ~0xfff, step % 2 == 0 ? .write : [])
            #expect(page.map { $0 >> 12 } ?? first >= first)
        }
        machine.verify()
        #expect(machine.mmu.ledger.shadowPagesPeak < 24)
    }
}
