import Hypervisor
import MachineMemory
import Processor
import Testing
import X86

/// Operations that the processors do without an exit, and what keeps that right.
@Suite struct ElisionTests {
    /// MOV [RCX], RAX; INVLPG [RDX]; MOV CR3, RBX
    private let store: [UInt8] = [0x48, 0x89, 0x01]
    private let invalidate: [UInt8] = [0x0f, 0x01, 0x3a]
    private let loadRoot: [UInt8] = [0x0f, 0x22, 0xdb]

    private func pair(_ technique: String = "traced,elide=on") throws -> ProcessorPair {
        let pair = try ProcessorPair(technique)
        pair.store(0x60_0003, at: ProcessorPair.entry)
        for processor in pair.processors {
            processor[.rcx] = ProcessorPair.entry
            processor[.rax] = 0x70_0003
            processor[.rdx] = ProcessorPair.page
            processor[.rbx] = 0x1000
        }
        return pair
    }

    @Test("INVLPG is not elided while another processor has written what it covers")
    func otherProcessor() throws {
        let pair = try pair()
        // mov rsi, [rdx]; invlpg [rdx]; mov rsi, [rdx]; invlpg [rdx]
        let load: [UInt8] = [0x48, 0x8b, 0x32]
        pair.put(load + invalidate + load + invalidate, at: ProcessorPair.code[1])
        pair.put(store, at: ProcessorPair.code[0])
        pair.store(0x6666, at: 0x60_0000)
        pair.store(0x7777, at: 0x70_0000)
        pair.run(1, 1)
        pair.run(0, 1)
        pair.run(1, 2)
        #expect(pair.processors[1][.rsi] == 0x7777)
        #expect(pair.hypervisor.ledger.elided[.invalidatePage] == 0)
        pair.run(1, 1)
        #expect(pair.hypervisor.ledger.elided[.invalidatePage] == 1)
        #expect(pair.hypervisor.ledger.exits[.invalidatePage] == 1)
    }

    @Test("a root is known from its first load on, until the paging mode changes")
    func knownRoots() throws {
        let pair = try pair()
        // Three loads; CR4.PGE is set; a load; CR4.PCIDE is set; two loads without a flush.
        let setCR4: [UInt8] = [0x0f, 0x22, 0xe7]  // mov cr4, rdi
        pair.put(
            loadRoot + loadRoot + loadRoot + setCR4 + loadRoot + loadRoot,
            at: ProcessorPair.code[0])
        pair.processors[0][.rdi] = CR4.physicalAddressExtension | CR4.pageGlobalEnable
        pair.run(0, 3)
        #expect(pair.hypervisor.ledger.elided[.rootLoaded] == 2)
        pair.run(0, 2)
        #expect(pair.hypervisor.ledger.elided[.rootLoaded] == 2)
        pair.run(0, 1)
        #expect(pair.hypervisor.ledger.elided[.rootLoaded] == 3)
        // The other processor has loaded none.
        pair.put(loadRoot, at: ProcessorPair.code[1])
        pair.run(1, 1)
        #expect(pair.hypervisor.ledger.elided[.rootLoaded] == 3)
        #expect(pair.hypervisor.audit() == [])
    }

    @Test("after CR4.PCIDE is set, a load of CR3 without a flush takes no root from before")
    func processContextIdentifiers() throws {
        let pair = try pair()
        let setCR4: [UInt8] = [0x0f, 0x22, 0xe7]
        pair.put(loadRoot + loadRoot + setCR4 + loadRoot + loadRoot, at: ProcessorPair.code[0])
        let processor = pair.processors[0]
        processor[.rdi] = CR4.physicalAddressExtension | CR4.pcidEnable
        pair.run(0, 3)
        #expect(pair.hypervisor.ledger.elided[.rootLoaded] == 1)
        processor[.rbx] = 0x1000 | CR3.noFlush
        pair.run(0, 1)
        #expect(pair.hypervisor.ledger.elided[.rootLoaded] == 1)
        // In another PCID it is the same root.
        processor[.rbx] = 0x1005 | CR3.noFlush
        pair.run(0, 1)
        #expect(pair.hypervisor.ledger.elided[.rootLoaded] == 2)
        #expect(processor.cr3 == 0x1005)
        #expect(pair.hypervisor.audit() == [])
    }

    @Test("a root that was loaded without an exit is live, and one that is given up is not known")
    func lifetimes() throws {
        let pair = try pair()
        // A second root at 0x5000, which is written as data until its shadow is abandoned.
        pair.store(0x2007, at: 0x5000)
        let processor = pair.processors[0]
        // mov cr3, rbx; mov cr3, rsi; mov cr3, rbx
        let other: [UInt8] = [0x0f, 0x22, 0xde]
        // lea rdi, [0x5800]; mov ecx, 256; xor eax, eax; rep stosq; invlpg [rdx]
        let zero: [UInt8] =
            [0xbf, 0x00, 0x58, 0x00, 0x00, 0xb9, 0x00, 0x01, 0x00, 0x00, 0x31, 0xc0]
            + [0xf3, 0x48, 0xab]
        pair.put(
            loadRoot + other + loadRoot + other + zero + invalidate + loadRoot + zero + invalidate
                + other,
            at: ProcessorPair.code[0])
        processor[.rsi] = 0x5000
        pair.run(0, 4)
        #expect(pair.hypervisor.ledger.elided[.rootLoaded] == 2)
        // It is walked, known through no exit: writes do not end it.
        pair.run(0, 5)
        #expect(pair.hypervisor.ledger.shadowPagesAbandoned == 0)
        #expect(pair.hypervisor.audit() == [])
        pair.run(0, 1)
        #expect(pair.hypervisor.ledger.elided[.rootLoaded] == 3)
        pair.run(0, 5)
        #expect(pair.hypervisor.ledger.shadowPagesAbandoned == 1)
        #expect(pair.hypervisor.audit() == [])
        pair.run(0, 1)
        #expect(pair.hypervisor.ledger.elided[.rootLoaded] == 3)
        #expect(processor.cr3 == 0x5000)
        #expect(pair.hypervisor.audit() == [])
    }

    @Test("sequence numbers of value records are common to all processors")
    func sequence() throws {
        let pair = try pair("traced,record=value")
        let load: [UInt8] = [0x48, 0x8b, 0x32]
        pair.put(load + store + store, at: ProcessorPair.code[0])
        pair.put(store + store, at: ProcessorPair.code[1])
        pair.run(0, 2)
        pair.run(1, 1)
        pair.run(0, 1)
        pair.run(1, 1)
        func record(_ processor: UInt64, _ number: UInt64) -> [UInt64?] {
            (0..<4).map {
                pair.memory.load(
                    UInt64.self, at: MachineAddress(processor * 16384 + number * 32 + $0 * 8))
            }
        }
        let place = pair.memory.guestBase + ProcessorPair.entry | 8 << 56
        let code = ProcessorPair.code
        #expect(record(0, 0) == [place, 0x70_0003, code[0] + 3, 0])
        #expect(record(1, 0) == [place, 0x70_0003, code[1], 1])
        #expect(record(0, 1) == [place, 0x70_0003, code[0] + 6, 2])
        #expect(record(1, 1) == [place, 0x70_0003, code[1] + 3, 3])
    }
}
