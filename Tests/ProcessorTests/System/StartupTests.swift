import Processor
import Testing
import X86

@Suite struct StartupTests {
    @Test func `a waiting processor takes no interrupt, and starts where the vector says`() throws {
        let machine = try BareMachine()
        let processor = machine.processor
        processor.reset()
        processor.waitForStartup()
        machine.memory.write([0x40, 0x40].span, at: MachineAddress(0x9a000))  // inc ax; inc ax
        var acknowledged = 0
        machine.platform.onAcknowledge = {
            acknowledged += 1
            return nil
        }
        processor.interruptRequested = true
        processor.nmiRequested = true
        #expect(processor.run(until: processor.retired + 10) == .halted)
        #expect(acknowledged == 0)
        #expect(processor.nmiRequested)
        processor.nmiRequested = false
        processor.start(vector: 0x9a)
        #expect(processor.selector(.cs) == 0x9a00)
        #expect(processor.segmentBase(.cs) == 0x9a000)
        #expect(processor.run(until: processor.retired + 2) == .limit)
        #expect(processor[.rax] == 2)
        // One that does not wait ignores it.
        processor.start(vector: 1)
        #expect(processor.selector(.cs) == 0x9a00)
    }

    @Test func `INIT resets registers and leaves model-specific ones`() throws {
        let machine = try BareMachine()
        let processor = machine.processor
        // mov ecx, 0xc0000102; mov eax, 0x1234; mov edx, 0; wrmsr: KERNEL_GS_BASE
        let write: [UInt8] = [
            0xb9, 0x02, 0x01, 0x00, 0xc0, 0xb8, 0x34, 0x12, 0, 0, 0xba, 0, 0, 0, 0, 0x0f, 0x30,
        ]
        #expect(machine.run(write, count: 4) == .limit)
        let retired = processor.retired
        processor.initialize()
        #expect(processor.retired == retired)
        #expect(processor.cr0 & ~(CR0.cacheDisable | CR0.notWriteThrough) == CR0.extensionType)
        #expect(processor.cr3 == 0 && processor.cr4 == 0 && processor.efer == 0)
        #expect(processor.rip == 0xfff0)
        #expect(processor[.rcx] == 0)
        #expect(processor[.rdx] == UInt64(processor.model.signature))
        #expect(!processor.interruptsEnabled)
        // mov ecx, 0xc0000102; rdmsr, in 16-bit code
        machine.memory.write(
            [0x66, 0xb9, 0x02, 0x01, 0x00, 0xc0, 0x0f, 0x32].span, at: MachineAddress(0x9a000))
        processor.waitForStartup()
        processor.start(vector: 0x9a)
        #expect(processor.run(until: processor.retired + 2) == .limit)
        #expect(processor[.rax] == 0x1234)
    }

    @Test func `an NMI that waits does not outlive a reset`() throws {
        let machine = try BareMachine()
        machine.processor.nmiRequested = true
        machine.processor.reset()
        #expect(!machine.processor.nmiRequested)
    }
}
