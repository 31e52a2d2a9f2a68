import Hypervisor
import MachineMemory
import Testing
import X86

@Suite("What no guest can do to the hypervisor")
struct HostileGuestTests {
    typealias M = TestMachine
    let page: UInt64 = 0x40_0000_0000

    @Test("shadow pages stay under the ceiling, and reclaim keeps what is being used")
    func ceiling() throws {
        let ceiling = ShadowMMU.leastPagesOfAccess(processors: 1)
        let machine = try M(shadowPages: ceiling)
        for index in 0..<200 as Range<UInt64> {
            machine.poke(map: page + index << 30, to: index << 12, M.all)
        }
        for round in 0..<3 as Range<UInt64> {
            for index in 0..<200 as Range<UInt64> {
                #expect(machine.reach(page + index << 30, .write) == index << 12)
                if (round + index) % 50 == 0 { machine.verify("\(round) \(index)") }
            }
        }
        let ledger = machine.mmu.ledger
        #expect(ledger.shadowPagesPeak == ceiling - 1)
        #expect(ledger.shadowPagesReclaimed > 400)
        #expect(machine.memory.isMemory(machine.mmu.liveRoot(processor: 0), size: 4096))
    }

    @Test("no processor's root is reclaimed, however long ago it was loaded")
    func liveRoots() throws {
        let machine = try M(shadowPages: ShadowMMU.leastPagesOfAccess(processors: 2), processors: 2)
        let other = machine.newTable()
        machine.poke(map: page, to: 0x5000, M.all, root: other)
        for index in 0..<50 as Range<UInt64> {
            machine.poke(map: page + index << 30, to: index << 12, M.all)
        }
        let mode = machine.mode
        machine.mode.cr3 = other << 12
        machine.load(1)
        let root = machine.mmu.liveRoot(processor: 1)
        machine.mode = mode
        for index in 0..<50 as Range<UInt64> {
            #expect(machine.reach(page + index << 30) == index << 12)
        }
        machine.verify()
        #expect(machine.mmu.ledger.shadowPagesReclaimed > 40)
        #expect(machine.mmu.liveRoot(processor: 1) == root)
        // Still the page of that role, and not one that was made anew.
        let made = machine.mmu.ledger.shadowPagesMade
        machine.mode.cr3 = other << 12
        machine.load(1)
        #expect(machine.mmu.ledger.shadowPagesMade == made)
    }

    @Test("the ceiling is checked against what one access needs")
    func leastCeiling() throws {
        let least = ShadowMMU.leastPagesOfAccess(processors: 1)
        #expect(
            throws: HypervisorError.tooLittleShadowMemory(
                given: (least - 1) * 4096, least: least * 4096)
        ) { _ = try M(shadowPages: least - 1) }
        let memory = try MachineMemory(guestBytes: 4096 * 1024, hypervisorBytes: 4096 * 16)
        #expect(throws: HypervisorError.noHypervisorMemory(needed: 17 * 4096)) {
            _ = try ShadowMMU(memory: memory, caches: [], firstFrame: 1, pageCount: 16)
        }
        #expect(throws: HypervisorError.self) {
            _ = try ShadowMMU(memory: memory, caches: [], firstFrame: 0, pageCount: 1 << 23)
        }
    }

    @Test(
        "a guest that uses every table it has at every level ends nothing but itself",
        arguments: TestMachine.policies)
    func cyclic(policy: Policy) throws {
        let machine = try M(shadowPages: 40, policy: policy)
        // Every entry of 64 tables names one of the 64 tables: cycles of every kind.
        let first: UInt64 = 0x200
        var seed: UInt64 = 99
        for table in first..<first + 64 {
            for index in 0..<512 as Range<UInt64> {
                seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                machine.poke(table << 12 + index * 8, (first + seed >> 58) << 12 | M.all)
            }
        }
        machine.mode.cr3 = first << 12
        machine.load()
        for step in 0..<2000 {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let address = UInt64(bitPattern: Int64(bitPattern: seed) >> 16) & ~0xfff
            let kind: AccessKind = step % 2 == 0 ? .write : .user
            let page = machine.reach(address, kind)
            #expect(page.map { $0 >> 12 } ?? 0 >= first)
        }
        machine.verify()
        #expect(machine.mmu.ledger.shadowPagesPeak < 40)
    }

    @Test(
        "one table that is its own child all the way down translates to itself",
        arguments: TestMachine.policies)
    func ouroboros(policy: Policy) throws {
        let machine = try M(policy: policy)
        let table: UInt64 = 0x300
        machine.poke(table << 12, table << 12 | M.all)
        machine.mode.cr3 = table << 12
        machine.load()
        #expect(machine.reach(0) == table << 12)
        #expect(machine.reach(0, .write) == table << 12)
        #expect(machine.mmu.ledger.shadowPagesLive >= 4)
        machine.verify("mapped")
        // It unmaps itself through itself.
        machine.write(0, 0)
        machine.invalidatePage(0)
        #expect(machine.fault(0) == [])
        machine.verify("unmapped")
    }

    @Test(
        "tables where there is no RAM read as all ones",
        arguments: [PageLevel.pml4, .directoryPointer, .directory])
    func outside(level: PageLevel) throws {
        let machine = try M()
        machine.poke(map: page, to: 0x1000, M.all)
        for frame in [0x4000, 0xfee00, 0x10_0000, 0xfff_ffff] as [UInt64] {
            machine.poke(machine.entryAddress(page, level), frame << 12 | M.all)
            machine.load()
            #expect(machine.fault(page, .write) == [.present, .reserved, .write])
        }
        machine.verify()
    }

    @Test("all ones are no valid entry even where all address bits are")
    func outsideWith52Bits() throws {
        let machine = try M()
        machine.mode.physicalAddressBits = 52
        machine.load()
        machine.poke(map: page, to: 0x1000, M.all)
        machine.poke(machine.entryAddress(page, .directory), 0xf_ffff_0000_0000 | M.all)
        #expect(machine.fault(page) == [.present, .reserved])
        #expect(machine.mmu.audit() == [])
    }

    @Test("a root where there is no RAM makes every access fault")
    func rootOutside() throws {
        let machine = try M()
        machine.mode.cr3 = 0xff_ffff_f000
        machine.cache.removeAll()
        machine.load()
        #expect(machine.fault(page) == [.present, .reserved])
        #expect(machine.fault(0, .user) == [.present, .reserved, .user])
        #expect(machine.mmu.audit() == [])
    }

    @Test("garbage in the ring names nothing, or something harmless")
    func garbageRecords() throws {
        let machine = try M()
        machine.poke(map: page, to: 0x1000, M.all)
        #expect(machine.reach(page) == 0x1000)
        let ring = machine.rings[0]
        for index in 0..<512 as Range<UInt64> {
            machine.memory.store(
                index &* 0x9e37_79b9_7f4a_7c15,
                at: ring.base + (ring.producer + index) * 8 % ring.capacity)
        }
        // A producer that ran away is taken for a full ring.
        machine.rings[0].producer += 1 << 40
        machine.drain(.bufferFull)
        #expect(machine.mmu.ledger.recordsDrained == 512)
        machine.verify()
    }
}
