import MachineMemory
import Processor
import Testing
import X86

/// What debug exceptions and NMIs leave behind: RF, BTF, and the blocking of NMIs.
@Suite struct DebugStateTests {
    @Test("a general-detect fault has RF in its frame")
    func generalDetect() throws {
        let machine = try SystemMachine(.long)
        machine.processor.setBreakpoint(0, address: 0, control: 0x2400)
        machine.run([0x0f, 0x21, 0xc0])
        #expect(machine.haltedVector == 1)
        #expect(try machine.frame(2) & RFLAGS.resume != 0)
    }

    @Test("a trap between two iterations of a REP has RF in its frame, one after the last has not")
    func repeatedString() throws {
        let machine = try SystemMachine(.long)
        machine.processor[.rcx] = 2
        machine.processor[.rdi] = SystemMachine.data
        machine.processor.flags = RFLAGS.trap | 2
        // rep stosb
        machine.run([0xf3, 0xaa, 0xf4])
        #expect(machine.haltedVector == 1)
        #expect(try machine.frame(0) == SystemMachine.code)
        #expect(try machine.frame(2) & RFLAGS.resume != 0)
        #expect(machine.processor[.rcx] == 1)
        machine.processor.flags = RFLAGS.trap | 2
        machine.run([0xf3, 0xaa, 0xf4])
        #expect(machine.haltedVector == 1)
        #expect(try machine.frame(0) == SystemMachine.code + 2)
        #expect(try machine.frame(2) & RFLAGS.resume == 0)
        #expect(machine.processor[.rcx] == 0)
        #expect(machine.processor.flags & RFLAGS.resume == 0)
    }

    @Test("with BTF a step ends at a branch that is taken, and the trap clears BTF")
    func branchStep() throws {
        // xor eax, eax; jnz +0; jmp +0; nop; hlt
        let code: [UInt8] = [0x31, 0xc0, 0x75, 0, 0xeb, 0, 0x90, 0xf4]
        let machine = try SystemMachine(.long)
        machine.run(ControlTests.write(MSR.debugControl, 2))
        machine.processor.flags = RFLAGS.trap | 2
        machine.run(code)
        #expect(machine.haltedVector == 1)
        #expect(try machine.frame(0) == SystemMachine.code + 6)
        #expect(machine.processor.debugStatus & 0xf00f == 0x4000)
        // mov ecx, 1d9h; rdmsr; hlt
        machine.run([0xb9, 0xd9, 1, 0, 0, 0x0f, 0x32, 0xf4])
        #expect(machine.processor[.rax] == 0)
        machine.processor.flags = RFLAGS.trap | 2
        machine.run(code)
        #expect(try machine.frame(0) == SystemMachine.code + 2)
    }

    @Test("an IRET that faults lets NMIs through again")
    func faultingReturn() throws {
        let machine = try SystemMachine(.long)
        // The NMI's handler returns to a code segment that is not present: #NP.
        machine.store(UInt64(0x00af_1b00_0000_ffff), at: SystemMachine.gdt + 0x48)
        machine.memory.write(
            // inc ebx; mov qword [rsp+8], 48h; iretq
            [0xff, 0xc3, 0x48, 0xc7, 0x44, 0x24, 8, 0x48, 0, 0, 0, 0x48, 0xcf].span,
            at: MachineAddress(SystemMachine.handlers + 0x20))
        machine.processor.codeChanged(in: MachineAddress(SystemMachine.handlers).frame)
        machine.processor[.rbx] = 0
        machine.processor.nmiRequested = true
        machine.run([0x90, 0xf4])
        #expect(machine.haltedVector == 11)
        #expect(machine.processor[.rbx] == 1)
        machine.processor.nmiRequested = true
        machine.proceed()
        #expect(machine.processor[.rbx] == 2)
    }
}
