import MachineMemory
import Processor
import Testing
import X86

/// Instruction fetch: rights, page boundaries, and code that changes under the processor.
@Suite struct FetchTests {
    @Test func `user code cannot run a supervisor page that the kernel has run`() throws {
        let machine = try SystemMachine(.long)
        machine.store(UInt64(0x20_0083), at: 0x3008)
        machine.store(UInt8(0xc3), at: 0x20_0000)
        // CALL to the supervisor page; then SYSRET to it.
        machine.run([
            0xb9, 0, 0, 0x20, 0,  // MOV ECX, 0x200000
            0xff, 0xd1,  // CALL RCX
            0x41, 0xbb, 2, 0, 0, 0,  // MOV R11D, 2
            0x48, 0x0f, 0x07,  // SYSRETQ
        ])
        #expect(machine.haltedVector == 14)
        #expect(try machine.frame(0) == 5)
        #expect(try machine.frame(1) == 0x20_0000)
    }

    @Test func `SMEP keeps the kernel from a user page that user code has run`() throws {
        let machine = try SystemMachine(.long)
        machine.store(UInt64(0x83), at: 0x3000)
        // INT 0x80, whose handler jumps back to the user page.
        machine.store(UInt16(0x80cd), at: 0x20_0000)
        let handler = SystemMachine.handlers + 0x800
        for (index, byte) in ([0xb8, 0, 0, 0x20, 0, 0xff, 0xe0] as [UInt8]).enumerated() {
            machine.store(byte, at: handler + UInt64(index))
        }
        machine.run([
            0x0f, 0x20, 0xe0,  // MOV RAX, CR4
            0x0d, 0, 0, 0x10, 0,  // OR EAX, SMEP
            0x0f, 0x22, 0xe0,  // MOV CR4, RAX
            0xb9, 0, 0, 0x20, 0,  // MOV ECX, 0x200000
            0x41, 0xbb, 2, 0, 0, 0,  // MOV R11D, 2
            0x48, 0x0f, 0x07,  // SYSRETQ
        ])
        #expect(machine.haltedVector == 14)
        #expect(try machine.frame(0) == 0x11)
        #expect(machine.processor.cr2 == 0x20_0000)
    }

    @Test func `an instruction over a page boundary follows a change of the second page`() throws {
        let machine = try BareMachine()
        // Two pages that begin as one frame: MOV EAX, imm32 runs from its end into its start.
        machine.mapSmall([0x5_0003, 0x5_0003])
        machine.store([0xb8, 0x01], at: 0x5_0ffe)
        machine.store([0x02, 0x03, 0x04], at: 0x5_0000)
        machine.store([0x12, 0x13, 0x14], at: 0x5_1000)
        let start = BareMachine.small + 0xffe
        #expect(machine.proceed(from: start, count: 1) == .limit)
        #expect(machine.processor[.rax] == 0x0403_0201)
        machine.mapSmall([0x5_0003, 0x5_1003])
        machine.processor.invalidate(GuestVirtualAddress(BareMachine.small + 0x1000))
        #expect(machine.proceed(from: start, count: 1) == .limit)
        #expect(machine.processor[.rax] == 0x1413_1201)
        machine.mapSmall([0x5_0003, 0x5_0003])
        machine.processor.invalidate(GuestVirtualAddress(BareMachine.small + 0x1000))
        #expect(machine.proceed(from: start, count: 1) == .limit)
        #expect(machine.processor[.rax] == 0x0403_0201)
    }

    @Test func `code that the page walker changes runs as changed`() throws {
        let machine = try BareMachine()
        // Entry 256 of the table reads as ADD EAX, [RAX]; with A set as AND EAX, [RAX].
        let entry = BareMachine.smallTable + 256 * 8
        machine.mapSmall([0x5_0003], from: 256)
        // MOV EBX, [small + 1 MiB]
        machine.store([0x8b, 0x1c, 0x25, 0, 0, 0x50, 0], at: entry - 7)
        machine.store([1, 0, 2, 0], at: BareMachine.data)
        machine.processor[.rax] = BareMachine.data
        #expect(machine.proceed(from: entry - 7, count: 2) == .limit)
        #expect(machine.processor[.rax] == 0x2_0000)
    }

    @Test func `running beyond the limit of CS is a protection fault before a page fault`() throws {
        let machine = try SystemMachine(.long)
        // 32-bit code whose last byte is the last one that is mapped: NOP.
        machine.store(UInt64(0x0040_9b7f_f000_0fff), at: SystemMachine.gdt + 0x60)
        machine.store(UInt8(0x90), at: 0x7f_ffff)
        // PUSH 0x60; PUSH 0xfff; RETFQ
        machine.run([0x6a, 0x60, 0x68, 0xff, 0x0f, 0, 0, 0x48, 0xcb])
        #expect(machine.haltedVector == 13)
        #expect(try machine.frame(0) == 0)
        #expect(try machine.frame(1) == 0x1000)
    }

    @Test func `an instruction longer than 15 bytes is a protection fault over a page boundary`()
        throws
    {
        let machine = try SystemMachine(.long)
        for offset in 0..<4 as Range<UInt64> {
            machine.store(UInt64(0x6666_6666_6666_6666), at: 0x1_0ff8 + offset * 8)
        }
        // JMP to 0x10ff8
        machine.run([0xe9, 0xf3, 0x0f, 0, 0])
        #expect(machine.haltedVector == 13)
        #expect(try machine.frame(1) == 0x1_0ff8)
    }

    @Test func `a page fault ends what is known of the code at its page`() throws {
        let machine = try SystemMachine(.long)
        // The page at 4 MiB by small pages; frame 0x50000 is read-only, 0x51000 is not.
        machine.store(UInt64(0x4007), at: 0x3010)
        machine.store(UInt64(0x5_0005), at: 0x4000)
        for (frame, value) in [(0x5_0000, 1), (0x5_1000, 2)] as [(UInt64, UInt8)] {
            for (index, byte) in ([0xb8, value, 0, 0, 0, 0xc3] as [UInt8]).enumerated() {
                machine.store(byte, at: frame + UInt64(index))
            }
        }
        // The handler maps the other frame: MOV qword [0x4000], 0x51007; ADD RSP, 8; IRETQ.
        let handler = SystemMachine.handlers + 14 * 16
        let bytes: [UInt8] = [
            0x48, 0xc7, 0x04, 0x25, 0, 0x40, 0, 0, 0x07, 0x10, 0x05, 0, 0x48, 0x83, 0xc4, 8,
            0x48, 0xcf,
        ]
        for (index, byte) in bytes.enumerated() {
            machine.store(byte, at: handler + UInt64(index))
        }
        machine.run([
            0xb9, 0, 0, 0x40, 0,  // MOV ECX, 0x400000
            0xff, 0xd1,  // CALL RCX
            0x48, 0xc7, 0x04, 0x25, 0, 0x40, 0, 0, 0, 0, 0, 0,  // MOV qword [0x4000], 0
            0xc6, 0x41, 0x40, 0,  // MOV byte [RCX + 0x40], 0: the fault
            0xff, 0xd1,  // CALL RCX
            0xf4,
        ])
        #expect(machine.processor[.rax] == 2)
        #expect(machine.processor.statistics.pageFaults == 1)
    }
}
