import Hypervisor
import MachineMemory
import Testing
import X86

/// Tables that move from the shadow to nested paging and back, under `agile`.
@Suite("Tables that nest and return")
struct NestingTests {
    typealias M = TestMachine
    let page: UInt64 = 0x40_0000_0000
    let a: UInt64 = 0x20_0000
    let b: UInt64 = 0x30_0000

    /// A machine in which `page` is mapped to `a`, and its page table is nested, by three writes.
    private func nested(processors: Int = 1) throws -> M {
        let machine = try M(processors: processors, policy: M.agile)
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = machine.entryAddress(page, .table)
        for _ in 0..<3 { machine.edit(entry + 8, 0) }
        #expect(machine.switchEntry(page)?.shift == 21)
        return machine
    }

    /// Ends an epoch: two loads of the root.
    private func endEpoch(_ machine: M) {
        for _ in 0..<2 { machine.load() }
    }

    @Test("a table nests at the write that was asked for, and later writes do not exit")
    func nests() throws {
        let machine = try M(policy: M.agile)
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = machine.entryAddress(page, .table)
        for number in 1...3 as ClosedRange<UInt64> {
            #expect(machine.switchEntry(page) == nil)
            machine.edit(entry, a + number << 12 | M.all)
            #expect(machine.reach(page) == a + number << 12, "in step with each write")
        }
        let ledger = machine.mmu.ledger
        #expect(ledger.tableWrites.sum == 3)
        #expect(ledger.tablesNested == 1)
        // The switch names the guest's table, and all writes from here on pass.
        #expect(
            machine.switchEntry(page)?.raw ?? 0 & PagingEntry.addressMask
                == machine.memory.guestBase + entry & ~0xfff | 1 << 53 | 0x27)
        for number in 4...60 as ClosedRange<UInt64> {
            machine.edit(entry, a + number << 12 | M.all)
            machine.invalidatePage(page)
            #expect(machine.reach(page, .write) == a + number << 12)
            #expect(machine.peek(entry) & (M.accessed | M.dirty) == M.accessed | M.dirty)
        }
        #expect(machine.mmu.ledger.tableWrites.sum == 3)
        #expect(machine.mmu.ledger.hiddenFaults == ledger.hiddenFaults)
        machine.verify()
    }

    @Test("writes of different epochs are not counted together")
    func slowWrites() throws {
        let machine = try M(policy: M.agile)
        machine.poke(map: page, to: a, M.all)
        let entry = machine.entryAddress(page, .table)
        for number in 0..<12 as Range<UInt64> {
            #expect(machine.reach(page) == a)
            machine.edit(entry + 8, number << 12)
            if number % 2 == 1 { endEpoch(machine) }
        }
        #expect(machine.mmu.ledger.tableWrites.sum == 12)
        #expect(machine.mmu.ledger.tablesNested == 0)
    }

    @Test("a quiet table returns after it was watched for an epoch, and is followed again")
    func returns() throws {
        let machine = try nested()
        let entry = machine.entryAddress(page, .table)
        #expect(machine.reach(page, .write) == a)
        endEpoch(machine)
        machine.verify("watched")
        #expect(machine.switchEntry(page) != nil)
        endEpoch(machine)
        machine.verify("returned")
        #expect(machine.switchEntry(page) == nil)
        #expect(machine.mmu.ledger.tablesReturned == 1)
        #expect(machine.reach(page) == a)
        machine.edit(entry, b | M.all)
        #expect(machine.mmu.ledger.tableWrites.sum == 4)
        #expect(machine.reach(page) == b)
        machine.verify("followed")
    }

    @Test("the first write to a watched table exits, no other does, and it stays nested")
    func watched() throws {
        let machine = try nested()
        let entry = machine.entryAddress(page, .table)
        for epoch in 1...4 as ClosedRange<UInt64> {
            endEpoch(machine)
            machine.verify("watched")
            for number in 0..<5 as Range<UInt64> { machine.edit(entry, a + number << 12 | M.all) }
            #expect(machine.mmu.ledger.watchesEnded == epoch)
            machine.invalidatePage(page)
            #expect(machine.reach(page) == a + 4 << 12)
            #expect(machine.switchEntry(page) != nil)
            machine.verify("written")
        }
        #expect(machine.mmu.ledger.tablesReturned == 0)
        #expect(machine.mmu.ledger.tableWrites.sum == 3)
        #expect(machine.mmu.ledger.spuriousFaults == 0)
    }

    @Test("A and D that the processor sets do not count as writes: such a table is quiet")
    func accessedIsQuiet() throws {
        let machine = try nested()
        for number in 2..<40 as Range<UInt64> {
            machine.poke(map: page + number << 12, to: b, M.all)
        }
        endEpoch(machine)
        for number in 2..<40 as Range<UInt64> {
            #expect(machine.reach(page + number << 12, .write) == b)
        }
        endEpoch(machine)
        #expect(machine.mmu.ledger.watchesEnded == 0)
        #expect(machine.mmu.ledger.tablesReturned == 1)
        machine.verify()
    }

    @Test("an upper table nests with all below, and what lay there is followed no longer")
    func upperTable() throws {
        let machine = try M(policy: M.agile)
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let directory = machine.entryAddress(page, .directory)
        for _ in 0..<3 { machine.edit(directory + 8, 0) }
        #expect(machine.switchEntry(page)?.shift == 30)
        let writes = machine.mmu.ledger.tableWrites.sum
        // Large pages, small ones, and back, without an exit for any write.
        machine.edit(machine.entryAddress(page, .table), b | M.all)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == b)
        machine.edit(directory, 0x60_0000 | M.all | M.large)
        machine.invalidatePage(page)
        #expect(machine.reach(page + 0x12_3000, .write) == 0x72_3000)
        machine.edit(directory, 0)
        machine.invalidatePage(page)
        #expect(machine.fault(page, .write) == .write)
        #expect(machine.mmu.ledger.tableWrites.sum == writes)
        machine.verify()
    }

    @Test("an upper entry that is changed takes effect below a switch as well")
    func upperEntry() throws {
        let machine = try nested()
        #expect(machine.reach(page, .write) == a)
        let upper = machine.entryAddress(page, .directoryPointer)
        machine.edit(upper, machine.peek(upper) & ~M.writable)
        machine.invalidatePage(page)
        #expect(machine.fault(page, .write) == [.present, .write])
        #expect(machine.reach(page) == a)
        machine.edit(upper, machine.peek(upper) | M.writable)
        let directory = machine.entryAddress(page, .directory)
        machine.edit(directory, machine.peek(directory) | M.noExecute)
        machine.invalidatePage(page)
        #expect(machine.fault(page, .fetch) == [.present, .fetch])
        #expect(machine.reach(page, .write) == a)
        machine.verify("rights")
        machine.edit(directory, 0)
        #expect(machine.fault(page) == [])
        #expect(machine.mmu.ledger.tablesReturned == 0, "it is no table any more")
        machine.verify("gone")
    }

    @Test("a nested table that becomes a root is shadowed again, at every level")
    func becomesRoot() throws {
        let machine = try M(policy: M.agile)
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let upper = machine.entryAddress(page, .directoryPointer)
        for _ in 0..<3 { machine.edit(upper + 8, 0) }
        #expect(machine.switchEntry(page)?.shift == 39)
        let old = machine.mode.cr3
        let table = upper & ~0xfff
        // As a root, it has the old one's direct map.
        for index in 256..<512 as Range<UInt64>
        where machine.peek(old + index * 8) != 0 {
            machine.edit(table + index * 8, machine.peek(old + index * 8))
        }
        machine.mode.cr3 = table
        machine.cache.removeAll()
        machine.load()
        #expect(machine.mmu.ledger.tablesReturned == 1)
        machine.verify("a root")
        let writes = machine.mmu.ledger.tableWrites.sum
        for _ in 0..<9 { machine.edit(table + 16, 0) }
        #expect(machine.mmu.ledger.tableWrites.sum == writes + 9, "a root does not nest")
        machine.mode.cr3 = old
        machine.cache.removeAll()
        machine.load()
        #expect(machine.switchEntry(page) == nil)
        #expect(machine.reach(page) == a)
        machine.verify("both")
        // A root that no processor walks does not stand in the way of nesting.
        let nested = machine.mmu.ledger.tablesNested
        for _ in 0..<9 { machine.edit(table + 16, 0) }
        #expect(machine.mmu.ledger.tablesNested == nested + 1)
        #expect(machine.reach(page) == a)
        #expect(machine.switchEntry(page)?.shift == 39)
        machine.verify("nested again")
    }

    @Test("a root that no processor walks is given up when it is written often")
    func deadRoot() throws {
        let machine = try M(policy: M.agile)
        let old = machine.mode.cr3
        let next = machine.newTable() << 12
        machine.poke(next + 273 * 8, machine.peek(old + 273 * 8))
        machine.poke(map: page, to: a, M.all, root: next >> 12)
        machine.mode.cr3 = next
        machine.cache.removeAll()
        machine.load()
        #expect(machine.reach(page) == a)
        for _ in 0..<9 { machine.edit(next + 8, 0) }
        #expect(machine.mmu.ledger.tableWrites.sum == 9, "a live one is not")
        machine.mode.cr3 = old
        machine.cache.removeAll()
        for _ in 0..<2 { machine.load() }
        for index in 0..<512 as Range<UInt64> { machine.edit(next + index * 8, 0) }
        #expect(machine.mmu.ledger.tableWrites.sum == 12)
        #expect(machine.mmu.ledger.shadowPagesAbandoned == 1)
        #expect(machine.mmu.ledger.tablesNested == 0)
        machine.verify()
    }

    @Test("a table that maps itself nests, is written through itself, and returns")
    func selfMapped() throws {
        let machine = try M(policy: M.agile)
        machine.poke(map: page, to: a, M.all)
        let directory = machine.entryAddress(page, .directory) & ~0xfff
        // The directory's last entry names the directory: as a page table it maps the tables
        // below it, and its own last page is itself.
        machine.poke(directory + 511 * 8, directory | M.all)
        let window = page + 511 << 21
        #expect(machine.reach(page) == a)
        let table = machine.entryAddress(page, .table) & ~0xfff
        #expect(machine.reach(window) == table)
        #expect(machine.reach(window + 511 << 12) == directory)
        machine.verify("self-mapped")
        for number in 0..<3 as Range<UInt64> {
            machine.write(window + 511 << 12 + 100 * 8, number << 12)
        }
        #expect(machine.switchEntry(page)?.shift == 30)
        machine.verify("nested")
        // Through itself, below the switch: an entry of its own and one of the page table's.
        machine.write(window, b | M.all)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == b)
        machine.write(window + 511 << 12, 0)
        machine.invalidatePage(page)
        #expect(machine.fault(page) == [])
        machine.write(window + 511 << 12, table | M.all)
        #expect(machine.reach(page) == b)
        endEpoch(machine)
        endEpoch(machine)
        #expect(machine.mmu.ledger.tablesReturned == 1)
        #expect(machine.reach(page) == b && machine.reach(window + 511 << 12) == directory)
        machine.verify("returned")
    }

    @Test("what a device writes into a nested table is walked, and into a returned one applied")
    func deviceWrites() throws {
        let machine = try nested()
        let entry = GuestPhysicalAddress(machine.entryAddress(page, .table))
        for target in [b, a, b] {
            machine.poke(entry.rawValue, target | M.all)
            machine.mmu.guestMemoryWritten(entry..<entry + 8)
            machine.invalidatePage(page)
            #expect(machine.reach(page) == target)
            machine.verify()
            endEpoch(machine)
        }
        #expect(machine.mmu.ledger.watchesEnded == 2, "a device's write is one too")
        endEpoch(machine)
        #expect(machine.mmu.ledger.tablesReturned == 1)
        #expect(machine.reach(page) == b)
        machine.poke(entry.rawValue, a | M.all)
        machine.mmu.guestMemoryWritten(entry..<entry + 8)
        #expect(machine.reach(page) == a)
        machine.verify("returned")
    }

    @Test("a table below a nested one that is shadowed elsewhere is followed for that")
    func sharedBelow() throws {
        let machine = try M(policy: M.agile)
        let alias = page + 1 << 30
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        machine.poke(
            machine.entryAddress(alias, .directory),
            machine.peek(machine.entryAddress(page, .directory)))
        #expect(machine.reach(alias) == a)
        let directory = machine.entryAddress(page, .directory)
        for _ in 0..<3 { machine.edit(directory + 8, 0) }
        #expect(machine.switchEntry(page) != nil && machine.switchEntry(alias) == nil)
        machine.verify("one of two parents nested")
        let writes = machine.mmu.ledger.tableWrites.sum
        let entry = machine.entryAddress(page, .table)
        // The processor sets D through the nested parent, in a table that is protected.
        #expect(machine.reach(page, .write) == a)
        #expect(machine.peek(entry) & M.dirty != 0)
        #expect(machine.mmu.ledger.tableWrites.sum == writes + 1)
        machine.verify("D")
        #expect(machine.reach(alias, .write) == a)
        machine.edit(entry, b | M.all)
        #expect(machine.reach(alias) == b)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == b)
        machine.verify("followed")
    }

    @Test("a frame that becomes a table is protected though the second dimension maps it writable")
    func becomesTable() throws {
        let machine = try nested()
        let table = machine.newTable() << 12
        // The nested table maps the coming table, and a writable translation of it is cached.
        machine.edit(machine.entryAddress(page, .table) + 8, table | M.all)
        let window = page + 0x1000
        machine.write(window, a | M.all)
        #expect(machine.cache[window >> 12]?.dirty == true)
        let other = page + 1 << 30
        machine.poke(machine.entryAddress(other, .directory), table | M.all)
        #expect(machine.reach(other) == a)
        machine.verify("a table")
        machine.write(window, b | M.all)
        #expect(machine.reach(other) == b)
        machine.verify("written through the nested part")
    }

    @Test("every processor sees a table nest and return")
    func processors() throws {
        let machine = try nested(processors: 3)
        for processor in 0..<3 { machine.load(processor) }
        machine.verify()
        for epoch in 0..<4 { machine.load(epoch % 3) }
        #expect(machine.mmu.ledger.tablesReturned == 1)
        machine.verify("returned")
    }

    @Test("nested tables and the second dimension stay under the ceiling")
    func ceiling() throws {
        let least = ShadowMMU.leastPagesOfAccess(processors: 1, policy: M.agile)
        let machine = try M(shadowPages: least, policy: M.agile)
        for index in 0..<60 as Range<UInt64> {
            machine.poke(map: page + index << 30, to: index << 20 % (32 << 20), M.all)
        }
        for round in 0..<3 {
            for index in 0..<60 as Range<UInt64> {
                let address = page + index << 30
                let target = index << 20 % (32 << 20)
                #expect(machine.reach(address, .write) == target)
                for _ in 0..<3 { machine.edit(machine.entryAddress(address, .table) + 8, 0) }
                machine.invalidatePage(address)
                #expect(machine.reach(address) == target)
                if index % 16 == 0 {
                    machine.load()
                    machine.verify("\(round) \(index)")
                }
            }
        }
        let ledger = machine.mmu.ledger
        #expect(ledger.shadowPagesPeak == least - 1)
        #expect(ledger.tablesNested > 100)
        #expect(throws: HypervisorError.self) { _ = try M(shadowPages: least - 1, policy: M.agile) }
    }

    @Test("the list of nested tables is bounded: more of them stay in the shadow")
    func manyTables() throws {
        let machine = try M(shadowPages: 12_000, policy: M.agile)
        let count = UInt64(4200)
        machine.nextFrame = 0x1000
        for index in 0..<count {
            machine.poke(map: page + index << 21, to: a, M.all)
            #expect(machine.reach(page + index << 21) == a)
        }
        for index in 0..<count {
            let entry = machine.entryAddress(page + index << 21, .table)
            for _ in 0..<3 { machine.edit(entry + 8, 0) }
        }
        #expect(machine.mmu.ledger.tablesNested == 4096)
        // Some are looked at when an epoch ends, and all in the end.
        endEpoch(machine)
        #expect(machine.mmu.ledger.tablesReturned == 0)
        for _ in 0..<64 { endEpoch(machine) }
        #expect(machine.mmu.ledger.tablesReturned > 0)
        for _ in 0..<64 { endEpoch(machine) }
        #expect(machine.mmu.ledger.tablesReturned == 4096)
        machine.verify()
    }
}
