import Processor
import Testing
import X86

/// Exceptions, interrupts and what surrounds their delivery (SDM Vol. 3A chapter 6).
@Suite struct DeliveryTests {
    struct Case: CustomTestStringConvertible {
        var name: String
        var code: [UInt8]
        var vector: UInt64
        var error: UInt64?
        /// Where the saved RIP lies, from the start of the code.
        var saved: UInt64
        var testDescription: String { name }
    }

    static let kernelCases: [Case] = [
        Case(name: "ud2", code: [0x0f, 0x0b], vector: 6, error: nil, saved: 0),
        Case(name: "div by zero", code: [0x31, 0xc9, 0xf7, 0xf1], vector: 0, error: nil, saved: 2),
        Case(name: "int3", code: [0xcc], vector: 3, error: nil, saved: 1),
        Case(name: "int1", code: [0xf1], vector: 1, error: nil, saved: 1),
        Case(name: "int 0x55", code: [0xcd, 0x55], vector: 0x55, error: nil, saved: 2),
        Case(
            name: "mov ds beyond the table", code: [0xb8, 0xf3, 0xff, 0, 0, 0x8e, 0xd8], vector: 13,
            error: 0xfff0, saved: 5),
        Case(
            name: "mov ds not present", code: [0xb8, 0x48, 0, 0, 0, 0x8e, 0xd8], vector: 11,
            error: 0x48, saved: 5),
        Case(
            name: "mov ss not present", code: [0xb8, 0x48, 0, 0, 0, 0x8e, 0xd0], vector: 12,
            error: 0x48, saved: 5),
        Case(
            name: "mov ss read-only", code: [0xb8, 0x50, 0, 0, 0, 0x8e, 0xd0], vector: 13,
            error: 0x50, saved: 5),
        Case(
            name: "mov ss with the wrong RPL", code: [0xb8, 0x13, 0, 0, 0, 0x8e, 0xd0], vector: 13,
            error: 0x10, saved: 5),
        Case(
            name: "ltr of a busy or wrong descriptor", code: [0xb8, 0x10, 0, 0, 0, 0x0f, 0, 0xd8],
            vector: 13, error: 0x10, saved: 5),
        Case(
            name: "read of an unmapped page", code: [0x8a, 0x04, 0x25, 0, 0, 0x80, 0], vector: 14,
            error: 0, saved: 0),
        Case(
            name: "write to an unmapped page", code: [0x88, 0x04, 0x25, 0, 0, 0x80, 0],
            vector: 14, error: 2, saved: 0),
        Case(
            name: "non-canonical read",
            code: [0x48, 0x31, 0xc0, 0x48, 0x0f, 0xba, 0xe8, 62, 0x8a, 0],
            vector: 13, error: 0, saved: 8),
        Case(
            name: "non-canonical push", code: [0x48, 0x31, 0xe4, 0x48, 0x0f, 0xba, 0xec, 62, 0x50],
            vector: 12, error: 0, saved: 8),
        Case(
            name: "rdmsr unknown", code: [0xb9, 0x45, 0x23, 1, 0, 0x0f, 0x32], vector: 13, error: 0,
            saved: 5),
        Case(name: "rsm", code: [0x0f, 0xaa], vector: 6, error: nil, saved: 0),
        Case(name: "monitor", code: [0x0f, 1, 0xc8], vector: 6, error: nil, saved: 0),
        Case(name: "vmcall", code: [0x0f, 1, 0xc1], vector: 6, error: nil, saved: 0),
        Case(
            name: "rdrand without the feature", code: [0x0f, 0xc7, 0xf0], vector: 6, error: nil,
            saved: 0),
    ]

    @Test(
        "an exception in 64-bit kernel code has its vector, error code and RIP",
        arguments: kernelCases)
    func kernel(_ test: Case) throws {
        let machine = try SystemMachine(.long)
        machine.setGate(12, stack: 1)
        #expect(machine.run(test.code) == .halted)
        #expect(machine.haltedVector == test.vector)
        var index: UInt64 = 0
        if let error = test.error {
            #expect(try machine.frame(0) == error)
            index = 1
        }
        #expect(try machine.frame(index) == SystemMachine.code + test.saved)
        #expect(try machine.frame(index + 1) == UInt64(SystemMachine.code64))
        #expect(machine.processor.privilegeLevel == 0)
        if test.vector == 14 { #expect(machine.processor.cr2 == 0x80_0000) }
    }

    static let userCases: [Case] = [
        Case(name: "hlt", code: [0xf4], vector: 13, error: 0, saved: 0),
        Case(name: "cli", code: [0xfa], vector: 13, error: 0, saved: 0),
        Case(name: "int 0x80", code: [0xcd, 0x80], vector: 0x80, error: nil, saved: 2),
        Case(
            name: "int of a kernel gate", code: [0xcd, 0x55], vector: 13, error: 0x55 * 8 + 2,
            saved: 0),
        Case(name: "in", code: [0xec], vector: 13, error: 0, saved: 0),
        Case(name: "mov to cr3", code: [0x0f, 0x22, 0xd8], vector: 13, error: 0, saved: 0),
        Case(name: "rdmsr", code: [0x0f, 0x32], vector: 13, error: 0, saved: 0),
        Case(name: "swapgs", code: [0x0f, 1, 0xf8], vector: 13, error: 0, saved: 0),
        Case(name: "invlpg", code: [0x0f, 1, 0x38], vector: 13, error: 0, saved: 0),
        Case(name: "clac", code: [0x0f, 1, 0xca], vector: 6, error: nil, saved: 0),
        Case(name: "sysret", code: [0x0f, 7], vector: 13, error: 0, saved: 0),
        Case(
            name: "read of an unmapped page", code: [0x8a, 0x04, 0x25, 0, 0, 0x80, 0], vector: 14,
            error: 4, saved: 0),
        Case(
            name: "mov ss null", code: [0x31, 0xc0, 0x8e, 0xd0], vector: 13, error: 0, saved: 2),
        Case(
            name: "mov ds of the kernel", code: [0xb8, 0x10, 0, 0, 0, 0x8e, 0xd8], vector: 13,
            error: 0x10, saved: 5),
    ]

    @Test("an exception in 64-bit user code enters level 0 on its stack", arguments: userCases)
    func user(_ test: Case) throws {
        let machine = try SystemMachine(.long)
        machine.enterUser(flags: 0x202)
        #expect(machine.run(test.code) == .halted)
        #expect(machine.haltedVector == test.vector)
        let index: UInt64 = test.error == nil ? 0 : 1
        #expect(
            machine.processor[.rsp] == SystemMachine.kernelStack - (5 + index) * 8)
        if let error = test.error { #expect(try machine.frame(0) == error) }
        #expect(try machine.frame(index) == SystemMachine.code + test.saved)
        #expect(try machine.frame(index + 1) == UInt64(SystemMachine.userCode64 | 3))
        #expect(try machine.frame(index + 3) == SystemMachine.stack)
        #expect(try machine.frame(index + 4) == UInt64(SystemMachine.userData | 3))
        #expect(machine.processor.privilegeLevel == 0)
        #expect(machine.processor.selector(.ss) == 0)
        #expect(!machine.processor.interruptsEnabled)
    }

    @Test("a fault's frame has RF set, a trap's has not")
    func resumeFlag() throws {
        let fault = try SystemMachine(.long)
        fault.run([0x0f, 0x0b])
        #expect(try fault.frame(2) & RFLAGS.resume != 0)
        let trap = try SystemMachine(.long)
        trap.run([0xcc])
        #expect(try trap.frame(2) & RFLAGS.resume == 0)
    }

    @Test("the 64-bit frame is aligned to 16 bytes and keeps the old stack pointer")
    func alignment() throws {
        let machine = try SystemMachine(.long)
        machine.processor[.rsp] = SystemMachine.stack - 3
        machine.run([0x0f, 0x0b])
        #expect(machine.processor[.rsp] == SystemMachine.stack - 16 - 40)
        #expect(try machine.frame(3) == SystemMachine.stack - 3)
    }

    @Test("a gate with an IST index uses that stack without a change of level")
    func interruptStackTable() throws {
        let machine = try SystemMachine(.long)
        machine.setGate(6, stack: 1)
        machine.run([0x0f, 0x0b])
        #expect(machine.processor[.rsp] == SystemMachine.alternateStack - 40)
    }

    @Test("a trap gate leaves IF alone, an interrupt gate clears it")
    func gateTypes() throws {
        let machine = try SystemMachine(.long)
        machine.setGate(6, type: 0xf)
        machine.processor.flags = 0x202
        machine.run([0x0f, 0x0b])
        #expect(machine.processor.interruptsEnabled)
    }

    struct Escalation: CustomTestStringConvertible {
        var name: String
        var absentGates: [UInt8]
        var code: [UInt8]
        /// Nil: a triple fault.
        var vector: UInt64?
        var testDescription: String { name }
    }

    static let escalations = [
        // #NP in delivering #GP: contributory on contributory.
        Escalation(
            name: "#GP with an absent gate is #DF", absentGates: [13],
            code: [0xb9, 0x45, 0x23, 1, 0, 0x0f, 0x32], vector: 8),
        Escalation(
            name: "#PF with an absent gate is #DF", absentGates: [14],
            code: [0x8a, 0x04, 0x25, 0, 0, 0x80, 0], vector: 8),
        // #UD is benign: the #NP is delivered.
        Escalation(
            name: "#UD with an absent gate is #NP", absentGates: [6], code: [0x0f, 0x0b],
            vector: 11),
        Escalation(
            name: "#GP and #DF with absent gates are a triple fault", absentGates: [13, 8],
            code: [0xb9, 0x45, 0x23, 1, 0, 0x0f, 0x32], vector: nil),
        Escalation(
            name: "INT n with an absent gate is #NP", absentGates: [0x55], code: [0xcd, 0x55],
            vector: 11),
    ]

    @Test("faults in delivery escalate by the table", arguments: escalations)
    func escalation(_ test: Escalation) throws {
        let machine = try SystemMachine(.long)
        for vector in test.absentGates { machine.setGate(vector, present: false) }
        let exit = machine.run(test.code)
        guard let vector = test.vector else {
            #expect(exit == .tripleFault)
            return
        }
        #expect(exit == .halted)
        #expect(machine.haltedVector == vector)
        if vector == 8 { #expect(try machine.frame(0) == 0) }
        if vector == 11, let gate = test.absentGates.first {
            let external: UInt64 = gate == 0x55 ? 0 : 1
            #expect(try machine.frame(0) == UInt64(gate) * 8 + 2 + external)
        }
    }

    @Test("a page fault while a page fault is delivered is a double fault, on its own stack")
    func pageFaultTwice() throws {
        let machine = try SystemMachine(.long)
        machine.setGate(8, stack: 1)
        machine.processor[.rsp] = 0x90_0000
        #expect(machine.run([0x8a, 0x04, 0x25, 0, 0, 0x80, 0]) == .halted)
        #expect(machine.haltedVector == 8)
        #expect(machine.processor.cr2 == 0x90_0000 - 8)
    }

    @Test("without an IDT every exception is a triple fault")
    func noTable() throws {
        let machine = try SystemMachine(.long)
        // lidt [0x20000], which holds zeroes; ud2
        let exit = machine.run([0x0f, 1, 0x1c, 0x25, 0, 0, 2, 0, 0x0f, 0x0b])
        #expect(exit == .tripleFault)
    }

    @Test("STI holds interrupts back for one instruction")
    func shadow() throws {
        let machine = try SystemMachine(.long)
        machine.platform.interrupts = [0x31]
        machine.processor.interruptRequested = true
        // sti; inc eax; inc eax; hlt
        #expect(machine.run([0xfb, 0xff, 0xc0, 0xff, 0xc0, 0xf4]) == .halted)
        #expect(machine.haltedVector == 0x31)
        #expect(machine.processor[.rax] == 1)
        #expect(try machine.frame(0) == SystemMachine.code + 3)
    }

    @Test("a load of SS holds interrupts back for one instruction")
    func stackShadow() throws {
        let machine = try SystemMachine(.long)
        machine.processor.flags = 0x2
        // mov ecx, ss; sti; mov ss, ecx; inc eax; inc eax; hlt
        let code: [UInt8] = [0x8c, 0xd1, 0xfb, 0x8e, 0xd1, 0xff, 0xc0, 0xff, 0xc0, 0xf4]
        machine.platform.interrupts = [0x31]
        machine.processor.interruptRequested = true
        machine.run(code)
        #expect(machine.haltedVector == 0x31)
        #expect(machine.processor[.rax] == 1)
    }

    @Test("an interrupt wakes HLT, and the handler returns behind it")
    func wake() throws {
        let machine = try SystemMachine(.long)
        // sti; hlt; inc eax; cli; hlt
        #expect(machine.run([0xfb, 0xf4, 0xff, 0xc0, 0xfa, 0xf4]) == .halted)
        #expect(machine.processor.rip == SystemMachine.code + 2)
        machine.store(UInt16(0xcf48), at: SystemMachine.handlers + 0x31 * 16)  // iretq
        machine.platform.interrupts = [0x31]
        machine.processor.interruptRequested = true
        machine.proceed()
        #expect(machine.processor[.rax] == 1)
        #expect(machine.processor.rip == SystemMachine.code + 6)
        #expect(machine.processor.statistics.interrupts == 1)
    }

    @Test("NMIs are blocked from their delivery to the next IRET")
    func nonMaskable() throws {
        let machine = try SystemMachine(.long)
        machine.run([0xf4])
        machine.processor.nmiRequested = true
        machine.proceed()
        #expect(machine.haltedVector == 2)
        machine.processor.nmiRequested = true
        machine.proceed()
        #expect(machine.processor.nmiRequested)
        machine.store(UInt16(0xcf48), at: SystemMachine.handlers + 2 * 16 + 1)
        machine.processor.jump(to: SystemMachine.handlers + 2 * 16 + 1)
        machine.proceed()
        #expect(!machine.processor.nmiRequested)
    }
}
