import Hypervisor
import MachineMemory
import Testing
import X86

@Suite("Random guests")
struct PropertyTests {
    typealias M = TestMachine

    struct Generator {
        var state: UInt64
        mutating func next(_ bound: UInt64) -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return (state >> 11) % bound
        }
    }

    @Test(
        "after each drain the shadow says what the guest's tables say",
        arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64], TestMachine.policies)
    func randomEdits(seed: UInt64, policy: Policy) throws {
        var policy = policy
        if policy.nesting != nil {
            policy = try .agile(NestingParameters(writes: 1 + seed / 3 % 2, quiet: 2))
        }
        var random = Generator(state: seed &* 0x9e37_79b9_7f4a_7c15)
        // Small pools reclaim, large ones do not.
        let few = ShadowMMU.leastPages(processors: 1, policy: policy) + 5
        let machine = try M(shadowPages: seed % 2 == 0 ? few : 128, policy: policy)
        let first: UInt64 = 0x300
        let tables: UInt64 = 24
        // A few addresses per level, so that accesses meet edits.
        func address() -> UInt64 {
            random.next(3) << 39 | random.next(3) << 30 | random.next(3) << 21
                | random.next(3) << 12
        }
        func entry() -> UInt64 {
            var value: UInt64 = 0
            if random.next(8) != 0 { value |= M.present }
            if random.next(4) != 0 { value |= M.writable }
            if random.next(4) != 0 { value |= M.user }
            if random.next(2) != 0 { value |= M.accessed }
            if random.next(2) != 0 { value |= M.dirty }
            if random.next(4) == 0 { value |= M.global }
            if random.next(6) == 0 { value |= M.noExecute }
            if random.next(40) == 0 { value |= 1 << 44 }
            switch random.next(8) {
            case 0: value |= M.large | random.next(24) << 21
            case 1: value |= M.large
            case 2: value |= 0xc000_0000
            default: value |= (first + random.next(tables)) << 12
            }
            return value
        }
        for _ in 0..<4 {
            machine.poke(machine.root << 12 + random.next(3) * 8, (first << 12) | M.all)
        }
        for table in first..<first + tables {
            for index in 0..<3 as Range<UInt64> { machine.poke(table << 12 + index * 8, entry()) }
        }
        let kinds: [AccessKind] = [[], .write, .fetch, .user, [.user, .write], .implicit]
        var reached = 0
        var faulted = 0
        for step in 0..<3000 {
            switch random.next(10) {
            case 0...3:
                let kind = kinds[Int(random.next(6))]
                let target = address()
                if machine.reach(target, kind) != nil {
                    reached += 1
                } else {
                    faulted += 1
                    // An entry that permits is never hidden by an older one that did not.
                    #expect(!machine.isPermitted(target, kind), "seed \(seed) step \(step)")
                }
            case 4...6:
                machine.edit(
                    (first + random.next(tables)) << 12 + random.next(3) * 8, entry(),
                    processor: Int(random.next(2)))
            case 7:
                machine.edit(
                    machine.root << 12 + random.next(3) * 8,
                    (first + random.next(4)) << 12 | M.all)
            case 8:
                let target = address()
                machine.invalidatePage(target)
                machine.verifyInvalidated(target, "seed \(seed) step \(step)")
            default:
                let table = GuestPhysicalAddress((first + random.next(tables)) << 12)
                machine.poke(table.rawValue, entry())
                machine.mmu.guestMemoryWritten(table..<table + 8)
            }
            if policy.nesting != nil && step % 12 == 11 { machine.load() }
            if step % 100 == 99 { machine.verify("seed \(seed) step \(step)") }
        }
        #expect(reached > 100 && faulted > 100)
        switch policy.protection {
        case .recorded: #expect(machine.mmu.ledger.recordsDrained > 250)
        case .readOnly where policy.nesting != nil:
            #expect(machine.mmu.ledger.tableWrites.sum > 100)
            #expect(machine.mmu.ledger.tablesNested > 20)
            #expect(machine.mmu.ledger.tablesReturned > 10)
            #expect(machine.mmu.ledger.watchesEnded > 10)
        case .readOnly:
            #expect(machine.mmu.ledger.tableWrites.sum > 250)
            #expect((machine.mmu.ledger.tablesUnsynced > 0) == policy.unsyncsLeafTables)
        }
        if seed % 2 == 0 { #expect(machine.mmu.ledger.shadowPagesReclaimed > 0) }
    }
}
