import Hypervisor
import MachineMemory
import Testing
import X86

@Suite("What the shadow translates")
struct TranslationTests {
    typealias M = TestMachine
    let page: UInt64 = 0x40_0000_0000
    let a: UInt64 = 0x20_0000

    @Test(
        "two large pages with the same frame and different rights share what they are split into",
        arguments: TestMachine.policies, PagingForm.allCases)
    func sharedSplit(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let first = machine.window
        let second = first + form.entrySpan(.directory)
        machine.poke(map: first, to: 0, M.present | M.user | M.dirty, .directory)
        machine.poke(map: second, to: 0, M.present | M.writable | M.dirty, .directory)
        #expect(machine.reach(first + 0x5000, .user) == 0x5000)
        let live = machine.mmu.ledger.shadowPagesLive
        #expect(machine.reach(second + 0x5000, .write) == 0x5000)
        #expect(machine.mmu.ledger.shadowPagesLive == live)
        #expect(machine.fault(first + 0x6000, [.user, .write]) == [.present, .user, .write])
        #expect(machine.fault(second + 0x6000, .user) == [.present, .user])
        machine.verify()
    }

    @Test(
        "a root that maps itself shows the tables, and a write there concerns every level",
        arguments: TestMachine.policies)
    func selfMap(policy: Policy) throws {
        let machine = try M(policy: policy)
        machine.poke(machine.root << 12 + 510 * 8, machine.root << 12 | M.present | M.writable)
        let other = page + 0x1000
        machine.poke(map: page, to: a, M.all)
        machine.poke(map: other, to: a + 0x1000, M.all)
        #expect(machine.reach(page) == a)
        // The page table of `page`, seen through the self-map.
        let tables: UInt64 = 0xffff_ff00_0000_0000
        let entry = tables | page >> 9 & 0x7f_ffff_fff8
        #expect(machine.reach(entry) == machine.entryAddress(page, .table))
        machine.write(entry, a + 0x5000 | M.all)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == a + 0x5000)
        // The root itself, which is in use at all four levels by now.
        let rootEntry: UInt64 = 0xffff_ff7f_bfdf_e000 + page >> 39 * 8
        #expect(machine.reach(rootEntry) == machine.root << 12 + page >> 39 * 8)
        machine.verify("seen")
        machine.write(rootEntry, 0)
        machine.invalidatePage(page)
        #expect(machine.fault(page) == [])
        machine.verify("cut off")
    }

    @Test(
        "CR0.WP, SMEP and SMAP bind at the next access, with nothing remade",
        arguments: PagingForm.allCases)
    func liveControls(form: PagingForm) throws {
        let machine = try M(form: form)
        let page = machine.page
        machine.poke(map: page, to: a, M.present | M.user)
        #expect(machine.reach(page, .user) == a)
        #expect(machine.fault(page, .write) == [.present, .write])
        machine.mode.cr0 &= ~CR0.writeProtect
        #expect(machine.reach(page, .write) == a)
        #expect(machine.peek(machine.entryAddress(page, .table)) & M.dirty != 0)
        #expect(machine.reach(page, .user) == a, "still readable by users")
        #expect(machine.fault(page, [.write, .user]) == [.present, .write, .user])
        machine.mode.cr0 |= CR0.writeProtect
        #expect(machine.fault(page, .write) == [.present, .write])
        let made = machine.mmu.ledger.entriesInstalled
        #expect(machine.reach(page, .fetch) == a)
        machine.mode.cr4 |= CR4.supervisorExecutionPrevention | CR4.supervisorAccessPrevention
        #expect(machine.fault(page, .fetch) == [.present, .fetch])
        #expect(machine.fault(page) == .present)
        machine.mode.alignmentCheck = true
        #expect(machine.reach(page) == a)
        #expect(machine.fault(page, .implicit) == .present)
        #expect(machine.mmu.ledger.entriesInstalled == made)
        machine.verify()
    }

    @Test("every combination of rights, controls and access agrees with the manual's table")
    func rights() throws {
        let machine = try M()
        var checked = 0
        let kinds: [AccessKind] = [
            [], .write, .fetch, .implicit, [.implicit, .write], .user, [.user, .write],
            [.user, .fetch],
        ]
        // R/W, U/S, XD at the directory and at the leaf: 64 pages.
        for bits in 0..<64 as Range<UInt64> {
            let address = page + bits << 21
            let upper =
                M.present | (bits & 1 != 0 ? M.writable : 0) | (bits & 2 != 0 ? M.user : 0)
                | (bits & 4 != 0 ? M.noExecute : 0)
            let lower =
                M.present | (bits & 8 != 0 ? M.writable : 0) | (bits & 16 != 0 ? M.user : 0)
                | (bits & 32 != 0 ? M.noExecute : 0)
            machine.poke(map: address, to: a + bits << 12, lower)
            let directory = machine.entryAddress(address, .directory)
            machine.poke(directory, machine.peek(directory) & ~M.all | upper)
        }
        for controls in 0..<16 {
            machine.mode.cr0 =
                machine.mode.cr0 & ~CR0.writeProtect | (controls & 1 != 0 ? CR0.writeProtect : 0)
            machine.mode.cr4 =
                machine.mode.cr4 & ~(3 << 20) | (controls & 2 != 0 ? 1 << 20 : 0)
                | (controls & 4 != 0 ? 1 << 21 : 0)
            machine.mode.alignmentCheck = controls & 8 != 0
            for bits in 0..<64 as Range<UInt64> {
                let rights = bits & bits >> 3
                for kind in kinds {
                    let permitted = Oracle.permits(
                        kind, machine.mode, writable: rights & 1 != 0, user: rights & 2 != 0,
                        executeDisable: (bits | bits >> 3) & 4 != 0)
                    var error: PageFaultError? = nil
                    if !permitted {
                        error = .present
                        if kind.contains(.write) { error?.insert(.write) }
                        if kind.contains(.user) { error?.insert(.user) }
                        if kind.contains(.fetch) { error?.insert(.fetch) }
                    }
                    if machine.fault(page + bits << 21, kind) != error {
                        Issue.record("page \(bits) controls \(controls) access \(kind.rawValue)")
                    }
                    checked += 1
                }
            }
        }
        #expect(checked == 16 * 64 * 8)
        machine.verify()
    }

    @Test(
        "P and RSVD of an error code come from the guest's tables",
        arguments: PagingForm.allCases)
    func errorCodes(form: PagingForm) throws {
        let machine = try M(form: form)
        let page = machine.page
        machine.poke(map: page, to: a, M.present)
        // The shadow has nothing at all yet, but the guest's page is there.
        #expect(machine.fault(page, [.user, .write]) == [.present, .user, .write])
        #expect(machine.fault(page + 0x1000, .user) == .user)
        let next = page + form.entrySpan(.directory)
        machine.poke(
            machine.entryAddress(next, .directory),
            M.large | M.all | (form == .twoLevel ? 1 << 21 : 1 << 13))
        #expect(machine.fault(next, .write) == [.present, .reserved, .write])
        machine.verify()
    }

    @Test(
        "reserved bits follow the mode",
        arguments: [
            (PageLevel.pml4, TestMachine.large), (.table, 1 << 40), (.directory, 1 << 51),
            (.directory, TestMachine.large | 1 << 13), (.directory, TestMachine.large | 1 << 20),
            (.directoryPointer, TestMachine.large | 1 << 29), (.directoryPointer, 1 << 40),
        ])
    func reservedBits(level: PageLevel, bits: UInt64) throws {
        let machine = try M()
        machine.poke(map: page, to: a, M.all)
        let entry = machine.entryAddress(page, level)
        machine.poke(entry, machine.peek(entry) & ~0x3fff_f000 | M.all | bits)
        #expect(machine.fault(page) == [.present, .reserved])
        machine.verify()
    }

    @Test("XD is reserved without EFER.NXE, and PS at level 3 without 1 GiB pages")
    func modeDependentBits() throws {
        let machine = try M()
        machine.poke(map: page, to: a, M.all | M.noExecute)
        machine.poke(map: page + 1 << 30, to: 0, M.all, .directoryPointer)
        #expect(machine.reach(page) == a)
        #expect(machine.reach(page + 1 << 30 + 0x3_0000) == 0x3_0000)
        machine.mode.efer &= ~EFER.executeDisableEnable
        machine.cache.removeAll()
        machine.load()
        #expect(machine.fault(page) == [.present, .reserved])
        // I/D needs NXE or SMEP.
        #expect(machine.fault(page, .fetch) == [.present, .reserved])
        machine.mode.efer |= EFER.executeDisableEnable
        machine.mode.hasGigabytePages = false
        machine.cache.removeAll()
        machine.load()
        #expect(machine.fault(page + 1 << 30) == [.present, .reserved])
        #expect(machine.reach(page) == a)
        machine.verify()
    }

    @Test(
        "A is set on the way, D at the first write and not before, even with CR0.WP clear",
        arguments: TestMachine.policies, PagingForm.allCases)
    func accessedAndDirty(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let page = machine.page
        machine.poke(map: page, to: a, M.all)
        let entry = machine.entryAddress(page, .table)
        #expect(machine.reach(page) == a)
        #expect(machine.peek(entry) & (M.accessed | M.dirty) == M.accessed)
        let top: PageLevel = form == .pae ? .directory : form.topLevel
        for level in PageLevel.allCases where level > .table && level <= top {
            #expect(machine.peek(machine.entryAddress(page, level)) & M.accessed != 0)
        }
        machine.mode.cr0 &= ~CR0.writeProtect
        #expect(machine.peek(entry) & M.dirty == 0)
        #expect(machine.reach(page, .write) == a)
        #expect(machine.peek(entry) & M.dirty != 0)
        #expect(machine.mmu.ledger.dirtyFaults > 0)
        // The guest clears both; after the flush they are set again.
        machine.edit(entry, a | M.all)
        machine.invalidatePage(page)
        #expect(machine.reach(page, .write) == a)
        #expect(machine.peek(entry) & (M.accessed | M.dirty) == M.accessed | M.dirty)
        machine.verify()
    }

    @Test(
        "D of a large page that is split is set once, at the first write to any part",
        arguments: TestMachine.policies, PagingForm.allCases)
    func dirtySplit(policy: Policy, form: PagingForm) throws {
        let machine = try M(policy: policy, form: form)
        let window = machine.window
        machine.poke(map: window, to: 0, M.all | M.global, .directory)
        let entry = machine.entryAddress(window, .directory)
        #expect(machine.reach(window + 0x3000) == 0x3000)
        #expect(machine.cache[(window + 0x3000) >> 12]?.global == true)
        #expect(machine.peek(entry) & M.dirty == 0)
        let before = machine.mmu.ledger.dirtyFaults
        #expect(machine.reach(window + 0x4000, .write) == 0x4000)
        #expect(machine.reach(window + 0x5000, .write) == 0x5000)
        #expect(machine.peek(entry) & M.dirty != 0)
        #expect(machine.mmu.ledger.dirtyFaults == before + 1)
        machine.verify()
    }

    @Test(
        "pages without RAM lead to the device's machine address, with no further exit",
        arguments: PagingForm.allCases)
    func devices(form: PagingForm) throws {
        let machine = try M(form: form)
        let page = machine.page
        let next = page + form.entrySpan(.directory)
        let device: UInt64 = 0xfee0_0000
        machine.poke(map: page, to: device, M.present | M.writable)
        machine.poke(map: next, to: 0xc000_0000, M.present | M.writable, .directory)
        #expect(machine.reach(page + 0x30, .write) == device + 0x30)
        #expect(machine.reach(next + 0x12_3000) == 0xc012_3000)
        let faults = machine.mmu.ledger.hiddenFaults
        #expect(machine.reach(page + 0x40, .write) == device + 0x40)
        #expect(machine.mmu.ledger.hiddenFaults == faults)
        machine.verify()
    }

    @Test("a 1 GiB page over less RAM is split where RAM ends")
    func partialGigabyte() throws {
        let machine = try M()
        machine.poke(map: page, to: 0, M.all, .directoryPointer)
        #expect(machine.reach(page + 0x3f_f000) == 0x3f_f000)
        #expect(machine.reach(page + 32 << 20, .write) == 32 << 20)
        #expect(machine.reach(page + 100 << 20, .write) == 100 << 20)
        machine.verify()
    }

    @Test(
        "a 2 MiB page over less RAM is split, so that its frames can be traced",
        arguments: PagingForm.allCases)
    func partialDirectory(form: PagingForm) throws {
        let machine = try M(guestBytes: 5 << 20, form: form)
        let page = machine.page
        let next = page + form.entrySpan(.directory)
        machine.poke(map: page, to: 4 << 20, M.all, .directory)
        #expect(machine.reach(page + 0xf_f000, .write) == 0x4f_f000)
        #expect(machine.reach(page + 0x10_0000, .write) == 0x50_0000)
        machine.verify("split")
        // The last frame of RAM becomes a table, and is then written through that page.
        machine.poke(0x4f_f000, a | M.all)
        machine.poke(machine.entryAddress(next, .directory), 0x4f_f000 | M.all)
        #expect(machine.reach(next) == a)
        machine.write(page + 0xf_f000, a + 0x1000 | M.all)
        machine.invalidatePage(0)
        #expect(machine.reach(next) == a + 0x1000)
        machine.verify("traced")
    }

    @Test(
        "without paging, guest-physical addresses translate to themselves",
        arguments: PagingForm.allCases)
    func identity(form: PagingForm) throws {
        let machine = try M(form: form)
        let page = machine.page
        let cr0 = machine.mode.cr0
        machine.mode.cr0 &= ~CR0.paging
        machine.cache.removeAll()
        machine.load()
        #expect(machine.reach(0x1234, .write) == 0x1234)
        #expect(machine.reach(3 << 20, .fetch) == 3 << 20)
        #expect(machine.reach(0xfee0_0030, .write) == 0xfee0_0030)
        #expect(machine.mmu.audit() == [])
        machine.mode.cr0 = cr0
        machine.cache.removeAll()
        machine.load()
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        machine.verify()
    }
}
