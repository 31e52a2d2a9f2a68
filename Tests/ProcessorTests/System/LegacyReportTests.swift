import MachineMemory
import Processor
import Testing
import X86

/// What a fault must not leave behind, and x87 exceptions by way of FERR#.
@Suite struct LegacyReportTests {
    @Test("with CR0.NE clear an x87 exception raises FERR#, and the processor waits")
    func errorPin() throws {
        let machine = try SystemMachine(.protected)
        machine.store(UInt16(0x037b), at: SystemMachine.data)
        machine.processor.flags = RFLAGS.interruptEnable | 2
        // fninit; fldcw [20000h]; fld1; fldz; fdivp; fwait; hlt
        let code: [UInt8] = [
            0xdb, 0xe3, 0xd9, 0x2d, 0, 0, 2, 0, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x9b, 0xf4,
        ]
        #expect(machine.run(code) == .halted)
        #expect(machine.processor.rip == SystemMachine.code + 14)
        #expect(machine.platform.floatingPointErrors.last == true)
        machine.platform.interrupts = [0x75]
        machine.processor.interruptRequested = true
        machine.proceed()
        #expect(machine.haltedVector == 0x75)
        #expect(try machine.frame(0) == SystemMachine.code + 14)
        // IGNNE#
        machine.platform.ignoresErrors = true
        #expect(machine.run(code) == .halted)
        #expect(machine.processor.rip == SystemMachine.code + 16)
        // Another waiting instruction goes on as well; FNCLEX takes FERR# back.
        #expect(machine.run(Array(code.dropLast(2)) + [0xd9, 0xe8, 0xdb, 0xe2, 0xf4]) == .halted)
        #expect(machine.processor.rip == SystemMachine.code + 19)
        #expect(machine.platform.floatingPointErrors.last == false)
    }

    @Test("a data breakpoint that a faulting instruction met is not reported")
    func breakpointBeforeFault() throws {
        let machine = try SystemMachine(.long)
        machine.setGate(12, stack: 1)
        // DR1 watches 4 bytes at 0x20010 for accesses.
        machine.processor.setBreakpoint(1, address: 0x20010, control: 0xf0_0404)
        machine.processor[.rsp] = 1 << 60
        // push qword [20010h]
        machine.run([0xff, 0x34, 0x25] + bytes(0x20010 as UInt32) + [0xf4])
        #expect(machine.haltedVector == 12)
        #expect(machine.processor.debugStatus & 0xf == 0)
    }

    @Test("ENTER writes nothing where a part of its frame or the new top of the stack faults")
    func enter() throws {
        for code: [UInt8] in [[0xc8, 0, 0, 3], [0xc8, 0, 1, 0], [0xc8, 0, 1, 31]] {
            let machine = try SystemMachine(.long)
            // 2 MiB to 4 MiB are not there.
            machine.store(UInt64(0), at: 0x3008)
            machine.setGate(14, stack: 1)
            machine.processor[.rsp] = 0x40_0018
            machine.processor[.rbp] = 0x40_0800
            machine.store(0x1111_2222_3333_4444 as UInt64, at: 0x40_0010)
            machine.run(code + [0xf4])
            #expect(machine.haltedVector == 14)
            #expect(try machine.frame(4) == 0x40_0018)
            #expect(machine.processor[.rbp] == 0x40_0800)
            #expect(try machine.load(UInt64.self, at: 0x40_0010) == 0x1111_2222_3333_4444)
        }
    }

    @Test("ENTER reads the links before it writes over them")
    func overlappingEnter() throws {
        let machine = try SystemMachine(.long)
        machine.processor[.rsp] = 0x2_0100
        machine.processor[.rbp] = 0x2_0100
        machine.store(UInt64(0xaaaa), at: 0x2_00f8)
        machine.store(UInt64(0xbbbb), at: 0x2_00f0)
        // enter 0, 3: the links lie where it pushes
        machine.run([0xc8, 0, 0, 3, 0xf4])
        #expect(machine.processor[.rsp] == 0x2_00e0)
        #expect(machine.processor[.rbp] == 0x2_00f8)
        #expect(try machine.load(UInt64.self, at: 0x2_00e0) == 0x2_00f8)
    }

    @Test("a store of 10 bytes that is not aligned to 8 raises #AC and pops nothing")
    func extendedAlignment() throws {
        let machine = try SystemMachine(.long)
        let cr0 = CR0.protectionEnable | CR0.paging | CR0.alignmentMask | CR0.numericError
        machine.run(ControlTests.moveToControl(0, cr0))
        machine.enterUser(flags: RFLAGS.alignmentCheck | 2)
        // fninit; fld1; fstp tbyte [20002h]
        machine.run([0xdb, 0xe3, 0xd9, 0xe8, 0xdb, 0x3c, 0x25] + bytes(0x20002 as UInt32) + [0xf4])
        #expect(machine.haltedVector == 17)
        // fnstsw ax: TOP is still 7
        machine.run([0xdf, 0xe0, 0xf4])
        #expect(machine.processor[.rax] & 0x3800 == 0x3800)
    }

    @Test(
        "a register of a removed feature raises #GP(0)",
        arguments: [("sep", 0x174), ("pat", 0x277)]
            as [(String, UInt32)])
    func removedRegister(_ name: String, _ register: UInt32) throws {
        for text in ["max", "max,-" + name] {
            let machine = try SystemMachine(.long, model: ProcessorModel(parsing: text))
            // mov ecx, …; rdmsr; hlt
            machine.run([0xb9] + bytes(register) + [0x0f, 0x32, 0xf4])
            #expect((machine.haltedVector == 13) == (text != "max"), "\(text)")
        }
    }

    @Test(
        "an instruction of a removed feature is undefined",
        arguments: [
            ("popcnt", [0xf3, 0x0f, 0xb8, 0xc0]), ("pni", [0xf2, 0x0f, 0x12, 0xc0]),
            ("ssse3", [0x66, 0x0f, 0x38, 0x00, 0xc0]), ("ssse3", [0x0f, 0x38, 0x00, 0xc0]),
            ("sse4_1", [0x66, 0x0f, 0x38, 0x17, 0xc0]), ("sse4_2", [0x66, 0x0f, 0x38, 0x37, 0xc0]),
            ("sse4_2", [0xf2, 0x0f, 0x38, 0xf0, 0xc0]), ("mmx", [0x0f, 0xfc, 0xc0]),
            ("cx16", [0x48, 0x0f, 0xc7, 0x0c, 0x25, 0, 0, 2, 0]),
            ("clflush", [0x0f, 0xae, 0x3c, 0x25, 0, 0, 2, 0]), ("lahf_lm", [0x9f]),
            ("xsave", [0x0f, 0xae, 0x24, 0x25, 0, 0, 2, 0]),
            ("fsgsbase", [0xf3, 0x48, 0x0f, 0xae, 0xc0]), ("invpcid", [0x66, 0x0f, 0x38, 0x82, 0]),
        ] as [(String, [UInt8])])
    func removedFeature(_ name: String, _ code: [UInt8]) throws {
        for text in ["max", "max,-" + name] {
            let machine = try SystemMachine(.long, model: ProcessorModel(parsing: text))
            let cr4 = CR4.physicalAddressExtension | CR4.osFXSR
            let extended = text == "max" ? CR4.osXSAVE | CR4.fsGSBaseEnable : 0
            machine.run(ControlTests.moveToControl(4, cr4 | extended))
            machine.processor[.rax] = SystemMachine.data
            machine.run(code + [0xf4])
            #expect((machine.haltedVector == 6) == (text != "max"), "\(text)")
        }
    }
}
