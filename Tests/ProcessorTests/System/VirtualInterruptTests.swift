import MachineMemory
import Processor
import Testing
import X86

/// CR4.VME and CR4.PVI: what code below IOPL 3 does with VIF in place of IF.
@Suite struct VirtualInterruptTests {
    private static let virtual: UInt64 = 0x2_0002
    private static let code: UInt64 = 0x12340
    private static let stack: UInt64 = 0x8100

    /// Runs 8086 code at 1234:0 with CR4.VME and a stack at 800:100, until an exception.
    private func run(
        _ code: [UInt8], flags: UInt64 = virtual, redirects: (SystemMachine) -> Void = { _ in }
    ) throws -> SystemMachine {
        let machine = try SystemMachine(
            .protected, model: ProcessorModel(parsing: "penumbra-v2,+vme"))
        machine.memory.write(code.span, at: MachineAddress(Self.code))
        // The redirection bitmap lies below the I/O permission bitmap; all its bits are clear.
        machine.store(UInt16(0x100), at: SystemMachine.tss + 102)
        redirects(machine)
        // mov eax, 1; mov cr4, eax
        let enable: [UInt8] = [0xb8, 1, 0, 0, 0, 0x0f, 0x22, 0xe0]
        machine.run(
            enable
                + TransferTests.pushing([0, 0, 0, 0, 0x800, 0x100, flags, 0x1234, 0], [0xcf]))
        return machine
    }

    @Test("CLI, STI, PUSHF and POPF of 8086 code work on VIF, and IF stays")
    func flag() throws {
        // sti; pushf; pop ax; cli; pushf; pop bx; push ax; popf; int3
        let machine = try run([0xfb, 0x9c, 0x58, 0xfa, 0x9c, 0x5b, 0x50, 0x9d, 0xcc])
        #expect(machine.haltedVector == 3)
        #expect(machine.processor[.rax] & 0xffff == 0x3202)
        #expect(machine.processor[.rbx] & 0xffff == 0x3002)
        #expect(try machine.frame(2) == Self.virtual | RFLAGS.virtualInterrupt)
    }

    @Test("STI and POPF raise #GP(0) where an interrupt waits, and POPF where it sets TF")
    func pending() throws {
        let waits = Self.virtual | RFLAGS.virtualInterruptPending
        #expect(try run([0xfb], flags: waits).haltedVector == 13)
        // push 200h; popf, and with 100h
        let popped = try run([0x68, 0, 2, 0x9d], flags: waits)
        #expect(popped.haltedVector == 13)
        #expect(try popped.frame(1) == 3)
        #expect(try run([0x68, 0, 1, 0x9d]).haltedVector == 13)
        // pushfd
        #expect(try run([0x66, 0x9c]).haltedVector == 13)
    }

    @Test("an instruction that finds VIF and VIP set raises #GP(0)")
    func both() throws {
        let both = RFLAGS.virtualInterrupt | RFLAGS.virtualInterruptPending
        let machine = try run([0x90], flags: Self.virtual | both)
        #expect(machine.haltedVector == 13)
        #expect(try machine.frame(0) == 0)
        #expect(try machine.frame(1) == 0)
        #expect(try machine.frame(3) == Self.virtual | both | RFLAGS.resume)
    }

    @Test("INT n stays in the 8086 program where its bit is clear, with VIF for IF")
    func redirection() throws {
        let entry: (SystemMachine) -> Void = { $0.store(UInt32(0x1234_0010), at: 0x21 * 4) }
        let code: [UInt8] = [0xfb, 0xcd, 0x21] + [UInt8](repeating: 0x90, count: 13) + [0xcc]
        let machine = try run(code, redirects: entry)
        #expect(machine.haltedVector == 3)
        #expect(try machine.frame(0) == 0x11)
        #expect(try machine.frame(2) == Self.virtual)
        #expect(try machine.load(UInt16.self, at: Self.stack - 2) == 0x3202)
        #expect(try machine.load(UInt16.self, at: Self.stack - 4) == 0x1234)
        #expect(try machine.load(UInt16.self, at: Self.stack - 6) == 3)
        // With IOPL 3 IF itself is pushed and cleared.
        let direct = try run(code, flags: Self.virtual | 0x3000, redirects: entry)
        #expect(direct.haltedVector == 3)
        #expect(try direct.frame(2) == Self.virtual | 0x3000)
        #expect(try direct.load(UInt16.self, at: Self.stack - 2) == 0x3202)
        // Where its bit is set IOPL decides.
        let kept = try run([0xcd, 0x80]) {
            $0.store(UInt8(1), at: SystemMachine.tss + 0x100 - 32 + 0x10)
        }
        #expect(kept.haltedVector == 13)
    }

    @Test("IRET of 8086 code loads VIF from IF")
    func interruptReturn() throws {
        // push 200h; push 1234h; push 10h; iret, to int3
        let machine = try run(
            [0x68, 0, 2, 0x68, 0x34, 0x12, 0x6a, 0x10, 0xcf]
                + [UInt8](repeating: 0x90, count: 7) + [0xcc])
        #expect(machine.haltedVector == 3)
        #expect(try machine.frame(2) == Self.virtual | RFLAGS.virtualInterrupt)
    }

    @Test("with PVI, CLI and STI of level 3 work on VIF; PUSHF shows IF")
    func protected() throws {
        let machine = try SystemMachine(.long, model: ProcessorModel(parsing: "penumbra-v2,+vme"))
        machine.run(ControlTests.moveToControl(4, 0x22))
        machine.enterUser()
        // sti; pushfq; pop rax; int3
        machine.run([0xfb, 0x9c, 0x58, 0xcc])
        #expect(machine.haltedVector == 3)
        #expect(try machine.frame(2) & 0x1a_0200 == RFLAGS.virtualInterrupt)
        #expect(machine.processor[.rax] & 0x8_0200 == RFLAGS.virtualInterrupt)
        machine.enterUser(flags: 2 | RFLAGS.virtualInterrupt)
        machine.run([0xfa, 0xcc])
        #expect(try machine.frame(2) & 0x1a_0200 == 0)
        machine.enterUser(flags: 2 | RFLAGS.virtualInterruptPending)
        machine.run([0xfb, 0xcc])
        #expect(machine.haltedVector == 13)
    }

    @Test("without the feature the bits of CR4 are reserved")
    func absent() throws {
        let machine = try SystemMachine(.long)
        machine.run(ControlTests.moveToControl(4, 0x21))
        #expect(machine.haltedVector == 13)
    }
}
