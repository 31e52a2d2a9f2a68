import MachineMemory
import Processor
import Testing
import X86

/// IRET, far transfers, gates, tasks and system calls.
@Suite struct TransferTests {
    /// Code that pushes the given values (the first one first) and then executes `last`.
    static func pushing(_ values: [UInt64], _ last: [UInt8]) -> [UInt8] {
        values.flatMap { value -> [UInt8] in
            value <= 0x7fff_ffff
                ? [0x68] + bytes(UInt32(value)) : [0x48, 0xb8] + bytes(value) + [0x50]
        } + last
    }

    static let iretq: [UInt8] = [0x48, 0xcf]
    static let target: UInt64 = 0x12000

    @Test("IRETQ to level 3 loads CS, SS, RSP and the flags that level 0 may set")
    func toUser() throws {
        let machine = try SystemMachine(.long)
        machine.store(UInt16(0x80cd), at: Self.target)  // int 0x80
        machine.run(
            Self.pushing(
                [
                    UInt64(SystemMachine.userData | 3), 0x7000, 0x3202,
                    UInt64(SystemMachine.userCode64 | 3),
                    Self.target,
                ], Self.iretq))
        #expect(machine.haltedVector == 0x80)
        #expect(try machine.frame(0) == Self.target + 2)
        #expect(try machine.frame(1) == UInt64(SystemMachine.userCode64 | 3))
        #expect(try machine.frame(2) == 0x3202)
        #expect(try machine.frame(3) == 0x7000)
        #expect(try machine.frame(4) == UInt64(SystemMachine.userData | 3))
        // DS held a level-0 segment: it was emptied.
        #expect(machine.processor.selector(.ds) == 0)
    }

    @Test("IRETQ to compatibility mode executes 32-bit code")
    func toCompatibility() throws {
        let machine = try SystemMachine(.long)
        // In 32-bit code: dec eax; int 0x80. In 64-bit code 48 would be a REX prefix.
        machine.store(UInt32(0x0080_cd48), at: Self.target)
        machine.processor[.rax] = 5
        machine.run(
            Self.pushing(
                [
                    UInt64(SystemMachine.userData | 3), 0x7000, 0x202,
                    UInt64(SystemMachine.userCode32 | 3),
                    Self.target,
                ], Self.iretq))
        #expect(machine.haltedVector == 0x80)
        #expect(machine.processor[.rax] == 4)
        #expect(try machine.frame(0) == Self.target + 3)
    }

    struct BadFrame: CustomTestStringConvertible {
        var name: String
        var values: [UInt64]
        var vector: UInt64
        var error: UInt64
        var testDescription: String { name }
    }

    static let badFrames: [BadFrame] = [
        BadFrame(name: "null CS", values: [0x10, 0x8000, 2, 0, target], vector: 13, error: 0),
        BadFrame(
            name: "data segment in CS", values: [0x10, 0x8000, 2, 0x10, target], vector: 13,
            error: 0x10),
        BadFrame(
            name: "CS beyond the table", values: [0x10, 0x8000, 2, 0x1008, target], vector: 13,
            error: 0x1008),
        BadFrame(
            name: "RPL that is not DPL", values: [0x13, 0x8000, 2, 0x0b, target], vector: 13,
            error: 0x08),
        BadFrame(
            name: "non-canonical RIP", values: [0x10, 0x8000, 2, 8, 1 << 62], vector: 13, error: 0),
        BadFrame(
            name: "null SS at level 3", values: [0, 0x8000, 2, 0x2b, target], vector: 13, error: 0),
        BadFrame(
            name: "kernel SS at level 3", values: [0x10, 0x8000, 2, 0x2b, target], vector: 13,
            error: 0x10),
        BadFrame(
            name: "SS not present", values: [0x48, 0x8000, 2, 8, target], vector: 12, error: 0x48),
    ]

    @Test(
        "a bad frame makes IRETQ fault, with the stack pointer where it was", arguments: badFrames)
    func badFrame(_ test: BadFrame) throws {
        let machine = try SystemMachine(.long)
        let code = Self.pushing(test.values, Self.iretq)
        machine.run(code)
        #expect(machine.haltedVector == test.vector)
        #expect(try machine.frame(0) == test.error)
        #expect(try machine.frame(1) == SystemMachine.code + UInt64(code.count) - 2)
        #expect(try machine.frame(4) == SystemMachine.stack - 40)
    }

    @Test("IRETQ with NT set faults in IA-32e mode")
    func nestedTask() throws {
        let machine = try SystemMachine(.long)
        machine.processor.flags = RFLAGS.nestedTask | 2
        machine.run(Self.iretq)
        #expect(machine.haltedVector == 13)
    }

    @Test("level 3 cannot change IOPL or IF by POPF and IRET")
    func userFlags() throws {
        for code in [
            [0x68] + bytes(UInt32(0x7ed7)) + [0x9d, 0xcd, 0x80],
            Self.pushing(
                [0x23, 0x7000, 0x7ed7, 0x2b, SystemMachine.code + 0x20], Self.iretq),
        ] as [[UInt8]] {
            let machine = try SystemMachine(.long)
            machine.enterUser(flags: 0x202)
            machine.store(UInt16(0x80cd), at: SystemMachine.code + 0x20)
            machine.setGate(1)
            machine.store(UInt64(0xcf48_f490_9090_9090), at: SystemMachine.handlers + 0x10)
            machine.run(code)
            let saved = try machine.frame(2)
            #expect(saved & RFLAGS.ioPrivilegeLevel == 0)
            #expect(saved & RFLAGS.interruptEnable != 0)
            #expect(saved & RFLAGS.overflow != 0)
        }
    }

    @Test("SYSCALL enters at LSTAR with masked flags; SYSRET goes back")
    func systemCall() throws {
        let machine = try SystemMachine(.long)
        func write(_ register: UInt32, _ value: UInt64) -> [UInt8] {
            [0xb9] + bytes(register) + [0xb8] + bytes(UInt32(truncatingIfNeeded: value))
                + [0xba] + bytes(UInt32(value >> 32)) + [0x0f, 0x30]
        }
        let setUp =
            write(MSR.star, 0x001b_0008 << 32) + write(MSR.longSTAR, Self.target)
            + write(MSR.systemCallFlagMask, 0x200)
        // At the target: swap to a known state and return to 64-bit user code.
        machine.memory.write([0x48, 0x0f, 0x07].span, at: MachineAddress(Self.target))
        let user = SystemMachine.code + UInt64(setUp.count) + 30
        let enter = Self.pushing([0x23, 0x7000, 0x202, 0x2b, user], Self.iretq)
        let padding = [UInt8](repeating: 0x90, count: 30 - enter.count)
        // syscall; int 0x80
        machine.run(setUp + enter + padding + [0x0f, 0x05, 0xcd, 0x80])
        #expect(machine.haltedVector == 0x80)
        #expect(try machine.frame(0) == user + 4)
        #expect(try machine.frame(1) == 0x2b)
        #expect(try machine.frame(2) & 0x200 != 0)
        #expect(try machine.frame(4) == 0x23)
        #expect(machine.processor[.rcx] == user + 2)
        #expect(machine.processor[.r11] & 0x200 != 0)
    }

    @Test("SYSCALL is undefined without EFER.SCE and in compatibility mode")
    func systemCallUndefined() throws {
        let machine = try SystemMachine(.long)
        machine.enterUser(code: SystemMachine.userCode32)
        machine.run([0x0f, 0x05])
        #expect(machine.haltedVector == 6)
    }

    @Test("a far return to level 3 and a call gate back, in 64-bit mode")
    func callGate64() throws {
        let machine = try SystemMachine(.long)
        // A 16-byte call gate, DPL 3, to the HLT of "vector" 0x60.
        let entry = SystemMachine.handlers + 0x600
        machine.store(
            entry & 0xffff | UInt64(SystemMachine.code64) << 16 | 0xec << 40
                | (entry >> 16) << 48, at: SystemMachine.gdt + UInt64(SystemMachine.gate))
        machine.store(UInt64(0), at: SystemMachine.gdt + UInt64(SystemMachine.gate) + 8)
        machine.store(UInt32(0), at: SystemMachine.data)
        machine.store(SystemMachine.gate | 3, at: SystemMachine.data + 4)
        machine.enterUser()
        // call far [0x20000]
        machine.run([0xff, 0x1c, 0x25] + bytes(UInt32(SystemMachine.data)))
        #expect(machine.haltedVector == 0x60)
        #expect(machine.processor[.rsp] == SystemMachine.kernelStack - 32)
        #expect(try machine.frame(0) == SystemMachine.code + 7)
        #expect(try machine.frame(1) == UInt64(SystemMachine.userCode64 | 3))
        #expect(try machine.frame(2) == SystemMachine.stack)
        #expect(machine.processor.selector(.ss) == 0)
    }

    // MARK: Protected mode

    @Test("an exception in level 3 of protected mode uses the TSS's stack")
    func protectedInner() throws {
        let machine = try SystemMachine(.protected)
        machine.enterUser()
        machine.run([0xf4])
        #expect(machine.haltedVector == 13)
        #expect(machine.processor[.rsp] == SystemMachine.kernelStack - 24)
        #expect(try machine.frame(0) == 0)
        #expect(try machine.frame(1) == SystemMachine.code)
        #expect(try machine.frame(2) == UInt64(SystemMachine.userCode32 | 3))
        #expect(try machine.frame(4) == SystemMachine.stack)
        #expect(try machine.frame(5) == UInt64(SystemMachine.userData | 3))
        #expect(machine.processor.selector(.ss) == SystemMachine.data0)
    }

    @Test("segment limits and types are checked outside 64-bit mode")
    func limits() throws {
        let cases: [(code: [UInt8], vector: UInt64, error: UInt64)] = [
            // mov eax, 0x60; mov ds, eax; mov al, [0x1000]: beyond the limit of 0xfff
            ([0xb8, 0x60, 0, 0, 0, 0x8e, 0xd8, 0xa0, 0, 0x10, 0, 0], 13, 0),
            // mov [cs:0], al: code is not writable
            ([0x2e, 0xa2, 0, 0, 0, 0], 13, 0),
            // xor eax, eax; mov ds, eax; mov al, [0]: a null segment
            ([0x31, 0xc0, 0x8e, 0xd8, 0xa0, 0, 0, 0, 0], 13, 0),
            // mov eax, 0x60; mov ss, eax; mov esp, 0x2000; push eax: #SS
            ([0xb8, 0x60, 0, 0, 0, 0x8e, 0xd0, 0xbc, 0, 0x20, 0, 0, 0x50], 8, 0),
        ]
        for test in cases {
            let machine = try SystemMachine(.protected)
            #expect(machine.run(test.code) == .halted || test.vector == 8)
            if test.vector == 8 {
                // The handler's own frame does not fit either: the processor shuts down.
                #expect(machine.haltedVector == nil)
            } else {
                #expect(machine.haltedVector == test.vector)
                #expect(try machine.frame(0) == test.error)
            }
        }
    }

    @Test("a 32-bit call gate copies parameters to the inner stack, and RETF n drops both")
    func callGate32() throws {
        let machine = try SystemMachine(.protected)
        let entry = SystemMachine.handlers + 0x600
        machine.store(
            entry & 0xffff | UInt64(SystemMachine.code32) << 16 | 2 << 32 | 0xec << 40
                | (entry >> 16) << 48, at: SystemMachine.gdt + UInt64(SystemMachine.gate))
        // mov ebx, [esp+8]; mov ecx, [esp+12]; retf 8
        machine.memory.write(
            [0x8b, 0x5c, 0x24, 0x08, 0x8b, 0x4c, 0x24, 0x0c, 0xca, 8, 0].span,
            at: MachineAddress(entry))
        machine.enterUser()
        // push 0x11; push 0x22; call 0x73:0; int 0x80
        machine.run([0x6a, 0x11, 0x6a, 0x22, 0x9a, 0, 0, 0, 0, 0x73, 0, 0xcd, 0x80])
        #expect(machine.haltedVector == 0x80)
        #expect(machine.processor[.rbx] == 0x22)
        #expect(machine.processor[.rcx] == 0x11)
        #expect(try machine.frame(3) == SystemMachine.stack)
        #expect(try machine.frame(1) == UInt64(SystemMachine.userCode32 | 3))
    }

    @Test("virtual-8086 mode is entered by IRETD and left by an interrupt")
    func virtual8086() throws {
        let machine = try SystemMachine(.protected)
        machine.store(UInt16(0x80cd), at: 0x12340)
        // GS, FS, DS, ES, SS, ESP, EFLAGS with VM and IOPL 3, CS, EIP
        machine.run(
            Self.pushing(
                [0x11, 0x22, 0x33, 0x44, 0x800, 0x100, 0x2_3002, 0x1234, 0], [0xcf]))
        // The gate of vector 0x80 is for level 3, and a nonconforming level-0 handler.
        #expect(machine.haltedVector == 0x80)
        #expect(try machine.frame(0) == 2)
        #expect(try machine.frame(1) == 0x1234)
        #expect(try machine.frame(2) == 0x2_3002)
        #expect(try machine.frame(3) == 0x100)
        #expect(try machine.frame(4) == 0x800)
        #expect(try machine.frame(5) == 0x44)
        #expect(try machine.frame(6) == 0x33)
        #expect(try machine.frame(8) == 0x11)
        #expect(machine.processor.selector(.gs) == 0)
        #expect(machine.processor.privilegeLevel == 0)
    }

    @Test(
        "virtual-8086 mode with IOPL below 3 traps CLI, INT n and PUSHF",
        arguments: [
            [0xfa], [0xcd, 0x80], [0x9c], [0xcf],
        ] as [[UInt8]])
    func virtual8086Sensitive(_ code: [UInt8]) throws {
        let machine = try SystemMachine(.protected)
        machine.memory.write(code.span, at: MachineAddress(0x12340))
        machine.run(
            Self.pushing([0, 0, 0, 0, 0x800, 0x100, 0x2_0002, 0x1234, 0], [0xcf]))
        #expect(machine.haltedVector == 13)
        #expect(try machine.frame(1) == 0)
    }

    @Test("a far jump to a TSS switches tasks and saves the old one; IRET returns from a call")
    func tasks() throws {
        let machine = try SystemMachine(.protected)
        let second: UInt64 = 0x9000
        machine.store(
            0x0000_8900_0000_0067 | second << 16,
            at: SystemMachine.gdt + UInt64(SystemMachine.secondTask))
        machine.store(UInt32(Self.target), at: second + 32)
        machine.store(UInt32(2), at: second + 36)
        machine.store(UInt32(0x77), at: second + 40)
        machine.store(UInt32(0x85000), at: second + 56)
        for (slot, selector) in [
            SystemMachine.data0, SystemMachine.code32, SystemMachine.data0, SystemMachine.data0, 0,
            0,
        ].enumerated() {
            machine.store(UInt32(selector), at: second + 72 + UInt64(slot) * 4)
        }
        // mov ebx, eax; iretd
        machine.memory.write([0x89, 0xc3, 0xcf].span, at: MachineAddress(Self.target))
        // The first task is busy in the GDT, as LTR would have left it.
        machine.store(UInt8(0x8b), at: SystemMachine.gdt + UInt64(SystemMachine.task) + 5)
        machine.processor[.rsi] = 0x99
        // call 0x80:0; hlt
        #expect(machine.run([0x9a, 0, 0, 0, 0, 0x80, 0, 0xf4]) == .halted)
        #expect(machine.processor.rip == SystemMachine.code + 8)
        #expect(machine.processor[.rsi] == 0x99)
        // EBX came back from the first task's TSS; the second task's lies in its own.
        #expect(try machine.load(UInt32.self, at: second + 52) == 0x77)
        #expect(try machine.load(UInt16.self, at: second) == SystemMachine.task)
        let type = SystemMachine.gdt + UInt64(SystemMachine.secondTask) + 5
        #expect(try machine.load(UInt8.self, at: type) == 0x89)
        #expect(machine.processor.cr0 & CR0.taskSwitched != 0)
    }

    // MARK: Real-address mode, and the way up

    @Test("INT and IRET go through the vector table in real mode")
    func realInterrupt() throws {
        let machine = try SystemMachine(.real)
        machine.store(UInt32(0x0300_0010), at: 0x21 * 4)
        machine.memory.write([0x40, 0xcf].span, at: MachineAddress(0x3010))  // inc ax; iret
        #expect(machine.run([0xcd, 0x21, 0xcd, 0x21, 0xf4]) == .halted)
        #expect(machine.processor[.rax] == 2)
        #expect(machine.processor.rip == 5)
        #expect(machine.processor[.rsp] == 0x8000)
    }

    @Test("far CALL and RETF in real mode")
    func realCall() throws {
        let machine = try SystemMachine(.real)
        machine.memory.write([0x40, 0xcb].span, at: MachineAddress(0x3010))
        #expect(machine.run([0x9a, 0x10, 0, 0, 3, 0xf4]) == .halted)
        #expect(machine.processor[.rax] == 1)
        #expect(machine.processor.rip == 6)
    }

    @Test("from real mode through protected mode to 64-bit mode and its code")
    func climb() throws {
        let machine = try SystemMachine(.real)
        machine.store(UInt16(0x8f), at: SystemMachine.data)
        machine.store(UInt32(SystemMachine.gdt), at: SystemMachine.data + 2)
        // A code segment for 64-bit mode, where the real machine's table has a 32-bit one.
        machine.store(
            0x00af_9b00_0000_ffff as UInt64,
            at: SystemMachine.gdt + UInt64(SystemMachine.code64))
        let real: [UInt8] = [
            0xb8, 0x00, 0x20, 0x8e, 0xd8,  // mov ax, 0x2000; mov ds, ax
            0x0f, 0x01, 0x16, 0, 0,  // lgdt [0]
            0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0,  // cr0 |= PE
            0x66, 0xea, 0x80, 0, 1, 0, 0x40, 0,  // jmp 0x40:0x10080
        ]
        let protected: [UInt8] = [
            0xb8, 0x20, 0, 0, 0, 0x0f, 0x22, 0xe0,  // cr4 = PAE
            0xb8, 0, 0x10, 0, 0, 0x0f, 0x22, 0xd8,  // cr3 = 0x1000
            0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32, 0x0d, 0, 1, 0, 0, 0x0f, 0x30,  // EFER.LME
            0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0,  // cr0 |= PG
            0xea, 0, 1, 1, 0, 8, 0,  // jmp 8:0x10100
        ]
        machine.memory.write(protected.span, at: MachineAddress(0x10080))
        machine.memory.write(
            ([0x48, 0xb8] + bytes(0x1234_5678_9abc_def0 as UInt64) + [0xf4]).span,
            at: MachineAddress(0x10100))
        #expect(machine.run(real) == .halted)
        #expect(machine.processor[.rax] == 0x1234_5678_9abc_def0)
        #expect(machine.processor.efer & EFER.longModeActive != 0)
        #expect(machine.processor.rip == 0x1010b)
    }
}
