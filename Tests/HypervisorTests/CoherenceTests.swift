import Hypervisor
import MachineMemory
import Testing
import X86

/// The cases that break naive shadow paging, as far as they concern the write buffer.
@Suite("Coherence with recorded writes")
struct CoherenceTests {
    typealias M = TestMachine
    let page: UInt64 = 0x40_0000_0000
    let a: UInt64 = 0x20_0000
    let b: UInt64 = 0x30_0000

    @Test(
        "a changed entry takes effect at INVLPG, and not through a stale translation after it",
        arguments: TestMachine.policies, PagingForm.allCases)
    func change(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let page = machine.page
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = machine.entryAddress(page, .table)
        machine.edit(entry, b | M.all)
        let isStale = policy.protection == .recorded || policy.unsyncsLeafTables
        #expect(machine.reach(page) == (isStale ? a : b), "stale, as a TLB may be, or not")
        machine.invalidatePage(page)
        #expect(machine.reach(page) == b)
        machine.verify()
    }

    @Test("the write of one processor is applied when another executes INVLPG")
    func otherProcessor() throws {
        let machine = try M()
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        machine.edit(machine.entryAddress(page, .table), 0, processor: 1)
        #expect(machine.rings[1].pending == 1)
        machine.invalidatePage(page)
        #expect(machine.rings[1].pending == 0)
        #expect(machine.fault(page) == [])
        machine.verify()
    }

    @Test(
        "a non-leaf entry is stale no longer than until any INVLPG, whatever its address",
        arguments: TestMachine.policies, PagingForm.allCases)
    func nonLeaf(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let page = machine.page
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        machine.edit(machine.entryAddress(page, .directory), 0)
        machine.invalidatePage(0x1234_5000)
        #expect(machine.fault(page) == [])
        machine.verify()
    }

    @Test(
        "writes below a table are applied before an entry that leads to it becomes present",
        arguments: TestMachine.policies, PagingForm.allCases)
    func descendantsFirst(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let page = machine.page
        let alias = page + 1 << 30
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        // The page table gets a second parent, and its entry changes, before either is used.
        let directory = machine.entryAddress(page, .directory)
        machine.edit(machine.entryAddress(page, .table), b | M.all)
        machine.poke(machine.entryAddress(alias, .directory), machine.peek(directory))
        #expect(machine.reach(alias) == b)
        machine.verify()
    }

    @Test(
        "an entry that has become present needs no flush", arguments: TestMachine.policies,
        PagingForm.allCases)
    func becamePresent(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let page = machine.page
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let other = page + 0x1000
        #expect(machine.fault(other, .write) == .write)
        machine.edit(machine.entryAddress(other, .table), b | M.all)
        #expect(machine.reach(other, .write) == b)
        machine.verify()
    }

    @Test(
        "an entry written in halves is read as what it is in the end",
        arguments: TestMachine.policies, [PagingForm.pae, .fourLevel, .fiveLevel])
    func halves(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let page = machine.page
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = machine.entryAddress(page, .table)
        machine.write(machine.directMap + entry, half: UInt32(b | M.all | M.accessed))
        machine.write(machine.directMap + entry + 4, half: 0x8000_0000)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == b)
        #expect(machine.fault(page, .fetch) == [.present, .fetch])
        machine.verify()
    }

    @Test(
        "what a device writes into a page table is applied when it is told",
        arguments: TestMachine.policies, PagingForm.allCases)
    func deviceWrites(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let page = machine.page
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = GuestPhysicalAddress(machine.entryAddress(page, .table))
        machine.poke(entry.rawValue, b | M.all)
        machine.mmu.guestMemoryWritten(entry..<entry + 8)
        #expect(machine.reach(page) == b)
        machine.mmu.guestMemoryWritten(
            GuestPhysicalAddress(0)..<GuestPhysicalAddress(UInt64.max))
        machine.mmu.guestMemoryWritten(
            GuestPhysicalAddress(.max - 1)..<GuestPhysicalAddress(.max))
        machine.verify()
    }

    @Test("a frame that was written untraced is recorded from its first use as a table")
    func shootDown() throws {
        let machine = try M()
        let table = machine.newTable() << 12
        // The cache holds a writable, untraced, large translation of the coming table.
        machine.write(machine.directMap + table, a | M.all)
        #expect(machine.cache[(machine.directMap + table) >> 12]?.traced == false)
        machine.poke(machine.entryAddress(page, .directory), table | M.all)
        #expect(machine.reach(page) == a)
        machine.edit(table, b | M.all)
        #expect(machine.rings[0].pending == 1)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == b)
        // A second table in the same, now split, large page: a 4 KiB translation to shoot down.
        let second = machine.newTable() << 12
        machine.write(machine.directMap + second, a | M.all)
        #expect(machine.cache[(machine.directMap + second) >> 12]?.traced == false)
        machine.poke(machine.entryAddress(page + 2 << 20, .directory), second | M.all)
        #expect(machine.reach(page + 2 << 20) == a)
        machine.edit(second, b | M.all)
        machine.invalidatePage(page + 2 << 20)
        #expect(machine.reach(page + 2 << 20) == b)
        machine.verify()
    }

    @Test("entries are read after their table is traced, not before")
    func readAfterTracing() throws {
        let machine = try M()
        let table = machine.newTable() << 12
        machine.write(machine.directMap + table, a | M.all)
        machine.poke(machine.entryAddress(page, .directory), table | M.all)
        // The last moment at which another processor can write unrecorded.
        machine.atInvalidation = { machine.poke(table, self.b | M.all | M.accessed) }
        #expect(machine.reach(page) == b)
        #expect(machine.atInvalidation == nil)
        machine.verify()
    }

    @Test("a table inside a large mapping splits it, and it is merged when the table is gone")
    func splitAndMerge() throws {
        let machine = try M()
        let window: UInt64 = 0x50_0000_0000
        machine.poke(map: window, to: 2 << 20, M.all, .directory)
        #expect(machine.reach(window + 0x5000, .write) == 0x20_5000)
        machine.edit(machine.entryAddress(page, .directory), 0)
        let before = machine.mmu.ledger.shadowPagesLive
        let table: UInt64 = 0x20_7000
        machine.poke(table, b | M.all)
        machine.poke(machine.entryAddress(page, .directory), table | M.all)
        #expect(machine.reach(page) == b)
        // The rest of the large page stays reachable, and the table is traced inside it.
        #expect(machine.reach(window + 0x5000, .write) == 0x20_5000)
        #expect(machine.cache[(window + 0x5000) >> 12]?.traced == false)
        #expect(machine.reach(window + 0x7000, .write) == 0x20_7000)
        #expect(machine.cache[(window + 0x7000) >> 12]?.traced == true)
        machine.verify("split")
        machine.edit(machine.entryAddress(page, .directory), 0)
        machine.invalidatePage(page)
        #expect(machine.reach(window + 0x7000, .write) == 0x20_7000)
        #expect(machine.cache[(window + 0x7000) >> 12]?.traced == false)
        machine.verify("merged")
        // Of `page` one more upper table is left; the split page and the last table are gone.
        #expect(machine.mmu.ledger.shadowPagesLive == before + 1)
    }

    @Test("a page table that is zeroed and reused as data stops being recorded")
    func reuse() throws {
        let machine = try M()
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let table = machine.entryAddress(page, .table)
        for round in 0..<20 as Range<UInt64> {
            for index in 0..<512 as Range<UInt64> {
                machine.edit(table & ~0xfff + index * 8, round * 0x1111_2222_3333)
            }
        }
        machine.invalidatePage(page)
        #expect(machine.mmu.ledger.shadowPagesAbandoned == 1)
        #expect(machine.mmu.ledger.recordsDrained <= 2 * 512)
        machine.verify("abandoned")
        // It can become a table again.
        machine.edit(table, b | M.all)
        #expect(machine.reach(page) == b)
        machine.verify("a table again")
    }

    @Test(
        "write-protecting every entry of a table in use does not end it",
        arguments: TestMachine.policies, PagingForm.allCases)
    func protectAll(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let page = machine.page
        for index in 0..<512 as Range<UInt64> {
            machine.poke(map: page + index << 12, to: a + index << 12, M.all | M.dirty)
            #expect(machine.reach(page + index << 12, .write) == a + index << 12)
        }
        let table = machine.entryAddress(page, .table)
        for index in 0..<512 as Range<UInt64> {
            let entry = table + index * form.entryBytes
            machine.edit(entry, machine.peek(entry) & ~M.writable)
        }
        machine.invalidatePage(page + 511 << 12)
        #expect(machine.mmu.ledger.shadowPagesAbandoned == 0)
        #expect(machine.fault(page + 511 << 12, [.write, .user]) == [.present, .write, .user])
        machine.verify()
    }

    @Test("a root's page of a dead process is given up, a live one is not")
    func rootReuse() throws {
        let machine = try M()
        let old = machine.mode.cr3
        let next = machine.newTable()
        for index in 256..<512 as Range<UInt64> {
            machine.poke(next << 12 + index * 8, machine.peek(old + index * 8))
        }
        machine.poke(map: page, to: a, M.all, root: next)
        machine.mode.cr3 = next << 12
        machine.cache.removeAll()
        machine.load()
        #expect(machine.reach(page) == a)
        machine.mode.cr3 = old
        machine.cache.removeAll()
        machine.load()
        for index in 0..<512 as Range<UInt64> { machine.edit(next << 12 + index * 8, 0) }
        for index in 0..<256 as Range<UInt64> { machine.edit(old + index * 8, 0) }
        machine.invalidatePage(page)
        #expect(machine.mmu.ledger.shadowPagesAbandoned == 1)
        machine.verify()
    }

    @Test(
        "a cached root that is loaded without a flush shows what changed meanwhile",
        arguments: TestMachine.policies)
    func cachedRoot(policy: Policy) throws {
        let machine = try M(policy: policy)
        let old = machine.mode.cr3
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = machine.entryAddress(page, .table)
        let next = machine.newTable()
        for index in 256..<512 as Range<UInt64> {
            machine.poke(next << 12 + index * 8, machine.peek(old + index * 8))
        }
        machine.mode.cr4 |= CR4.pcidEnable
        machine.mode.cr3 = next << 12 | 1
        machine.cache.removeAll()
        machine.load()
        machine.edit(entry, b | M.all)
        let made = machine.mmu.ledger.shadowPagesMade
        machine.mode.cr3 = old | 2 | CR3.noFlush
        machine.cache.removeAll()
        machine.load()
        #expect(machine.mmu.ledger.shadowPagesMade == made)
        #expect(machine.reach(page) == b)
        machine.verify()
    }

    @Test(
        "a permission taken away ends every writable translation at the next operation",
        arguments: TestMachine.policies, PagingForm.allCases)
    func revoke(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let page = machine.page
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page, .write) == a)
        let entry = machine.entryAddress(page, .table)
        machine.edit(entry, machine.peek(entry) & ~M.writable)
        machine.invalidatePage(page)
        #expect(machine.fault(page, .write) == [.present, .write])
        #expect(machine.reach(page) == a)
        machine.verify()
    }

    @Test(
        "INVLPG drops every fragment of a large page that is split in the shadow",
        arguments: TestMachine.policies, PagingForm.allCases)
    func fragments(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let window = machine.window
        machine.poke(map: window, to: 0, M.all, .directory)
        // The root's frame lies in it, so it is split.
        for offset in 0..<8 as Range<UInt64> {
            #expect(machine.reach(window + offset << 12, .write) == offset << 12)
        }
        machine.edit(
            machine.entryAddress(window, .directory), 4 << 20 | M.all | M.large)
        machine.invalidatePage(window)
        for offset in 0..<8 as Range<UInt64> {
            #expect(machine.reach(window + offset << 12) == 4 << 20 + offset << 12)
        }
        machine.verify()
    }

    @Test("the auditor and the ledger only read")
    func readOnly() throws {
        let machine = try M()
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        machine.edit(machine.entryAddress(page, .table), b | M.all)
        let ledger = machine.mmu.ledger
        let digest = machine.memory.guestDigest()
        let invalidations = machine.invalidations
        #expect(machine.mmu.audit() != [], "the shadow is stale, and the auditor sees it")
        #expect(machine.mmu.ledger == ledger)
        #expect(machine.memory.guestDigest() == digest)
        #expect(machine.invalidations == invalidations)
        #expect(machine.rings[0].pending == 1)
        #expect(machine.reach(page) == a)
    }

    @Test("of an unsynced table INVLPG applies one entry, and a load of CR3 all of them")
    func unsyncedTable() throws {
        let machine = try M(policy: .shadow(.readOnly, unsyncsLeafTables: true))
        let other = page + 0x1000
        machine.poke(map: page, to: a, M.all)
        machine.poke(map: other, to: a, M.all)
        #expect(machine.reach(page) == a && machine.reach(other) == a)
        machine.edit(machine.entryAddress(page, .table), b | M.all)
        machine.edit(machine.entryAddress(other, .table), b | M.all)
        #expect(machine.mmu.ledger.tableWrites.sum == 1, "the second write passes")
        #expect(machine.reach(page) == a && machine.reach(other) == a)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == b && machine.reach(other) == a)
        #expect(machine.mmu.audit() == [])
        machine.cache.removeAll()
        machine.load()
        #expect(machine.reach(other) == b)
        machine.edit(machine.entryAddress(page, .table), a | M.all)
        #expect(machine.mmu.ledger.tableWrites.sum == 2, "protected again")
        // A directory's entry is never stale.
        machine.edit(machine.entryAddress(page, .directory), 0)
        #expect(machine.fault(page) == [])
        machine.verify()
    }

    @Test("an unsynced table that is used at a second level is protected and read")
    func unsyncedTableRises() throws {
        let machine = try M(policy: .shadow(.readOnly, unsyncsLeafTables: true))
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = machine.entryAddress(page, .table)
        machine.edit(entry, b | M.all | M.accessed)
        // The same table as a directory: its entry leads to the table at b.
        machine.poke(b, a + 0x1000 | M.all)
        machine.poke(
            machine.entryAddress(page + 1 << 30, .directoryPointer), entry & ~0xfff | M.all)
        #expect(machine.reach(page + 1 << 30) == a + 0x1000)
        #expect(machine.mmu.ledger.tablesResynced == 1)
        #expect(machine.mmu.audit() == [])
        let writes = machine.mmu.ledger.tableWrites.sum
        machine.edit(entry, 0)
        #expect(machine.mmu.ledger.tableWrites.sum == writes + 1)
        #expect(machine.mmu.ledger.tablesUnsynced == 1)
        #expect(machine.fault(page) == [] && machine.fault(page + 1 << 30) == [])
        machine.verify()
    }

    @Test(
        "what a link makes reachable is not older than the link",
        arguments: TestMachine.policies, PagingForm.allCases)
    func linkedLater(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let page = machine.page
        let other: UInt64 = 0x1000
        machine.poke(map: page, to: a, M.all)
        machine.poke(map: page + other, to: a, M.all)
        #expect(machine.reach(page) == a && machine.reach(page + other) == a)
        machine.edit(machine.entryAddress(page + other, .table), b | M.all | M.accessed)
        // A second parent. Nobody has had a translation by it, so none may be old.
        let alias = page + 1 << 30
        machine.edit(
            machine.entryAddress(alias, .directory),
            machine.peek(machine.entryAddress(page, .directory)))
        #expect(machine.reach(alias) == a)
        #expect(machine.reach(alias + other) == b)
        machine.verify()
    }

    @Test(
        "a link that grants more grants it to nothing older than itself",
        arguments: TestMachine.policies,
        [PageLevel.directory, .directoryPointer, .pml4])
    func linkGrantsMore(policy: Policy, level: PageLevel) throws {
        // What the link withholds, the leaf had and gives up, and the access that asks for it.
        let cases: [(bit: UInt64, withheld: UInt64, kind: AccessKind)] = [
            (M.writable, 0, .write), (M.user, 0, .user), (M.noExecute, M.noExecute, .fetch),
        ]
        for (bit, withheld, kind) in cases {
            let machine = try M(policy: policy)
            machine.poke(map: page, to: a, M.all | M.dirty | M.accessed)
            let link = machine.entryAddress(page, level)
            machine.poke(link, machine.peek(link) & ~bit | withheld)
            #expect(machine.reach(page) == a)
            // Under `unsync` no exit tells of this write.
            let leaf = machine.entryAddress(page, .table)
            machine.edit(leaf, machine.peek(leaf))
            machine.edit(leaf, machine.peek(leaf) ^ bit)
            machine.edit(link, machine.peek(link) ^ bit)
            #expect(machine.fault(page, kind) != nil, "\(kind) at \(level)")
            machine.verify()
        }
    }

    @Test(
        "a link that takes the user's right away does not let the supervisor execute an older page",
        arguments: TestMachine.policies,
        [PageLevel.directory, .directoryPointer, .pml4])
    func linkTakesUser(policy: Policy, level: PageLevel) throws {
        let machine = try M(policy: policy)
        machine.mode.cr4 |= CR4.supervisorExecutionPrevention
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page, .user) == a)
        #expect(machine.fault(page, .fetch) == [.present, .fetch])
        let leaf = machine.entryAddress(page, .table)
        let link = machine.entryAddress(page, level)
        machine.edit(leaf, machine.peek(leaf))
        machine.edit(leaf, b | M.all)
        machine.edit(link, machine.peek(link) & ~M.user)
        #expect(machine.reach(page, .fetch) == b)
        machine.verify()
    }

    @Test(
        "a page fault ends what is cached for its page, though it permits other accesses",
        arguments: TestMachine.policies, PagingForm.allCases)
    func faultEnds(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let page = machine.page
        machine.poke(map: page, to: a, M.present | M.writable)
        #expect(machine.reach(page) == a)
        machine.edit(machine.entryAddress(page, .table), 0)
        #expect(machine.fault(page, .user) == .user)
        #expect(machine.fault(page) == [])
        machine.verify()
    }
}
