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

    /// Random entries for tables in a form: addresses, entries, and where they are.
    struct Guest {
        let form: PagingForm
        let first: UInt64 = 0x300
        /// Of 32-bit guests fewer, since fewer are in use at once.
        var tables: UInt64 { form == .twoLevel || form == .pae ? 8 : 24 }

        /// A few indices per level, so that accesses meet edits. Of a 2-level table, in every
        /// quadrant; below PAE's direct map.
        func index(_ level: PageLevel, _ random: inout Generator) -> UInt64 {
            guard form == .twoLevel else { return random.next(3) }
            let wide: [UInt64] =
                level == .table ? [0, 1, 513, 1023] : [0, 1, 300, 600]
            return wide[Int(random.next(4))]
        }

        func address(_ random: inout Generator) -> UInt64 {
            var address: UInt64 = 0
            for level in PageLevel.allCases where level <= form.topLevel {
                address |= index(level, &random) << form.shift(level)
            }
            return address
        }

        /// Where an entry of one of the tables is; of no certain level.
        func place(_ random: inout Generator) -> UInt64 {
            let level: PageLevel = random.next(2) == 0 ? .table : .directory
            return (first + random.next(tables)) << 12
                + index(level, &random) * form.entryBytes
        }

        func entry(_ random: inout Generator) -> UInt64 {
            var value: UInt64 = 0
            if random.next(8) != 0 { value |= M.present }
            if random.next(4) != 0 { value |= M.writable }
            if random.next(4) != 0 { value |= M.user }
            if random.next(2) != 0 { value |= M.accessed }
            if random.next(2) != 0 { value |= M.dirty }
            if random.next(4) == 0 { value |= M.global }
            if form != .twoLevel && random.next(6) == 0 { value |= M.noExecute }
            switch random.next(8) {
            case 0: value |= M.large | random.next(24) << 21 & ~(form.entrySpan(.directory) - 1)
            case 1: value |= M.large
            case 2: value |= 0xc000_0000
            default: value |= (first + random.next(tables)) << 12
            }
            // Mostly reserved bits: address bits beyond all, or of PSE-36 and bit 21.
            if random.next(40) == 0 {
                value |= form == .twoLevel ? M.large | 1 << (13 + random.next(9)) : 1 << 44
            }
            return value
        }

        /// An entry of the table that CR3 names.
        func rootEntry(_ random: inout Generator) -> UInt64 {
            (first + random.next(4)) << 12 | (form == .pae ? M.present : M.all)
        }
    }

    static let kinds: [AccessKind] = [[], .write, .fetch, .user, [.user, .write], .implicit]

    @Test(
        "after each drain the shadow says what the guest's tables say",
        arguments: (1...8).map { (UInt64($0), PagingForm.fourLevel) }
            + (1...2).flatMap { seed in
                [PagingForm.twoLevel, .pae, .fiveLevel].map { (UInt64(seed), $0) }
            },
        TestMachine.policies)
    func randomEdits(_ setting: (seed: UInt64, form: PagingForm), policy: Policy) throws {
        let seed = setting.seed
        let form = setting.form
        var policy = policy
        if policy.nesting != nil {
            policy = try .agile(NestingParameters(writes: 1 + seed % 2, quiet: 2))
        }
        var random = Generator(state: seed &* 0x9e37_79b9_7f4a_7c15)
        // Small pools reclaim, large ones do not.
        let few = ShadowMMU.leastPagesOfAccess(processors: 1, policy: policy) + 5
        let machine = try M(
            shadowPages: seed % 2 == 0 ? few : 192, policy: policy, form: form,
            // Of pages that CR4.PSE does not matter to.
            mapsDirectly: form == .twoLevel ? .table : .directory)
        let guest = Guest(form: form)
        let first = guest.first
        let tables = guest.tables
        func rootPlace() -> UInt64 {
            machine.root << 12 + guest.index(form.topLevel, &random) * form.entryBytes
        }
        for _ in 0..<4 {
            machine.poke(rootPlace(), (first << 12) | (form == .pae ? M.present : M.all))
        }
        machine.load()
        for table in first..<first + tables {
            for _ in 0..<6 {
                machine.poke(guest.place(&random) & 0xfff | table << 12, guest.entry(&random))
            }
        }
        var reached = 0
        var faulted = 0
        for step in 0..<3000 {
            switch random.next(10) {
            case 0...3:
                let kind = Self.kinds[Int(random.next(6))]
                let target = guest.address(&random)
                if machine.reach(target, kind) != nil {
                    reached += 1
                } else {
                    faulted += 1
                    // An entry that permits is never hidden by an older one that did not.
                    #expect(!machine.isPermitted(target, kind), "seed \(seed) step \(step)")
                }
            case 4...6:
                machine.edit(
                    guest.place(&random), guest.entry(&random), processor: Int(random.next(2)))
            case 7:
                if form != .fourLevel && random.next(4) == 0 {
                    // Half an entry, or two at once.
                    let place = machine.directMap + guest.place(&random) & ~7
                    if form == .twoLevel {
                        machine.write(
                            place, whole: guest.entry(&random) | guest.entry(&random) << 32)
                    } else {
                        machine.write(place + 4, half: UInt32(random.next(2) << 31))
                    }
                } else if random.next(8) == 0 {
                    // A change of mode, or of PAE's pointers, and nothing else is told.
                    switch random.next(4) {
                    case 0: machine.mode.cr0 ^= CR0.writeProtect
                    case 1: machine.mode.cr4 ^= CR4.supervisorExecutionPrevention
                    case 2: machine.mode.cr4 ^= CR4.supervisorAccessPrevention
                    default:
                        machine.mode.efer ^= EFER.executeDisableEnable
                        if form == .twoLevel { machine.mode.cr4 ^= CR4.pageSizeExtensions }
                        machine.cache.removeAll()
                    }
                    if form == .pae { machine.cache.removeAll() }
                    machine.load()
                } else {
                    machine.edit(rootPlace(), guest.rootEntry(&random))
                }
            case 8:
                let target = guest.address(&random)
                machine.invalidatePage(target)
                machine.verifyInvalidated(target, "seed \(seed) step \(step)")
            default:
                let place = GuestPhysicalAddress(guest.place(&random) & ~7)
                machine.poke(place.rawValue, guest.entry(&random))
                machine.mmu.guestMemoryWritten(place..<place + 8)
            }
            if policy.nesting != nil && step % 6 == 5 {
                // PAE's pointers may be others now.
                if form == .pae { machine.cache.removeAll() }
                machine.load()
            }
            if step % 100 == 99 { machine.verify("seed \(seed) step \(step)") }
        }
        #expect(reached > 50 && faulted > 50)
        let ledger = machine.mmu.ledger
        let isLeafOnly = policy.trace?.levels == .leaf
        switch policy.protection {
        case .recorded:
            #expect(ledger.entriesReread > 200)
            #expect(ledger.recordsDrained > (isLeafOnly ? 3 : 100))
            #expect(isLeafOnly ? ledger.tableWrites.sum > 50 : ledger.tableWrites.sum == 0)
        case .readOnly where policy.nesting != nil:
            // Below nested tables nothing is seen, so that few are left to be; where pages are
            // reclaimed all the time, none is written often enough.
            #expect(ledger.tableWrites.sum > 20)
            if seed % 2 != 0 {
                #expect(ledger.tablesNested > 0)
                #expect(ledger.tablesReturned > 0)
            }
        case .readOnly:
            #expect(ledger.tableWrites.sum > 200)
            #expect((ledger.tablesUnsynced > 0) == policy.unsyncsLeafTables)
        }
        #expect((ledger.entriesRefilled > 0) == policy.refills)
        if seed % 2 == 0 && policy.nesting == nil {
            #expect(machine.mmu.ledger.shadowPagesReclaimed > 0)
        }
    }

    @Test(
        "two processors may use the same frames as tables of different forms at once",
        arguments: PagingForm.allCases.flatMap { a in
            PagingForm.allCases.filter { $0 != a }.map { (a, $0) }
        }, TestMachine.mainPolicies)
    func mixedForms(_ forms: (PagingForm, PagingForm), policy: Policy) throws {
        var random = Generator(state: 0x5eed + UInt64(forms.0.rawValue) << 8)
        let machine = try M(
            shadowPages: random.next(2) == 0
                ? ShadowMMU.leastPagesOfAccess(processors: 2, policy: policy) + 8 : 256,
            processors: 2, policy: policy,
            form: forms.0)
        machine.current = 1
        machine.enter(forms.1)
        let guests = [Guest(form: forms.0), Guest(form: forms.1)]
        for number in 0..<2 {
            machine.current = number
            let guest = guests[number]
            for _ in 0..<6 {
                let index = guest.index(guest.form.topLevel, &random)
                machine.poke(
                    machine.mode.cr3 + index * guest.form.entryBytes, guest.rootEntry(&random))
            }
            for _ in 0..<150 { machine.poke(guest.place(&random), guest.entry(&random)) }
            machine.load()
        }
        var reached = [0, 0]
        for step in 0..<2000 {
            let number = Int(random.next(2))
            machine.current = number
            let guest = guests[number]
            switch random.next(8) {
            case 0...3:
                let target = guest.address(&random)
                let kind = Self.kinds[Int(random.next(6))]
                if machine.reach(target, kind) != nil {
                    reached[number] += 1
                } else {
                    #expect(!machine.isPermitted(target, kind), "step \(step)")
                }
            case 4...6:
                machine.edit(guest.place(&random), guest.entry(&random), processor: number)
            default:
                let target = guest.address(&random)
                machine.invalidatePage(target)
                machine.verifyInvalidated(target, "step \(step)")
            }
            if policy.nesting != nil && step % 6 == 5 {
                if machine.form == .pae { machine.cache.removeAll() }
                machine.load()
            }
            if step % 100 == 99 {
                for number in 0..<2 {
                    machine.current = number
                    machine.verify("step \(step) processor \(number)")
                }
            }
        }
        #expect(reached[0] > 10 && reached[1] > 10)
    }
}
