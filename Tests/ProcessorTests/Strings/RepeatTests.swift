import MachineMemory
import Processor
import Testing
import X86

/// Repeated string instructions that something interrupts.
@Suite struct RepeatTests {
    @Test func `a single step traps after each iteration`() throws {
        let machine = try SystemMachine(.long)
        machine.processor.flags = RFLAGS.trap | RFLAGS.alwaysOne
        machine.processor[.rcx] = 3
        machine.processor[.rdi] = SystemMachine.data
        // REP STOSB
        machine.run([0xf3, 0xaa])
        #expect(machine.haltedVector == 1)
        #expect(machine.processor[.rcx] == 2)
        #expect(machine.processor[.rdi] == SystemMachine.data + 1)
        #expect(try machine.frame(0) == SystemMachine.code)
    }

    @Test func `an interrupt that waits in the shadow of STI comes after the first iteration`()
        throws
    {
        let machine = try SystemMachine(.long)
        machine.platform.interrupts = [0x40]
        machine.processor.interruptRequested = true
        machine.processor[.rcx] = 3
        machine.processor[.rdi] = SystemMachine.data
        // STI; REP STOSB
        machine.run([0xfb, 0xf3, 0xaa])
        #expect(machine.haltedVector == 0x40)
        #expect(machine.processor[.rcx] == 2)
        #expect(try machine.frame(0) == SystemMachine.code + 1)
    }

    @Test func `a data breakpoint traps after the iteration that met it`() throws {
        let machine = try SystemMachine(.long)
        machine.processor[.rax] = SystemMachine.data + 2
        machine.processor[.rbx] = 0x1_0002
        machine.processor[.rcx] = 8
        machine.processor[.rdi] = SystemMachine.data
        // MOV DR0, RAX; MOV DR7, RBX; REP STOSB
        machine.run([0x0f, 0x23, 0xc0, 0x0f, 0x23, 0xfb, 0xf3, 0xaa])
        #expect(machine.haltedVector == 1)
        #expect(machine.processor[.rcx] == 5)
        #expect(try machine.frame(0) == SystemMachine.code + 6)
    }

    @Test func `a fault in a long scan leaves the flags as they were wherever it paused`() throws {
        for count in [3, 5000] as [UInt64] {
            let machine = try SystemMachine(.long)
            for offset in stride(from: 0, to: 5000, by: 8) as StrideTo<UInt64> {
                machine.store(UInt64(0x8080_8080_8080_8080), at: 0x80_0000 - 5000 + offset)
            }
            machine.processor[.rdi] = 0x80_0000 - count
            machine.processor[.rcx] = count + 1
            machine.processor[.rax] = 1
            // STC; REPNE SCASB, in which every comparison sets CF, OF and SF.
            machine.run([0xf9, 0xf2, 0xae])
            #expect(machine.haltedVector == 14)
            #expect(machine.processor[.rcx] == 1)
            #expect(try machine.frame(3) & RFLAGS.arithmetic == RFLAGS.carry)
        }
    }

    @Test(arguments: [0xa6, 0xae] as [UInt8])
    func `a fault in a repeated comparison leaves the flags as they were`(opcode: UInt8) throws {
        let machine = try SystemMachine(.long)
        // The last byte that is mapped: the second iteration faults.
        machine.processor[.rsi] = SystemMachine.data
        machine.processor[.rdi] = 0x7f_ffff
        machine.processor[.rcx] = 4
        // STC; REPE CMPSB or SCASB
        machine.run([0xf9, 0xf3, opcode])
        #expect(machine.haltedVector == 14)
        #expect(machine.processor[.rcx] == 3)
        #expect(try machine.frame(3) & RFLAGS.arithmetic == RFLAGS.carry)
    }
}
