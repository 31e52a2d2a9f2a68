import MachineMemory
import Processor
import Testing
import X86

/// Guests that never retire an instruction again: the board must still get to look in.
@Suite struct StandstillTests {
    @Test func `a handler that is an undefined instruction itself`() throws {
        let machine = try SystemMachine(.long)
        // A stack of its own, which begins anew each time.
        machine.setGate(6, stack: 1)
        machine.store(UInt16(0x0b0f), at: SystemMachine.handlers + 6 * 16)
        #expect(machine.run([0x0f, 0x0b]) == .stopped)
        let retired = machine.processor.retired
        #expect(machine.proceed() == .stopped)
        #expect(machine.processor.retired == retired)
    }

    @Test func `a page-fault handler that is not mapped`() throws {
        let machine = try SystemMachine(.long)
        machine.setGate(14, stack: 1)
        // Its code is moved to 1 GiB.
        machine.store(UInt16(0x4000), at: SystemMachine.idt + 14 * 16 + 6)
        // MOV RAX, [1 GiB]
        #expect(machine.run([0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0x40]) == .stopped)
    }
}
