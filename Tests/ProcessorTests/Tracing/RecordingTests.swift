import MachineMemory
import Processor
import Testing
import X86

/// The guest write buffer, seen from the instructions that fill it.
@Suite struct RecordingTests {
    /// A machine whose `small` addresses lie in a traced page of 2 MiB at `target`, with a ring of
    /// 512 records.
    private func traced(_ target: UInt64, coalesce: Int = 0) throws -> BareMachine {
        let machine = try BareMachine()
        for page in 0..<8 as Range<UInt64> {
            machine.memory.store(page << 21 | 0xe7, at: MachineAddress(0x3000 + page * 8))
        }
        machine.memory.store(
            target | 0xe7 | PagingEntry.tracedBit, at: MachineAddress(0x3010))
        machine.processor.control.paging = .shadow(root: MachineAddress(0x1000))
        machine.processor.control.trace.isEnabled = true
        machine.processor.control.trace.base = MachineAddress(0x60_0000)
        machine.processor.control.trace.capacity = 4096
        machine.processor.control.trace.coalesce = coalesce
        machine.processor.invalidateAll()
        return machine
    }

    /// Runs one instruction at any fill of the ring, draining it when it is full.
    private func runFilled(_ machine: BareMachine, _ fill: UInt64, _ bytes: [UInt8]) -> Exit {
        machine.processor.traceProducer = fill
        let exit = machine.run(bytes, count: 1)
        guard exit == .bufferFull else { return exit }
        machine.processor.control.trace.consumer = machine.processor.traceProducer
        return machine.processor.run(until: machine.processor.retired + 1)
    }

    @Test(arguments: 396...403 as ClosedRange<UInt64>)
    func `CMPXCHG16B is done whole or not at all when the buffer fills`(fill: UInt64) throws {
        let machine = try traced(0x40_0000)
        machine.memory.store(UInt64(1), at: MachineAddress(0x40_0000))
        machine.memory.store(UInt64(2), at: MachineAddress(0x40_0008))
        machine.processor[.rsi] = BareMachine.small
        machine.processor[.rax] = 1
        machine.processor[.rdx] = 2
        machine.processor[.rbx] = 11
        machine.processor[.rcx] = 12
        #expect(runFilled(machine, fill, [0x48, 0x0f, 0xc7, 0x0e]) == .limit)
        #expect(machine.processor.flags & RFLAGS.zero != 0)
        #expect(machine.memory.load(UInt64.self, at: MachineAddress(0x40_0000)) == 11)
        #expect(machine.memory.load(UInt64.self, at: MachineAddress(0x40_0008)) == 12)
        #expect(machine.processor.traceProducer == fill + 2)
    }

    @Test(arguments: 396...403 as ClosedRange<UInt64>)
    func `FSTP of 80 bits pops once when the buffer fills`(fill: UInt64) throws {
        let machine = try traced(0x40_0000)
        // FNINIT; FLDZ; FLD1
        #expect(machine.run([0xdb, 0xe3, 0xd9, 0xee, 0xd9, 0xe8], count: 3) == .limit)
        machine.processor[.rsi] = BareMachine.small
        // FSTP tword [RSI]
        #expect(runFilled(machine, fill, [0xdb, 0x3e]) == .limit)
        #expect(machine.memory.load(UInt64.self, at: MachineAddress(0x40_0000)) == 1 << 63)
        #expect(machine.memory.load(UInt16.self, at: MachineAddress(0x40_0008)) == 0x3fff)
    }

    @Test(arguments: [0, 1, 8]) func `a byte written at machine address 0 is recorded`(
        coalesce: Int
    ) throws {
        let machine = try traced(0, coalesce: coalesce)
        // MOV byte [small], 0xaa
        #expect(machine.run([0xc6, 0x04, 0x25, 0, 0, 0x40, 0, 0xaa], count: 1) == .limit)
        #expect(machine.processor.traceProducer == 1)
        #expect(machine.processor.statistics.coalesced == 0)
    }

    @Test func `REP STOS makes a record an iteration and stops where the buffer is full`() throws {
        let machine = try traced(0x40_0000)
        machine.processor[.rdi] = BareMachine.small
        machine.processor[.rcx] = 1000
        machine.processor[.rax] = 0x5555
        #expect(machine.run([0xf3, 0x48, 0xab], count: 1) == .bufferFull)
        let done = machine.processor.traceProducer
        #expect(done > 0 && done <= 512)
        #expect(machine.processor[.rcx] == 1000 - done)
        #expect(machine.processor[.rdi] == BareMachine.small + done * 8)
        // No write is done and not recorded.
        let next = MachineAddress(0x40_0000 + done * 8)
        #expect(machine.memory.load(UInt64.self, at: next) == 0)
    }

    @Test func `a write over a page boundary makes a record in each page`() throws {
        let machine = try traced(0x40_0000)
        // MOV qword [small + 0xffc], -1
        let bytes: [UInt8] = [
            0x48, 0xc7, 0x04, 0x25, 0xfc, 0x0f, 0x40, 0, 0xff, 0xff, 0xff, 0xff,
        ]
        #expect(machine.run(bytes, count: 1) == .limit)
        #expect(machine.processor.traceProducer == 2)
        let ring = MachineAddress(0x60_0000)
        #expect(machine.memory.load(UInt64.self, at: ring) == 0x40_0ff8 | 2)
        #expect(machine.memory.load(UInt64.self, at: ring + 8) == 0x40_1000 | 2)
    }
}
