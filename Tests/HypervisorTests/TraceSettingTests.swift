import Hypervisor
import MachineMemory
import Processor
import Testing
import X86

/// What the hypervisor makes of each setting of the traced-write facility.
@Suite("Settings of the traced-write facility")
struct TraceSettingTests {
    typealias M = TestMachine
    let page: UInt64 = 0x40_0000_0000
    let a: UInt64 = 0x20_0000
    let b: UInt64 = 0x30_0000

    private func machine(_ text: String, shadowPages: UInt64 = 512) throws -> TestMachine {
        try M(shadowPages: shadowPages, policy: Technique(parsing: text).policy)
    }

    // MARK: Indication

    @Test("by the map of frames no large page is split for a table inside it")
    func frameKeepsLargePages() throws {
        for (text, isLarge) in [("traced,indication=frame", true), ("traced", false)] {
            let machine = try machine(text)
            let window: UInt64 = 0x50_0000_0000
            machine.poke(map: window, to: 2 << 20, M.all, .directory)
            #expect(machine.reach(window + 0x5000, .write) == 0x20_5000)
            let table: UInt64 = 0x20_7000
            machine.poke(table, b | M.all)
            machine.poke(machine.entryAddress(page, .directory), table | M.all)
            #expect(machine.reach(page) == b)
            #expect(machine.reach(window + 0x5000, .write) == 0x20_5000)
            // The window's leaf is one, or 512.
            let leaves = machine.shadowedAddresses().filter { $0 >> 21 == window >> 21 }
            #expect((leaves.count == 2) == isLarge)
            // A write through it is recorded all the same.
            machine.write(window + 0x7000, a | M.all | M.accessed)
            #expect(machine.rings[0].pending == 1)
            machine.invalidatePage(page)
            #expect(machine.reach(page) == a)
            machine.verify(text)
        }
    }

    // MARK: Formats

    @Test("a value that memory no longer holds is counted, and memory is what counts")
    func superseded() throws {
        let machine = try machine("traced,record=value")
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = machine.entryAddress(page, .table)
        machine.edit(entry, 0)
        machine.edit(entry, b | M.all)
        machine.write(machine.directMap + entry, half: UInt32(b | M.all | M.accessed))
        machine.invalidatePage(page)
        #expect(machine.mmu.ledger.valuesSuperseded == 2)
        #expect(machine.reach(page) == b)
        machine.verify()
    }

    @Test("masks are empty after a drain, and a page that is written again is found again")
    func masks() throws {
        let machine = try machine("traced,record=mask")
        for index in 0..<130 as Range<UInt64> {
            machine.poke(map: page + index << 12, to: a + index << 12, M.all)
            #expect(machine.reach(page + index << 12) == a + index << 12)
        }
        let entry = machine.entryAddress(page, .table)
        for _ in 0..<2 {
            for index in [0, 3, 3, 64, 65, 129] as [UInt64] { machine.edit(entry + index * 8, 0) }
            #expect(machine.rings[0].pending == 3)
            machine.invalidatePage(page)
            for index in [0, 3, 64, 65, 129] as [UInt64] {
                #expect(machine.walkShadow(page + index << 12) == nil)
            }
            #expect(machine.walkShadow(page + 1 << 12) != nil)
            machine.verify()
        }
        #expect(machine.mmu.ledger.recordsDrained == 6)
        #expect(machine.mmu.ledger.entriesReread == 10)
    }

    // MARK: Refill

    @Test("what a drain finds is installed, and needs no fault", arguments: ["traced", "trap"])
    func refill(technique: String) throws {
        let machine = try machine("\(technique),refill=on")
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = machine.entryAddress(page, .table)
        // Changed; new; not accessed; not present; clean; data.
        let entries = [
            b | M.all | M.accessed | M.dirty, a | M.all | M.accessed | M.dirty, a | M.all,
            a | M.writable | M.accessed, b | M.all | M.accessed, a | M.all | M.accessed | 1 << 45,
        ]
        for (index, value) in entries.enumerated() {
            machine.edit(entry + UInt64(index) * 8, value)
        }
        machine.invalidatePage(page)
        let found = (0..<6).map { machine.walkShadow(page + $0 << 12) }
        #expect(found.map { $0 != nil } == [true, true, false, false, true, false])
        #expect(found[0]?.machinePage == machine.memory.guestBase + b)
        #expect(found[4]?.dirty == false)
        #expect(machine.mmu.ledger.entriesRefilled == 3)
        #expect(machine.reach(page + 0x1000, .write) == a)
        machine.verify()
    }

    @Test("an entry whose XD would be a reserved bit is not refilled")
    func refillWithoutExecuteDisable() throws {
        let machine = try machine("traced,refill=on")
        machine.mode.efer &= ~EFER.executeDisableEnable
        machine.cache.removeAll()
        machine.load()
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = machine.entryAddress(page, .table)
        machine.edit(entry + 8, a | M.all | M.accessed | M.noExecute)
        machine.edit(entry + 16, a | M.all | M.accessed)
        machine.invalidatePage(page)
        #expect(machine.walkShadow(page + 0x1000) == nil)
        #expect(machine.walkShadow(page + 0x2000) != nil)
        #expect(machine.fault(page + 0x1000) == [.present, .reserved])
    }

    // MARK: Levels

    @Test(
        "with levels=leaf a table is recorded until it is used at a higher level, and again after")
    func levels() throws {
        let machine = try machine("traced,levels=leaf")
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let entry = machine.entryAddress(page, .table)
        let directory = machine.entryAddress(page, .directory)
        machine.edit(entry + 8, 0)
        #expect(machine.rings[0].pending == 1)
        machine.edit(directory + 8, 0)
        #expect(machine.mmu.ledger.tableWrites[.directory] == 1)
        #expect(machine.rings[0].pending == 0)
        // The lowest table becomes a directory, too: 0x200000 is the page table that it names.
        machine.poke(a, b | M.all)
        let upper = machine.entryAddress(page + 1 << 30, .directoryPointer)
        machine.poke(upper, entry & ~0xfff | M.all)
        #expect(machine.reach(page + 1 << 30) == b)
        machine.edit(entry + 8, 0)
        #expect(machine.mmu.ledger.tableWrites[.table] == 1)
        #expect(machine.rings[0].pending == 0)
        machine.verify("both")
        // And no more.
        machine.edit(upper, 0)
        machine.invalidatePage(page)
        machine.edit(entry + 8, 0)
        #expect(machine.mmu.ledger.tableWrites[.table] == 1)
        #expect(machine.rings[0].pending == 1)
        machine.verify("lowest")
    }

    // MARK: Stop

    @Test(
        "a table that is written as none stops being traced at the limit, or never",
        arguments: [
            ("stop=1", true), ("stop=64", true), ("stop=4000", false), ("stop=never", false),
        ])
    func stop(setting: String, stops: Bool) throws {
        let machine = try machine("traced,\(setting)")
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let table = machine.entryAddress(page, .table) & ~0xfff
        for index in 0..<512 as Range<UInt64> { machine.edit(table + index * 8, 0) }
        machine.invalidatePage(page)
        #expect(machine.mmu.ledger.shadowPagesAbandoned == (stops ? 1 : 0))
        machine.verify(setting)
    }

    @Test("the auditor takes a known root of any form for one", arguments: PagingForm.allCases)
    func knownRoots(form: PagingForm) throws {
        let policy = try Technique(parsing: "traced,elide=on").policy
        let machine = try TestMachine(policy: policy, form: form)
        machine.mmu.knowRoot(processor: 0, mode: machine.mode)
        machine.verify("known")
        let table = try #require(machine.layout.rootTable(0))
        let first = MachineAddress(table)
        #expect((machine.memory.load(UInt64.self, at: first) != 0) == (form != .pae))
        // Another root's address in its place is not.
        if form == .pae { return }
        machine.memory.store(machine.newTable() << 12 | 1, at: first)
        #expect(
            machine.mmu.audit().contains { if case .wrongKnownRoot = $0 { true } else { false } })
    }
}
