import MachineMemory
import Processor
import Testing
import X86

/// Records with values, and masks.
@Suite struct TraceFormatTests {
    private let page = TracedMachine.page
    private typealias M = TracedMachine

    @Test func `a value record says where, how much, what, by whom and in which order`() throws {
        let traced = try M(.value)
        traced.poke(M.common, 41)
        traced.processor[.rax] = 0x1122_3344_5566_7788
        let code = [8, 4, 2, 1].map { M.store($0, page + 0x10 + UInt64($0)) }
        #expect(traced.execute(code[0], code[1], code[2], code[3]) == .limit)
        // Of 8 bytes at 0x18, 4 at 0x14, 2 at 0x12, 1 at 0x11.
        let sizes: [(bytes: UInt64, value: UInt64)] = [
            (8, 0x1122_3344_5566_7788), (4, 0x5566_7788), (2, 0x7788), (1, 0x88),
        ]
        var address = BareMachine.code
        for (number, expected) in sizes.enumerated() {
            let place = page + 0x10 + expected.bytes | expected.bytes << 56
            #expect(
                traced.record(UInt64(number))
                    == [place, expected.value, address, 41 + UInt64(number)])
            address += UInt64(code[number].count)
        }
        #expect(traced.peek(M.common) == 45)
        #expect(traced.processor.traceProducer == 4)
    }

    @Test func `a write across a quadword or a page is recorded in its parts`() throws {
        let traced = try M(.value)
        traced.processor[.rax] = 0x1122_3344_5566_7788
        // In one page; from one traced page to the next; out of the last traced page.
        let exit = traced.execute(
            M.store(8, page + 0x1d), M.store(8, page + 0xffb), M.store(4, page + 0x1fff))
        #expect(exit == .limit)
        let parts = (0..<traced.processor.traceProducer).map { Array(traced.record($0)[0..<2]) }
        #expect(
            parts == [
                [page + 0x1d | 3 << 56, 0x66_7788], [page + 0x20 | 5 << 56, 0x11_2233_4455],
                [page + 0xffb | 5 << 56, 0x44_5566_7788], [page + 0x1000 | 3 << 56, 0x11_2233],
                [page + 0x1fff | 1 << 56, 0x88],
            ])
    }

    @Test(arguments: [TraceFormat.value, .address])
    func `a repeated store fills the ring again and again, and all of it is recorded`(
        format: TraceFormat
    ) throws {
        let traced = try M(format)
        traced.processor.control.trace.capacity = 4096
        let records = 4096 / format.recordBytes
        traced.processor[.rdi] = page
        traced.processor[.rcx] = 1000
        traced.processor[.rax] = 0x77
        var exit = traced.execute([0xf3, 0x48, 0xab])
        var exits = 0
        while exit == .bufferFull, exits < 20 {
            exits += 1
            let done = traced.processor.traceProducer
            #expect(traced.processor.tracePending > records - 112)
            #expect(traced.processor.tracePending <= records)
            #expect(traced.processor[.rdi] == page + done * 8)
            #expect(traced.peek(page + done * 8) == 0)
            traced.processor.control.trace.consumer = done
            exit = traced.processor.run(until: traced.processor.retired + 1)
        }
        #expect(exit == .limit)
        #expect(exits >= (format == .value ? 7 : 1))
        #expect(traced.processor.traceProducer == 1000)
    }

    @Test func `a mask has a bit for each written quadword, and the ring each new group`() throws {
        let traced = try M(.mask)
        let exit = traced.execute(
            M.store(8, page + 0x18), M.store(1, page + 0x21), M.store(8, page + 0x18),
            M.store(8, page + 0xe00), M.store(8, page + 0x2000))
        #expect(exit == .limit)
        #expect(traced.mask(page) == 0b11000)
        #expect(traced.mask(page + 0xe00) == 1)
        #expect(traced.mask(page + 0x2000) == 0)
        #expect(traced.processor.traceProducer == 2)
        #expect(traced.record(0) == [page] && traced.record(1) == [page | 7])
        #expect(traced.processor.statistics.coalesced == 2)
        // Taken by the hypervisor, the group is recorded anew.
        traced.poke(M.masks + (page >> 12) * 64, 0)
        #expect(traced.execute(M.store(8, page + 0x18)) == .limit)
        #expect(traced.record(2) == [page])
        #expect(traced.mask(page) == 0b1000)
    }

    @Test func `a write across groups and pages marks both, and only in traced pages`() throws {
        let traced = try M(.mask)
        let exit = traced.execute(
            M.store(8, page + 0x1fc), M.store(8, page + 0xffc), M.store(8, page + 0x1ffc))
        #expect(exit == .limit)
        #expect(traced.mask(page) == 1 << 63 && traced.mask(page + 0x200) == 1)
        #expect(traced.mask(page + 0xfff) == 1 << 63 && traced.mask(page + 0x1000) == 1)
        #expect(traced.mask(page + 0x1fff) == 1 << 63 && traced.mask(page + 0x2000) == 0)
        #expect(
            (0..<5).map { traced.record($0)[0] }
                == [page, page | 1, page | 7, page + 0x1000, page + 0x1000 | 7])
        #expect(traced.processor.traceProducer == 5)
    }

    @Test(arguments: TraceFormat.allCases)
    func `the threshold exits after the instruction, and room is made sure of before it`(
        format: TraceFormat
    ) throws {
        let traced = try M(format)
        traced.processor.control.trace.threshold = 2
        let stores = M.store(8, page) + M.store(8, page + 0x200) + M.store(8, page + 0x400)
        #expect(traced.machine.run(stores, count: 3) == .bufferThreshold)
        #expect(traced.processor.rip == BareMachine.code + 16)
        #expect(traced.processor.traceProducer == 2)
        // One record is free, and a write may need two: nothing is written.
        traced.processor.control.trace.threshold = 0
        traced.processor.traceProducer = 511
        #expect(
            traced.processor.run(until: traced.processor.retired + 1) == .bufferFull)
        #expect(traced.mask(page + 0x400) == 0)
        traced.processor[.rax] = 5
        traced.processor.control.trace.consumer = 511
        #expect(traced.processor.run(until: traced.processor.retired + 1) == .limit)
        #expect(traced.peek(page + 0x400) == 5)
        #expect(traced.processor.tracePending == 1)
    }

    @Test(arguments: TraceFormat.allCases)
    func `CMPXCHG16B is done whole or not at all at any fill of the ring`(format: TraceFormat)
        throws
    {
        for free in [0, 1, 2, 3, 4, 5, 110, 111, 112, 113] as [UInt64] {
            let traced = try M(format)
            traced.processor[.rbx] = 11
            traced.processor[.rcx] = 12
            traced.processor.traceProducer = 512 - free
            traced.processor[.rsi] = page + 0x1f0
            let code: [UInt8] = [0x48, 0x0f, 0xc7, 0x0e]
            var exit = traced.machine.run(code, count: 1)
            if exit == .bufferFull {
                #expect(traced.peek(page + 0x1f0) == 0 && traced.peek(page + 0x1f8) == 0)
                #expect(traced.processor.traceProducer == 512 - free)
                #expect(free < 112)
                traced.processor.control.trace.consumer = 512 - free
                exit = traced.processor.run(until: traced.processor.retired + 1)
            }
            #expect(exit == .limit)
            #expect(traced.peek(page + 0x1f0) == 11 && traced.peek(page + 0x1f8) == 12)
            #expect(traced.processor.traceProducer == 512 - free + (format == .mask ? 1 : 2))
        }
    }
}
