import MachineMemory
import Processor
import Testing
import X86

/// Control and model-specific registers, flags, ports, and debugging.
@Suite struct ControlTests {
    static func write(_ register: UInt32, _ value: UInt64) -> [UInt8] {
        [0xb9] + bytes(register) + [0xb8] + bytes(UInt32(truncatingIfNeeded: value)) + [0xba]
            + bytes(UInt32(value >> 32)) + [0x0f, 0x30, 0xf4]
    }

    static let badValues: [(UInt32, UInt64)] = [
        (0x12345, 0), (MSR.efer, 1 << 1), (MSR.efer, 0), (MSR.longSTAR, 1 << 62),
        (MSR.fsBase, 1 << 47), (MSR.gsBase, 1 << 47), (MSR.kernelGSBase, 1 << 47),
        (MSR.pat, 2), (MSR.pat, 0x0800), (MSR.tscAux, 1 << 32), (MSR.speculationControl, 8),
        (MSR.predictionCommand, 2), (MSR.archCapabilities, 0), (MSR.mtrrDefaultType, 2),
        (MSR.mtrrDefaultType, 1 << 9), (MSR.mtrrCapabilities, 0), (MSR.mtrrFixed64K, 0x0200),
        (MSR.mtrrFirstVariable, 7), (MSR.mtrrFirstVariable, 1 << 8),
        (MSR.mtrrFirstVariable, 1 << 40), (MSR.mtrrLastVariable, 1 << 10),
        (MSR.mtrrLastVariable + 1, 0), (MSR.machineCheckStatus, 1),
        (MSR.machineCheckCapabilities, 0),
        (MSR.systemCallFlagMask, 1 << 32), (MSR.sysenterEIP, 1 << 62), (MSR.tscAdjust, 0),
        (MSR.apicBase, 0), (MSR.debugControl, 1), (MSR.debugControl, 1 << 16),
    ]

    @Test("WRMSR of a bad value or register raises #GP(0)", arguments: badValues)
    func badMSR(_ register: UInt32, _ value: UInt64) throws {
        let machine = try SystemMachine(.long)
        machine.run(Self.write(register, value))
        #expect(machine.haltedVector == 13)
        #expect(try machine.frame(0) == 0)
    }

    static let goodValues: [(UInt32, UInt64)] = [
        (MSR.star, 0x0123_4567_89ab_cdef), (MSR.longSTAR, 0xffff_8000_0000_0000),
        (MSR.compatibilitySTAR, 0x1000), (MSR.systemCallFlagMask, 0x47700),
        (MSR.fsBase, 0x7fff_ffff_f000), (MSR.gsBase, 0xffff_ffff_8000_0000),
        (MSR.kernelGSBase, 0x1000), (MSR.pat, 0x0007_0501_0007_0106), (MSR.tscAux, 7),
        (MSR.speculationControl, 5), (MSR.sysenterCS, 0x10), (MSR.sysenterESP, 0x1000),
        (MSR.sysenterEIP, 0x2000), (MSR.efer, 0xd01), (MSR.debugControl, 2),
        (MSR.mtrrDefaultType, 0xc04), (MSR.mtrrFixed64K, 0x0605_0401_0006_0504),
        (MSR.mtrrFixed16K + 1, 1), (MSR.mtrrFixed4K + 7, 0x0606),
        (MSR.mtrrFirstVariable, 0xff_ffff_f006), (MSR.mtrrLastVariable, 0xff_ffff_f800),
        (MSR.machineCheckStatus, 0),
    ]

    @Test("RDMSR reads what WRMSR wrote", arguments: goodValues)
    func goodMSR(_ register: UInt32, _ value: UInt64) throws {
        let machine = try SystemMachine(.long)
        // …; xor eax, eax; xor edx, edx; rdmsr; hlt
        let code =
            Self.write(register, value).dropLast() + [0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x32, 0xf4]
        machine.run(Array(code))
        #expect(machine.haltedVector == nil)
        #expect(machine.processor[.rax] | machine.processor[.rdx] << 32 == value)
    }

    /// xor edx, edx; mov ecx, register; rdmsr; hlt
    static func read(_ register: UInt32) -> [UInt8] {
        [0x31, 0xd2, 0xb9] + bytes(register) + [0x0f, 0x32, 0xf4]
    }

    static let firmwareValues: [(UInt32, UInt64)] = [
        (MSR.mtrrCapabilities, 0x508), (MSR.mtrrDefaultType, 0xc06),
        (MSR.mtrrFirstVariable, 0xc000_0000), (MSR.mtrrFirstVariable + 1, 0xff_c000_0800),
        (MSR.mtrrFixed64K, 0x0606_0606_0606_0606), (MSR.mtrrFixed16K + 1, 0),
        (MSR.mtrrFixed4K, 0x0505_0505_0505_0505), (MSR.machineCheckCapabilities, 0),
    ]

    @Test(
        "memory type ranges and machine-check banks can be read whatever CPUID says, as Xen does",
        arguments: firmwareValues)
    func rangesAfterReset(_ register: UInt32, _ value: UInt64) throws {
        let machine = try SystemMachine(.long)
        #expect(!machine.processor.model.has(.mtrr))
        machine.run(Self.read(register))
        #expect(machine.haltedVector == nil)
        #expect(machine.processor[.rax] | machine.processor[.rdx] << 32 == value)
    }

    /// mov rax, value; mov crN, rax; hlt
    static func moveToControl(_ number: UInt8, _ value: UInt64) -> [UInt8] {
        [0x48, 0xb8] + bytes(value)
            + (number == 8 ? [0x44, 0x0f, 0x22, 0xc0] : [0x0f, 0x22, 0xc0 | number << 3]) + [0xf4]
    }

    static let badControl: [(UInt8, UInt64)] = [
        (0, 1 << 32), (0, 0x8000_0010), (0, 0x2000_0011), (0, 0x11), (3, 1 << 40), (3, 1 << 63),
        (4, 0), (4, 1 << 12 | 0x20), (4, 1 << 0 | 0x20), (4, 1 << 6 | 0x20), (4, 1 << 33 | 0x20),
        (8, 16),
    ]

    @Test("MOV to a control register of a bad value raises #GP(0)", arguments: badControl)
    func badControlValue(_ number: UInt8, _ value: UInt64) throws {
        let machine = try SystemMachine(.long)
        let (cr0, cr3, cr4) = (machine.processor.cr0, machine.processor.cr3, machine.processor.cr4)
        machine.run(Self.moveToControl(number, value))
        #expect(machine.haltedVector == 13)
        #expect(machine.processor.cr0 == cr0)
        #expect(machine.processor.cr3 == cr3)
        #expect(machine.processor.cr4 == cr4)
    }

    @Test("PCIDE needs a CR3 without PCID bits, and bit 63 of CR3 is not stored")
    func processContext() throws {
        let machine = try SystemMachine(.long)
        machine.run(Self.moveToControl(4, CR4.pcidEnable | 0x20))
        #expect(machine.haltedVector == nil)
        machine.run(Self.moveToControl(3, 1 << 63 | 0x1005))
        #expect(machine.haltedVector == nil)
        #expect(machine.processor.cr3 == 0x1005)
        let other = try SystemMachine(.long)
        other.run(Self.moveToControl(3, 0x1005))
        other.run(Self.moveToControl(4, CR4.pcidEnable | 0x20))
        #expect(other.haltedVector == 13)
    }

    @Test("control bits of removed features are reserved")
    func removed() throws {
        let machine = try SystemMachine(
            .long, model: ProcessorModel(parsing: "penumbra-v2,-smap,-pcid"))
        machine.run(Self.moveToControl(4, CR4.supervisorAccessPrevention | 0x20))
        #expect(machine.haltedVector == 13)
    }

    @Test("a data breakpoint traps after the access that meets it, and no other")
    func dataBreakpoint() throws {
        let machine = try SystemMachine(.long)
        // DR1 watches 4 bytes at 0x20010 for writes (R/W1 = 1, LEN1 = 3).
        machine.processor.setBreakpoint(1, address: 0x20010, control: 0xd0_0404)
        // mov eax, [0x20010]; mov [0x20014], eax; mov [0x20012], al; nop; hlt
        machine.run(
            [0x8b, 0x04, 0x25] + bytes(0x20010 as UInt32) + [0x89, 0x04, 0x25]
                + bytes(0x20014 as UInt32) + [0x88, 0x04, 0x25] + bytes(0x20012 as UInt32)
                + [0x90, 0xf4])
        #expect(machine.haltedVector == 1)
        #expect(try machine.frame(0) == SystemMachine.code + 21)
        #expect(machine.processor.debugStatus & 0xf == 2)
    }

    @Test("paging operations exit where the hypervisor asks, after they retire")
    func exits() throws {
        let machine = try SystemMachine(.long)
        machine.processor.control.exitsOnPagingOperations = true
        #expect(machine.run(Self.moveToControl(3, 0x1000)) == .rootLoaded(flushed: true))
        #expect(machine.processor.rip == SystemMachine.code + 13)
        // invlpg [0x20000]
        #expect(
            machine.run([0x0f, 1, 0x3c, 0x25] + bytes(0x20000 as UInt32) + [0xf4])
                == .invalidatePage(GuestVirtualAddress(0x20000)))
        let old = machine.processor.cr4
        #expect(
            machine.run(Self.moveToControl(4, old | CR4.pageGlobalEnable))
                == .pagingModeChanged(
                    cr0: machine.processor.cr0, cr4: old, efer: machine.processor.efer))
        #expect(machine.proceed() == .halted)
    }

    @Test("INVLPG drops a stale translation; without it a TLB may keep it")
    func invalidation() throws {
        let machine = try SystemMachine(.long)
        // A 4 KiB view of page 2 at 6 MiB.
        machine.store(UInt64(0x4007), at: 0x3018)
        machine.store(UInt64(0x20067), at: 0x4000)
        machine.store(UInt64(0x11), at: 0x20000)
        machine.store(UInt64(0x22), at: 0x21000)
        // mov rbx, [6 MiB]; mov dword [0x4000], 0x21067; invlpg [6 MiB]; mov rcx, [6 MiB]; hlt
        let page: [UInt8] = bytes(0x60_0000 as UInt32)
        machine.run(
            [0x48, 0x8b, 0x1c, 0x25] + page + [0xc7, 0x04, 0x25, 0, 0x40, 0, 0]
                + bytes(0x21067 as UInt32) + [0x0f, 1, 0x3c, 0x25] + page
                + [0x48, 0x8b, 0x0c, 0x25] + page + [0xf4])
        #expect(machine.processor[.rbx] == 0x11)
        #expect(machine.processor[.rcx] == 0x22)
    }

    // MARK: Instructions that features and control bits permit

    static let permissions: [(String, [UInt8], UInt64?)] = [
        ("rdfsbase without CR4.FSGSBASE", [0xf3, 0x48, 0x0f, 0xae, 0xc0], 6),
        ("xgetbv without CR4.OSXSAVE", [0x31, 0xc9, 0x0f, 1, 0xd0], 6),
        ("stac at level 0", [0x0f, 1, 0xcb, 0xf4], nil),
        ("rdtscp", [0x0f, 1, 0xf9, 0xf4], nil),
        ("cpuid", [0x0f, 0xa2, 0xf4], nil),
        ("rdpmc", [0x0f, 0x33], 13),
        ("wbinvd", [0x0f, 9, 0xf4], nil),
        ("endbr64", [0xf3, 0x0f, 0x1e, 0xfa, 0xf4], nil),
        ("invpcid type 4", [0xb8, 4, 0, 0, 0, 0x66, 0x0f, 0x38, 0x82, 0x04, 0x25, 0, 0, 2, 0], 13),
        (
            "invpcid type 2",
            [0xb8, 2, 0, 0, 0, 0x66, 0x0f, 0x38, 0x82, 0x04, 0x25, 0, 0, 2, 0, 0xf4], nil
        ),
        ("lldt of null", [0x31, 0xc0, 0x0f, 0, 0xd0, 0xf4], nil),
        ("mov cs", [0x8e, 0xc8], 6),
        ("mov to cr1", [0x0f, 0x22, 0xc8], 6),
    ]

    @Test("system instructions are permitted or not", arguments: permissions)
    func permitted(_ name: String, _ code: [UInt8], _ vector: UInt64?) throws {
        let machine = try SystemMachine(.long)
        #expect(machine.run(code) == .halted, "\(name)")
        #expect(machine.haltedVector == vector, "\(name)")
    }

    @Test("SWAPGS exchanges the bases, WRFSBASE and RDGSBASE reach them")
    func bases() throws {
        let machine = try SystemMachine(.long)
        machine.run(Self.moveToControl(4, CR4.fsGSBaseEnable | 0x20))
        // mov eax, 0x1000; wrgsbase rax; swapgs; rdgsbase rbx; swapgs; rdgsbase rcx; hlt
        machine.run([
            0xb8, 0, 0x10, 0, 0, 0xf3, 0x48, 0x0f, 0xae, 0xd8, 0x0f, 1, 0xf8, 0xf3, 0x48, 0x0f,
            0xae, 0xcb, 0x0f, 1, 0xf8, 0xf3, 0x48, 0x0f, 0xae, 0xc9, 0xf4,
        ])
        #expect(machine.processor[.rbx] == 0)
        #expect(machine.processor[.rcx] == 0x1000)
    }

    @Test("UMIP keeps SGDT from level 3")
    func userModeInstructionPrevention() throws {
        let sgdt: [UInt8] = [0x0f, 1, 0x04, 0x25, 0, 0, 2, 0, 0xcd, 0x80]
        let open = try SystemMachine(.long)
        open.enterUser()
        open.run(sgdt)
        #expect(open.haltedVector == 0x80)
        #expect(try open.load(UInt16.self, at: 0x20000) == 0x8f)
        #expect(try open.load(UInt64.self, at: 0x20002) == SystemMachine.gdt)
        let closed = try SystemMachine(.long)
        closed.run(Self.moveToControl(4, CR4.userModeInstructionPrevention | 0x20))
        closed.enterUser()
        closed.run(sgdt)
        #expect(closed.haltedVector == 13)
    }

    @Test("LAR, LSL, VERR and VERW tell of a descriptor by ZF")
    func inspection() throws {
        let machine = try SystemMachine(.protected)
        // mov eax, 0x60; lsl ebx, eax; lar ecx, eax; verw ax; setz dl; mov eax, 0x50; verw ax;
        // setz dh; verr ax; sete [0x20000]; mov eax, 0x1000; lsl esi, eax; setz [0x20001]; hlt
        machine.processor[.rsi] = 5
        machine.store(UInt16(0xffff), at: 0x20000)
        machine.run([
            0xb8, 0x60, 0, 0, 0, 0x0f, 3, 0xd8, 0x0f, 2, 0xc8, 0x0f, 0, 0xe8, 0x0f, 0x94, 0xc2,
            0xb8, 0x50, 0, 0, 0, 0x0f, 0, 0xe8, 0x0f, 0x94, 0xc6, 0x0f, 0, 0xe0, 0x0f, 0x94, 0x05,
            0, 0, 2, 0, 0xb8, 0, 0x10, 0, 0, 0x0f, 3, 0xf0, 0x0f, 0x94, 0x05, 1, 0, 2, 0, 0xf4,
        ])
        #expect(machine.processor[.rbx] == 0xfff)
        #expect(machine.processor[.rcx] == 0x0040_9300)
        #expect(machine.processor[.rdx] & 0xffff == 0x0001)
        #expect(try machine.load(UInt16.self, at: 0x20000) == 0x0001)
        #expect(machine.processor[.rsi] == 5)
    }

    // MARK: Ports

    @Test("IN and OUT of every size, and REP OUTSB")
    func ports() throws {
        let machine = try SystemMachine(.long)
        machine.store(UInt32(0x4443_4241), at: SystemMachine.data)
        // mov eax, -1; in al, 0x60; mov ebx, eax; mov edx, 0x1234; in eax, dx; out dx, ax;
        // mov esi, 0x20000; mov ecx, 3; rep outsb; hlt
        machine.run([
            0xb8, 0xff, 0xff, 0xff, 0xff, 0xe4, 0x60, 0x89, 0xc3, 0xba, 0x34, 0x12, 0, 0, 0xed,
            0x66, 0xef, 0xbe, 0, 0, 2, 0, 0xb9, 3, 0, 0, 0, 0xf3, 0x6e, 0xf4,
        ])
        #expect(machine.processor[.rbx] == 0xffff_ff60)
        #expect(machine.processor[.rax] == 0xa5a5_1234)
        #expect(machine.platform.writes.map(\.port) == [0x1234, 0x1234, 0x1234, 0x1234])
        #expect(machine.platform.writes.map(\.value) == [0x1234, 0x41, 0x42, 0x43])
        #expect(machine.processor[.rcx] == 0)
        #expect(machine.processor.statistics.deviceAccesses == 6)
    }

    @Test("REP INSB writes memory and stops at a fault with registers exact")
    func inputString() throws {
        let machine = try SystemMachine(.long)
        // mov edx, 0x77; mov edi, 0x7ffffe; mov ecx, 4; rep insb: two bytes, then a page fault
        machine.run([
            0xba, 0x77, 0, 0, 0, 0xbf, 0xfe, 0xff, 0x7f, 0, 0xb9, 4, 0, 0, 0, 0xf3, 0x6c, 0xf4,
        ])
        #expect(machine.haltedVector == 14)
        #expect(machine.processor[.rcx] == 2)
        #expect(machine.processor[.rdi] == 0x80_0000)
        #expect(machine.processor.cr2 == 0x80_0000)
        #expect(machine.processor.statistics.deviceAccesses == 2)
    }

    @Test("the I/O permission bitmap opens single ports to level 3")
    func permissionMap() throws {
        let machine = try SystemMachine(.protected)
        // All ports closed but 0x60, whose bit is in byte 12.
        for byte in 0..<0x2000 as Range<UInt64> {
            machine.store(UInt8(0xff), at: SystemMachine.tss + 0x68 + byte)
        }
        machine.store(UInt8(0xfe), at: SystemMachine.tss + 0x68 + 12)
        machine.enterUser()
        machine.run([0xe4, 0x60, 0xcd, 0x80])
        #expect(machine.haltedVector == 0x80)
        machine.enterUser()
        machine.run([0x66, 0xe5, 0x60, 0xcd, 0x80])
        #expect(machine.haltedVector == 13)
        machine.enterUser(flags: 0x3002)
        machine.run([0xe4, 0x61, 0xcd, 0x80])
        #expect(machine.haltedVector == 0x80)
    }

    // MARK: Debugging

    @Test("TF traps after the instruction that follows the one that set it")
    func singleStep() throws {
        let machine = try SystemMachine(.long)
        // pushfq; or byte [rsp+1], 1; popfq; inc eax; inc eax
        machine.run([0x9c, 0x80, 0x4c, 0x24, 1, 1, 0x9d, 0xff, 0xc0, 0xff, 0xc0, 0xf4])
        #expect(machine.haltedVector == 1)
        #expect(machine.processor[.rax] == 1)
        #expect(try machine.frame(0) == SystemMachine.code + 9)
        #expect(machine.processor.debugStatus & 0xf00f == 0x4000)
        #expect(try machine.frame(2) & RFLAGS.trap != 0)
    }

    @Test("INT n does not trap, nor does its handler step")
    func singleStepInterrupt() throws {
        let machine = try SystemMachine(.long)
        machine.processor.flags = RFLAGS.trap | 2
        machine.run([0xcd, 0x55])
        #expect(machine.haltedVector == 0x55)
        #expect(try machine.frame(2) & RFLAGS.trap != 0)
    }

    @Test("an instruction breakpoint faults before its instruction, once with RF")
    func instructionBreakpoint() throws {
        let machine = try SystemMachine(.long)
        machine.processor.setBreakpoint(1, address: SystemMachine.code + 2, control: 0x404)
        machine.store(UInt64(0xcf48), at: SystemMachine.handlers + 0x18)
        // The handler sets RF in its frame and returns.
        machine.memory.write(
            [0xff, 0xc3, 0x80, 0x4c, 0x24, 0x12, 1, 0x48, 0xcf].span,
            at: MachineAddress(SystemMachine.handlers + 0x10))
        machine.processor.codeChanged(in: MachineAddress(SystemMachine.handlers).frame)
        // inc eax; inc eax; hlt
        #expect(machine.run([0xff, 0xc0, 0xff, 0xc0, 0xf4]) == .halted)
        #expect(machine.processor[.rax] == 2)
        #expect(machine.processor[.rbx] == 1)
        #expect(machine.processor.rip == SystemMachine.code + 5)
        #expect(machine.processor.debugStatus & 0xf == 2)
    }

    @Test("an I/O breakpoint traps after the access, with CR4.DE")
    func portBreakpoint() throws {
        let machine = try SystemMachine(.long)
        machine.run(Self.moveToControl(4, CR4.debuggingExtensions | 0x20))
        machine.processor.setBreakpoint(0, address: 0x60, control: 0x2_0401)
        machine.run([0xe4, 0x61, 0xe4, 0x60, 0xf4])
        #expect(machine.haltedVector == 1)
        #expect(try machine.frame(0) == SystemMachine.code + 4)
        #expect(machine.processor.debugStatus & 0xf == 1)
    }

    @Test("general detect faults on an access to a debug register and clears itself")
    func generalDetect() throws {
        let machine = try SystemMachine(.long)
        machine.processor.setBreakpoint(0, address: 0, control: 0x2400)
        machine.run([0x0f, 0x21, 0xc0])
        #expect(machine.haltedVector == 1)
        #expect(try machine.frame(0) == SystemMachine.code)
        #expect(machine.processor.debugStatus & 0x2000 != 0)
        // mov rbx, dr7
        machine.run([0x0f, 0x21, 0xfb, 0xf4])
        #expect(machine.processor[.rbx] == 0x400)
    }

    // MARK: Delivery under shadow tables

    @Test("a delivery that misses in the shadow tables is made again, with one acknowledgement")
    func restartable() throws {
        let machine = try SystemMachine(.long)
        // The same tables serve as shadow tables, without an entry for the stack's 2 MiB.
        machine.processor[.rsp] = 0x60_0000 - 8
        machine.processor.control.paging = .shadow(root: MachineAddress(0x1000))
        for page in 0..<4 as Range<UInt64> {
            machine.store(page << 21 | 0xe7, at: 0x3000 + page * 8)
        }
        machine.store(UInt64(0), at: 0x3010)
        machine.processor.flags = 0x202
        machine.platform.interrupts = [0x31]
        machine.processor.interruptRequested = true
        let address = GuestVirtualAddress(0x60_0000 - 16 - 8)
        guard case .pageFault(let missed, let kind) = machine.run([0x90, 0xf4]) else {
            Issue.record("no page-fault exit")
            return
        }
        #expect(missed == address)
        #expect(kind.contains(.write))
        #expect(machine.processor.rip == SystemMachine.code)
        #expect(machine.processor.interruptsEnabled)
        machine.store(UInt64(2 << 21 | 0xe7), at: 0x3010)
        #expect(machine.proceed() == .halted)
        #expect(machine.haltedVector == 0x31)
        #expect(machine.platform.acknowledged == 1)
        #expect(try machine.frame(0) == SystemMachine.code)
        #expect(machine.processor.statistics.interrupts == 1)
    }

    @Test("random values are the seed's, and a run repeats them")
    func random() throws {
        var values: [UInt64] = []
        for _ in 0..<2 {
            let machine = try SystemMachine(
                .long, model: ProcessorModel(parsing: "penumbra-v2,+rdrand"))
            machine.processor.seedRandom(42)
            machine.run([0x48, 0x0f, 0xc7, 0xf0, 0x48, 0x0f, 0xc7, 0xf3, 0xf4])
            #expect(machine.processor[.rax] != machine.processor[.rbx])
            values.append(machine.processor[.rax])
        }
        #expect(values[0] == values[1])
    }

    @Test("the register digest tells registers, control and vector state apart")
    func digest() throws {
        let machine = try SystemMachine(.long)
        let first = machine.processor.registerDigest
        #expect(machine.processor.registerDigest == first)
        machine.processor[.r15] = 1
        let second = machine.processor.registerDigest
        #expect(second != first)
        machine.processor[.r15] = 0
        #expect(machine.processor.registerDigest == first)
    }
}
