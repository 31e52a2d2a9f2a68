import MachineMemory
import Processor
import Testing
import X86

/// Operations that are done without an exit while nothing is pending.
@Suite struct ElisionTests {
    private let page = TracedMachine.page
    private typealias M = TracedMachine

    // INVLPG [page]; INVPCID RAX, [RSI]; MOV CR3, RCX
    private static let operations: [[UInt8]] = [
        [0x0f, 0x01, 0x3c, 0x25, 0x00, 0x00, 0x40, 0x00], [0x66, 0x0f, 0x38, 0x82, 0x06],
        [0x0f, 0x22, 0xd9],
    ]

    /// Like a guest whose tables at 0x5000 have a shadow at 0xd00000, which the table of roots has
    /// as its fourth pair.
    private func eliding() throws -> TracedMachine {
        let traced = try M()
        traced.processor.control.exitsOnPagingOperations = true
        traced.processor.control.trace.elides = true
        for offset in stride(from: 0, to: 0x1000, by: 8) as StrideTo<UInt64> {
            traced.poke(0xd0_0000 + offset, traced.peek(0x1000 + offset))
        }
        traced.poke(M.roots + 3 * 16, 0x5001)
        traced.poke(M.roots + 3 * 16 + 8, 0xd0_0000)
        traced.processor[.rax] = 2
        traced.processor[.rsi] = BareMachine.data
        traced.processor[.rcx] = 0x5000
        return traced
    }

    @Test func `while nothing is pending, none of them exits`() throws {
        let traced = try eliding()
        let operations = Self.operations
        #expect(traced.execute(operations[0], operations[1], operations[2]) == .limit)
        let statistics = traced.processor.statistics
        #expect(statistics.elidedPageInvalidations == 1)
        #expect(statistics.elidedPCIDInvalidations == 1)
        #expect(statistics.elidedRootLoads == 1)
        #expect(traced.processor.cr3 == 0x5000)
        #expect(traced.processor.control.paging == .shadow(root: MachineAddress(0xd0_0000)))
    }

    @Test(arguments: 0..<3)
    func `each exits while a record of any processor is pending`(number: Int) throws {
        let traced = try eliding()
        #expect(traced.execute(M.store(8, page)) == .limit)
        #expect(traced.peek(M.common + 8) == 1)
        traced.processor[.rax] = 2
        let exits: [Exit] = [
            .invalidatePage(GuestVirtualAddress(page)),
            .invalidatePCID(type: 2, pcid: 0, address: GuestVirtualAddress(0)),
            .rootLoaded(flushed: true),
        ]
        #expect(traced.execute(Self.operations[number]) == exits[number])
        // It is another's record, now.
        traced.processor.control.trace.consumer = 1
        traced.poke(M.common + 8, 7)
        #expect(traced.execute(Self.operations[number]) == exits[number])
        traced.poke(M.common + 8, 0)
        #expect(traced.execute(Self.operations[number]) == .limit)
    }

    @Test func `each exits where elision is off, and a root that is not known exits`() throws {
        let traced = try eliding()
        traced.processor[.rcx] = 0x6000
        #expect(traced.execute(Self.operations[2]) == .rootLoaded(flushed: true))
        #expect(traced.processor.control.paging == .shadow(root: MachineAddress(0x1000)))
        // A pair that is not valid is none.
        traced.processor[.rcx] = 0x5000
        traced.poke(M.roots + 3 * 16, 0x5000)
        #expect(traced.execute(Self.operations[2]) == .rootLoaded(flushed: true))
        traced.processor.control.trace.elides = false
        traced.poke(M.roots + 3 * 16, 0x5001)
        for operation in Self.operations { #expect(traced.execute(operation) != .limit) }
        #expect(traced.processor.statistics.elidedRootLoads == 0)
    }

    @Test func `an elided INVLPG drops the translation, as any`() throws {
        let traced = try eliding()
        // MOV RDX, [page]
        let load: [UInt8] = [0x48, 0x8b, 0x14, 0x25] + bytes(UInt32(page))
        traced.poke(page + 0x2000, 0x2222)
        #expect(traced.execute(load) == .limit)
        traced.poke(BareMachine.smallTable, page + 0x2000 | 0x67)
        #expect(traced.execute(load) == .limit)
        #expect(traced.processor[.rdx] == 0)
        #expect(traced.execute(Self.operations[0], load) == .limit)
        #expect(traced.processor[.rdx] == 0x2222)
        #expect(traced.processor.statistics.elidedPageInvalidations == 1)
    }

    @Test func `a record with the same place is coalesced and pending, once`() throws {
        let traced = try eliding()
        traced.processor.control.trace.coalesce = 1
        #expect(traced.execute(M.store(8, page), M.store(8, page)) == .limit)
        #expect(traced.peek(M.common + 8) == 1)
        #expect(traced.processor.traceProducer == 1)
    }
}
