import MachineMemory
import Processor
import Testing
import X86

/// Accesses over a boundary whose second page faults: nothing may have changed.
@Suite struct PageBoundaryTests {
    /// The first page that is not mapped.
    private static let end: UInt64 = 0x80_0000

    @Test(
        arguments: [
            [0x48, 0x01, 0x07],  // ADD [RDI], RAX
            [0x48, 0x11, 0x07],  // ADC [RDI], RAX
            [0xf0, 0x48, 0x0f, 0xc1, 0x07],  // LOCK XADD [RDI], RAX
            [0x48, 0x87, 0x07],  // XCHG [RDI], RAX
            [0x48, 0x0f, 0xb1, 0x0f],  // CMPXCHG [RDI], RCX
            [0x0f, 0xc7, 0x0f],  // CMPXCHG8B [RDI]
            [0x48, 0xff, 0x07],  // INC qword [RDI]
            [0x48, 0xd1, 0x27],  // SHL qword [RDI], 1
            [0x48, 0xab],  // STOSQ
            [0x48, 0xa5],  // MOVSQ
            [0x8f, 0x07],  // POP qword [RDI]
            [0x0f, 0x11, 0x07],  // MOVUPS [RDI], XMM0
            [0x48, 0x89, 0x07],  // MOV [RDI], RAX
            [0x48, 0x8b, 0x07],  // MOV RAX, [RDI]
            [0x48, 0x0f, 0xab, 0x07],  // BTS [RDI], RAX
        ] as [[UInt8]])
    func `a fault in the second page leaves everything as it was`(code: [UInt8]) throws {
        let machine = try SystemMachine(.long)
        machine.processor.flags = RFLAGS.carry | RFLAGS.adjust | RFLAGS.alwaysOne
        let values: [(GeneralRegister, UInt64)] = [
            (.rax, 1), (.rcx, 7), (.rdx, 9), (.rbx, 11), (.rsi, SystemMachine.data),
            (.rdi, Self.end - 3),
        ]
        for (register, value) in values { machine.processor[register] = value }
        machine.store(UInt32(0x0102_0304), at: Self.end - 4)
        machine.processor[.rsp] = SystemMachine.stack
        enableSSE(machine)
        machine.run(code)
        #expect(machine.haltedVector == 14)
        #expect(machine.processor.cr2 == Self.end)
        for (register, value) in values { #expect(machine.processor[register] == value) }
        #expect(try machine.frame(1) == SystemMachine.code)
        #expect(try machine.frame(3) & RFLAGS.arithmetic == RFLAGS.carry | RFLAGS.adjust)
        #expect(try machine.frame(4) == SystemMachine.stack)
        #expect(try machine.load(UInt32.self, at: Self.end - 4) == 0x0102_0304)
    }

    private func enableSSE(_ machine: SystemMachine) {
        // MOV RBP, CR4; OR EBP, OSFXSR; MOV CR4, RBP
        let flags = machine.processor.flags
        machine.run([0x0f, 0x20, 0xe5, 0x81, 0xcd, 0, 2, 0, 0, 0x0f, 0x22, 0xe5, 0xf4])
        machine.processor.flags = flags
    }

    @Test func `PUSH, CALL and PUSHF over a boundary move nothing when they fault`() throws {
        for code in [[0x50], [0xe8, 0, 0, 0, 0], [0x9c], [0xc8, 8, 0, 0]] as [[UInt8]] {
            let machine = try SystemMachine(.long)
            machine.setGate(14, stack: 1)
            machine.processor[.rsp] = Self.end + 4
            machine.processor[.rbp] = 5
            machine.store(UInt32(0x0102_0304), at: Self.end - 4)
            machine.run(code)
            #expect(machine.haltedVector == 14)
            #expect(machine.processor.cr2 == Self.end)
            #expect(try machine.frame(1) == SystemMachine.code)
            #expect(try machine.frame(4) == Self.end + 4)
            #expect(machine.processor[.rbp] == 5)
            #expect(try machine.load(UInt32.self, at: Self.end - 4) == 0x0102_0304)
        }
    }

    @Test func `RET takes its count without a sign`() throws {
        let machine = try SystemMachine(.long)
        machine.store(SystemMachine.handlers, at: SystemMachine.stack)
        machine.run([0xc2, 0xf0, 0xff])
        #expect(machine.haltedVector == 0)
        #expect(machine.processor[.rsp] == SystemMachine.stack + 8 + 0xfff0)
    }
}
