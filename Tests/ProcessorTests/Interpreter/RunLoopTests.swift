import MachineMemory
import Processor
import Testing
import X86

@Suite struct RunLoopTests {
    /// STI; MOV RAX, [1 GiB]; NOP; NOP
    private let shadowed: [UInt8] = [
        0xfb, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0x40, 0x90, 0x90,
    ]

    @Test func `an interrupt stays out of the shadow of STI when the next instruction exits`()
        throws
    {
        let machine = try BareMachine()
        machine.processor.control.paging = .shadow(root: MachineAddress(0x1000))
        var acknowledged: UInt64?
        machine.platform.onAcknowledge = { [processor = machine.processor] in
            if acknowledged == nil { acknowledged = processor.retired }
            return nil
        }
        let start = machine.processor.retired
        let exit = machine.run(shadowed, count: 4)
        #expect(exit == .pageFault(GuestVirtualAddress(0x4000_0000), []))
        #expect(machine.processor.retired == start + 1)

        machine.processor.interruptRequested = true
        machine.memory.store(UInt64(0xe7), at: MachineAddress(0x2008))
        #expect(machine.processor.run(until: start + 4) == .limit)
        #expect(acknowledged == start + 2)
    }

    @Test func `a REP that takes long lets the board look in`() throws {
        let machine = try BareMachine()
        machine.processor.flags = RFLAGS.direction
        machine.processor[.rcx] = 4 << 20
        machine.processor[.rsi] = 8 << 20
        let before = machine.processor.retired
        #expect(machine.run([0xf3, 0xac], count: 1) == .stopped)
        #expect(machine.processor.retired == before)
        #expect(machine.processor[.rcx] > 0)
        while machine.processor.run(until: before + 1) == .stopped {}
        #expect(machine.processor.retired == before + 1)
        #expect(machine.processor[.rcx] == 0)
        #expect(machine.processor[.rsi] == 4 << 20)
    }

    @Test func `the limit is exact in the middle of a block`() throws {
        let machine = try BareMachine()
        for count in 1...6 as ClosedRange<UInt64> {
            machine.processor[.rax] = 0
            let exit = machine.run(Self.increments, count: count)
            #expect(exit == .limit)
            #expect(machine.processor[.rax] == count)
            #expect(machine.processor.rip == BareMachine.code + count * 3)
        }
    }

    /// INC RAX, sixteen times.
    private static let increments: [UInt8] = (0..<16).flatMap { _ in [0x48, 0xff, 0xc0] as [UInt8] }
}
