import MachineMemory
import Processor
import Testing
import X86

/// What is recorded and when the facility exits, by the rules of Docs/TracedWrites.md.
///
/// The machine's tables serve as shadow tables. Linear and machine addresses are the same; 4 KiB
/// pages lie at 0x400000 (traced), 0x401000 (traced) and 0x402000 (not traced); the ring, of 512
/// records, at 0x100000.
@Suite struct TraceRecordTests {
    static let page: UInt64 = 0x40_0000
    static let ring: UInt64 = 0x10_0000

    private func machine(coalesce: Int = 0, threshold: UInt64 = 0) throws -> SystemMachine {
        let machine = try SystemMachine(.long)
        // Present, writable, user, accessed, dirty.
        for index in 0..<4 as Range<UInt64> {
            machine.store(index << 21 | 0xe7, at: 0x3000 + index * 8)
        }
        machine.store(UInt64(0x4027), at: 0x3010)
        for index in 0..<3 as Range<UInt64> {
            let traced = index < 2 ? PagingEntry.tracedBit : 0
            machine.store((Self.page + (index << 12)) | 0x67 | traced, at: 0x4000 + index * 8)
        }
        machine.processor.control.paging = .shadow(root: MachineAddress(0x1000))
        machine.processor.control.trace.isEnabled = true
        machine.processor.control.trace.base = MachineAddress(Self.ring)
        machine.processor.control.trace.capacity = 4096
        machine.processor.control.trace.coalesce = coalesce
        machine.processor.control.trace.threshold = threshold
        machine.processor.invalidateAll()
        return machine
    }

    private func records(_ machine: SystemMachine) throws -> [UInt64] {
        try (0..<min(machine.processor.traceProducer, 512)).map {
            try machine.load(UInt64.self, at: Self.ring + $0 * 8)
        }
    }

    /// MOV from RAX or a part of it to an absolute address, of 1, 2, 4 or 8 bytes.
    private func store(_ size: Int, _ address: UInt64) -> [UInt8] {
        let opcode: [UInt8] =
            switch size {
            case 1: [0x88]
            case 2: [0x66, 0x89]
            case 4: [0x89]
            default: [0x48, 0x89]
            }
        return opcode + [0x04, 0x25] + bytes(UInt32(truncatingIfNeeded: address))
    }

    @Test("a record has the quadword's address and the size of the write")
    func sizes() throws {
        let machine = try machine()
        let code =
            store(8, Self.page + 0x18) + store(4, Self.page + 0x24) + store(2, Self.page + 0x36)
            + store(1, Self.page + 0x47)
        #expect(machine.run(code + [0xf4]) == .halted)
        let offsets: [UInt64] = [0x1b, 0x22, 0x31, 0x40]
        let expected = offsets.map { Self.page + $0 }
        #expect(try records(machine) == expected)
        #expect(machine.processor.statistics.records == 4)
    }

    @Test("a record stands in the ring before the write that it tells of is made")
    func recordComesFirst() throws {
        let machine = try machine()
        // The write falls on its own record: what comes last is what is left.
        machine.processor.control.trace.base = MachineAddress(Self.page)
        let load: [UInt8] = [0xb8] + bytes(UInt32(0x1234_5678))  // mov eax, 0x12345678
        #expect(machine.run(load + store(8, Self.page) + [0xf4]) == .halted)
        #expect(machine.processor.traceProducer == 1)
        #expect(try machine.load(UInt64.self, at: Self.page) == 0x1234_5678)
    }

    @Test("reads, and writes to pages that are not traced, make no record")
    func untraced() throws {
        let machine = try machine()
        // mov rax, [page]
        let load: [UInt8] = [0x48, 0x8b, 0x04, 0x25] + bytes(UInt32(Self.page))
        #expect(machine.run(load + store(8, Self.page + 0x2000) + [0xf4]) == .halted)
        #expect(machine.processor.traceProducer == 0)
    }

    @Test("a write across quadwords makes two records, one across pages one for each traced page")
    func crossing() throws {
        let machine = try machine()
        let code =
            store(8, Self.page + 0x1c) + store(8, Self.page + 0xffc) + store(8, Self.page + 0x1ffc)
        #expect(machine.run(code + [0xf4]) == .halted)
        let offsets: [UInt64] = [0x1b, 0x23, 0xffa, 0x1002, 0x1ffa]
        let expected = offsets.map { Self.page + $0 }
        #expect(try records(machine) == expected)
    }

    @Test("a failed CMPXCHG, a push and an exception's frame are recorded")
    func implicit() throws {
        let machine = try machine()
        machine.processor[.rsp] = Self.page + 0x800
        machine.processor[.rax] = 1
        // cmpxchg [page], rcx; push rax; ud2
        let code: [UInt8] = [0x48, 0x0f, 0xb1, 0x0c, 0x25] + bytes(UInt32(Self.page)) + [0x50]
        #expect(machine.run(code + [0x0f, 0x0b]) == .halted)
        #expect(machine.haltedVector == 6)
        let places = Set(try records(machine).map { ($0 & ~7) &- Self.page })
        // The frame is aligned to 16 bytes below the pushed quadword.
        #expect(places == [0, 0x7f8, 0x7e8, 0x7e0, 0x7d8, 0x7d0, 0x7c8])
    }

    @Test("a record equal to one of the last is not repeated until records are consumed")
    func coalescing() throws {
        let twice = store(8, Self.page) + store(8, Self.page + 8) + store(8, Self.page)
        for (coalesce, count) in [(0, 3), (1, 3), (2, 2)] as [(Int, UInt64)] {
            let machine = try machine(coalesce: coalesce)
            #expect(machine.run(twice + [0xf4]) == .halted)
            #expect(machine.processor.traceProducer == count, "coalesce \(coalesce)")
            #expect(machine.processor.statistics.coalesced == 3 - count)
            machine.processor.control.trace.consumer = count
            #expect(machine.run(store(8, Self.page) + [0xf4]) == .halted)
            #expect(machine.processor.traceProducer == count + 1)
        }
    }

    @Test("the threshold exits after the instruction that reaches it")
    func threshold() throws {
        let machine = try machine(threshold: 2)
        let code = store(8, Self.page) + store(8, Self.page + 8) + store(8, Self.page + 16)
        #expect(machine.run(code + [0xf4]) == .bufferThreshold)
        #expect(machine.processor.rip == SystemMachine.code + 16)
        #expect(machine.processor.traceProducer == 2)
        machine.processor.control.trace.consumer = 2
        #expect(machine.proceed() == .halted)
        #expect(machine.processor.traceProducer == 3)
    }

    @Test("a full buffer exits before a write; a repeated store goes on where it was")
    func full() throws {
        let machine = try machine()
        let processor = machine.processor
        processor[.rdi] = Self.page
        processor[.rcx] = 1000
        processor[.rax] = 0x1122_3344_5566_7788
        var exits = 0
        // rep stosq
        var exit = machine.run([0xf3, 0x48, 0xab, 0xf4])
        while exit == .bufferFull, exits < 10 {
            exits += 1
            #expect(processor.tracePending <= 512)
            #expect(processor.tracePending + 112 > 512)
            // What is recorded is what is written.
            #expect(processor[.rdi] == Self.page + processor.traceProducer * 8)
            #expect(processor[.rcx] == 1000 - processor.traceProducer)
            #expect(processor.rip == SystemMachine.code)
            processor.control.trace.consumer = processor.traceProducer
            exit = machine.proceed()
        }
        #expect(exit == .halted)
        #expect(exits > 0)
        #expect(processor.traceProducer == 1000)
        for index in 0..<1000 as Range<UInt64> {
            #expect(
                try machine.load(UInt64.self, at: Self.page + index * 8) == 0x1122_3344_5566_7788)
        }
    }
}
