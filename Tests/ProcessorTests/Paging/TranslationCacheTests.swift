import MachineMemory
import Processor
import Testing
import X86

/// What each operation drops from the caches of hardware that keeps all it may: exactly what the
/// architecture asks for (SDM Vol. 3A §4.10.4.1).
@Suite struct TranslationCacheTests {
    typealias Probe = CacheMachine.Probe

    /// What PCID 1 has cached, but for global translations.
    static let ofFirst: Set<Probe> = [.page, .neighbour, .large, .structure, .structureElsewhere]
    static let structures: Set<Probe> = [.structure, .structureElsewhere]
    static let everything = Set(Probe.allCases)
    static let globals: Set<Probe> = [.global, .globalOfOther]

    /// An operation, and what must be gone after it.
    struct Rule: CustomTestStringConvertible, Sendable {
        var name: String
        var gone: Set<Probe>
        /// Before anything is cached.
        var prepare: @Sendable (CacheMachine) -> Void = { _ in }
        var operation: @Sendable (CacheMachine) -> Void
        var testDescription: String { name }
    }

    static func toggle(_ number: UInt8, _ bit: UInt64) -> @Sendable (CacheMachine) -> Void {
        { machine in
            let value = number == 0 ? machine.processor.cr0 : machine.processor.cr4
            machine.control(number, value ^ bit)
            #expect(machine.system.haltedVector == nil)
        }
    }

    static let rules: [Rule] = [
        Rule(name: "nothing", gone: []) { _ in },
        Rule(name: "INVLPG of a page", gone: structures.union([.page])) {
            $0.invalidatePage(CacheMachine.page + 0x123)
        },
        Rule(name: "INVLPG of a large page", gone: structures.union([.large])) {
            $0.invalidatePage(CacheMachine.large + 0x12_3456)
        },
        Rule(name: "INVLPG of a global page", gone: structures.union([.global])) {
            $0.invalidatePage(CacheMachine.globalPage)
        },
        Rule(name: "INVLPG of another PCID's global", gone: structures.union([.globalOfOther])) {
            $0.invalidatePage(CacheMachine.globalOfOther)
        },
        Rule(name: "INVLPG of what is not canonical", gone: []) {
            $0.invalidatePage(CacheMachine.page | 1 << 62)
        },
        Rule(name: "INVPCID 0", gone: [.page, .structure]) {
            $0.invalidateContext(type: 0, 1, CacheMachine.page)
        },
        Rule(name: "INVPCID 0 of a global page", gone: [.structure]) {
            $0.invalidateContext(type: 0, 1, CacheMachine.globalPage)
        },
        Rule(name: "INVPCID 0 of another PCID", gone: [.pageInOther, .structureInOther]) {
            $0.invalidateContext(type: 0, 2, CacheMachine.page)
        },
        Rule(name: "INVPCID 1", gone: ofFirst) { $0.invalidateContext(type: 1, 1, 0) },
        Rule(name: "INVPCID 1 of another PCID", gone: [.pageInOther, .structureInOther]) {
            $0.invalidateContext(type: 1, 2, 0)
        },
        Rule(name: "INVPCID 2", gone: everything) { $0.invalidateContext(type: 2, 0, 0) },
        Rule(name: "INVPCID 3", gone: everything.subtracting(globals)) {
            $0.invalidateContext(type: 3, 0, 0)
        },
        Rule(name: "MOV to CR3", gone: ofFirst) { $0.control(3, CacheMachine.root(1) | 1) },
        Rule(name: "MOV to CR3 of another PCID", gone: [.pageInOther, .structureInOther]) {
            $0.control(3, CacheMachine.root(2) | 2)
        },
        Rule(name: "MOV to CR3 with bit 63", gone: []) {
            $0.control(3, CacheMachine.root(2) | 2 | CR3.noFlush)
            $0.control(3, CacheMachine.root(1) | 1 | CR3.noFlush)
        },
        Rule(name: "CR4.PGE 1→0", gone: everything, operation: toggle(4, CR4.pageGlobalEnable)),
        Rule(name: "CR4.PCIDE 1→0", gone: everything) {
            $0.control(4, CacheMachine.cr4 & ~CR4.pcidEnable)
            $0.control(3, CacheMachine.root(1))
            $0.control(4, CacheMachine.cr4)
        },
        Rule(
            name: "CR4.SMEP 0→1", gone: ofFirst.union([.global]),
            operation: toggle(4, CR4.supervisorExecutionPrevention)),
        Rule(
            name: "CR4.SMEP 1→0", gone: [],
            prepare: toggle(4, CR4.supervisorExecutionPrevention),
            operation: toggle(4, CR4.supervisorExecutionPrevention)),
        Rule(name: "CR4.PSE", gone: [], operation: toggle(4, CR4.pageSizeExtensions)),
        Rule(
            name: "CR4.SMAP", gone: [],
            operation: {
                toggle(4, CR4.supervisorAccessPrevention)($0)
                toggle(4, CR4.supervisorAccessPrevention)($0)
            }),
        Rule(name: "CR0.WP", gone: [], operation: toggle(0, CR0.writeProtect)),
        Rule(name: "CR0.CD", gone: [], operation: toggle(0, CR0.cacheDisable)),
        Rule(name: "EFER.NXE", gone: []) {
            let old = $0.processor.efer
            $0.system.run(ControlTests.write(MSR.efer, old ^ EFER.executeDisableEnable))
            #expect($0.processor.efer != old)
        },
        Rule(name: "a page fault", gone: [.page, .structure]) {
            #expect(!$0.write(CacheMachine.page))
        },
        Rule(name: "a page fault in a global page", gone: [.global, .structure]) {
            #expect(!$0.write(CacheMachine.globalPage))
        },
        Rule(name: "a page fault in another PCID's global", gone: [.structure]) {
            #expect(!$0.write(CacheMachine.globalOfOther))
        },
        Rule(name: "the hypervisor's invalidate", gone: [.page, .pageInOther]) {
            $0.processor.invalidate(GuestVirtualAddress(CacheMachine.page))
        },
        Rule(name: "the hypervisor's invalidate of a global page", gone: [.globalOfOther]) {
            $0.processor.invalidate(GuestVirtualAddress(CacheMachine.globalOfOther))
        },
        Rule(name: "the hypervisor's invalidateAll", gone: everything) {
            $0.processor.invalidateAll()
        },
    ]

    /// What is kept after a rule's operation on some hardware.
    static func kept(_ rule: Rule, _ hardware: String) throws -> Set<Probe> {
        let machine = try CacheMachine(hardware)
        rule.prepare(machine)
        machine.plant()
        rule.operation(machine)
        return machine.kept()
    }

    @Test("with tlb=keep each operation drops exactly what it must", arguments: rules)
    func exact(_ rule: Rule) throws {
        #expect(
            try Self.kept(rule, "tlb=keep") == Self.everything.subtracting(rule.gone))
    }

    @Test(
        "large pages that are cached in parts go with all their parts, and nothing else does",
        arguments: rules)
    func fragments(_ rule: Rule) throws {
        #expect(
            try Self.kept(rule, "tlb=keep,tlb=fragment")
                == Self.everything.subtracting(rule.gone))
    }

    @Test("any hardware drops what each operation must", arguments: rules)
    func others(_ rule: Rule) throws {
        for hardware in [
            "default", "tlb=random:1", "tlb=random:2", "tlb=fragment", "tlb=fragment,tlb=random:3",
        ] {
            let kept = try Self.kept(rule, hardware)
            #expect(kept.isDisjoint(with: rule.gone), "\(hardware)")
        }
    }

    static let errata: [(Erratum, String, Set<Probe>)] = [
        (.invlpgGlobalPCID, "INVLPG of a global page", [.global]),
        (.invlpgGlobalPCID, "INVLPG of another PCID's global", [.globalOfOther]),
        (.invpcidKeepsStructures, "INVPCID 0", [.structure]),
        (.invpcidKeepsStructures, "INVPCID 1", structures),
        (.invpcidKeepsStructures, "INVPCID 2", structures.union([.structureInOther])),
        (.invpcidKeepsStructures, "INVPCID 3", structures.union([.structureInOther])),
        (.cr3KeepsStructures, "MOV to CR3", structures),
        (.cr3KeepsStructures, "MOV to CR3 of another PCID", [.structureInOther]),
    ]

    @Test("an erratum keeps what its operation must drop", arguments: errata)
    func erratum(_ erratum: Erratum, _ name: String, _ left: Set<Probe>) throws {
        let rule = try #require(Self.rules.first { $0.name == name })
        let kept = try Self.kept(rule, "tlb=keep,erratum=\(erratum.rawValue)")
        #expect(kept == Self.everything.subtracting(rule.gone).union(left))
    }

    @Test("CR4.PCIDE 0→1 drops nothing")
    func enablingContexts() throws {
        let machine = try CacheMachine("tlb=keep")
        machine.control(3, CacheMachine.root(1) | CR3.noFlush)
        machine.control(4, CacheMachine.cr4 & ~CR4.pcidEnable)
        machine.control(3, CacheMachine.root(1))
        #expect(machine.read(CacheMachine.neighbour) == 1)
        machine.system.store(
            CacheMachine.two | 7, at: CacheMachine.entry(1, CacheMachine.neighbour))
        machine.control(4, CacheMachine.cr4)
        #expect(machine.read(CacheMachine.neighbour) == 1)
    }

    @Test("CR0.PG 1→0 drops everything, global translations too")
    func pagingOff() throws {
        let machine = try CacheMachine("tlb=keep")
        machine.control(4, CacheMachine.cr4 & ~CR4.pcidEnable)
        machine.control(3, CacheMachine.root(1))
        let addresses = [CacheMachine.neighbour, CacheMachine.globalPage]
        func change() {
            machine.system.store(
                CacheMachine.two | 7, at: CacheMachine.entry(1, CacheMachine.neighbour))
            machine.system.store(
                CacheMachine.two | 0x105, at: CacheMachine.entry(1, CacheMachine.globalPage))
        }
        #expect(addresses.allSatisfy { machine.read($0) == 1 })
        change()
        #expect(addresses.allSatisfy { machine.read($0) == 1 })
        // push code32; push 0x10009; retfq. In compatibility mode: mov eax, cr0;
        // and eax, 0x7fffffff; mov cr0, eax; or eax, 1 << 31; mov cr0, eax; ljmp code64; hlt
        machine.system.run(
            [0x6a, UInt8(SystemMachine.code32), 0x68] + bytes(0x10009 as UInt32) + [0x48, 0xcb]
                + [0x0f, 0x20, 0xc0, 0x25, 0xff, 0xff, 0xff, 0x7f, 0x0f, 0x22, 0xc0]
                + [0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, 0xea]
                + bytes(0x10023 as UInt32) + bytes(SystemMachine.code64) + [0xf4])
        #expect(machine.processor.rip == 0x10024)
        #expect(addresses.allSatisfy { machine.read($0) == 2 })
    }

    @Test("a stale entry that permits less is walked for again, not faulted on")
    func fewerRights() throws {
        let machine = try CacheMachine("tlb=keep")
        machine.plant()
        let faults = machine.processor.statistics.pageFaults
        // Writable now in the table that the stale directory entry leads to, and in the other.
        machine.system.store(CacheMachine.one | 7, at: CacheMachine.entry(1, CacheMachine.page))
        #expect(machine.write(CacheMachine.page))
        #expect(machine.processor.statistics.pageFaults == faults)
        #expect(machine.read(CacheMachine.neighbour) == 1)
    }

    @Test(
        "where stale paging-structure caches lead to no translation, the tables are walked afresh")
    func staleStructures() throws {
        let machine = try CacheMachine("tlb=keep")
        machine.plant()
        // In the old table there is nothing at this address, in the new one there is a page.
        let fresh = CacheMachine.page + 0x8000
        machine.system.store(
            CacheMachine.two | 7, at: CacheMachine.entry(1, fresh) + 0x2000)
        #expect(machine.read(fresh) == 2)
        #expect(machine.processor.statistics.pageFaults == 0)
    }
}
