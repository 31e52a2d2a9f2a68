import MachineMemory
import Processor
import Testing
import X86

@Suite struct SoftwareTLBTests {
    @Test func `a reset leaves no translation behind`() throws {
        let machine = try BareMachine()
        machine.mapSmall([0x5_0003])
        machine.store([1], at: 0x5_0000)
        machine.store([2], at: 0x5_1000)
        // MOV EAX, [small]
        let load: [UInt8] = [0x8b, 0x04, 0x25, 0, 0, 0x40, 0]
        #expect(machine.run(load, count: 1) == .limit)
        #expect(machine.processor[.rax] == 1)
        machine.mapSmall([0x5_1003])
        machine.processor.reset()
        machine.boot()
        #expect(machine.run(load, count: 1) == .limit)
        #expect(machine.processor[.rax] == 2)
    }
}
