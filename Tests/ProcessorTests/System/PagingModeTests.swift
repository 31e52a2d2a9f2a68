import MachineMemory
import Processor
import Testing
import X86

/// Turning the forms of paging on and off, and the pointer registers of PAE paging
/// (SDM Vol. 3A §4.1, §4.4.1).
@Suite struct PagingModeTests {
    // MOV CR0, ECX; MOV CR3, ECX; MOV CR4, ECX: the same bytes in 32- and 64-bit code.
    private static let load: [UInt8: [UInt8]] = [
        0: [0x0f, 0x22, 0xc1], 3: [0x0f, 0x22, 0xd9], 4: [0x0f, 0x22, 0xe1],
    ]

    /// MOV to a control register.
    @discardableResult
    private func move(_ machine: FormMachine, _ number: UInt8, _ value: UInt64) throws -> Exit {
        machine.processor[.rcx] = value
        return machine.run(try #require(Self.load[number]))
    }

    @Test("2-level and PAE paging are turned on by CR0.PG, without EFER.LME")
    func turnOn() throws {
        for form in [PagingForm.twoLevel, .pae] {
            let machine = try FormMachine(form)
            let on = machine.processor.cr0
            // In the place of the identity: virtual 0x21000 is physical 0x22000.
            machine.setEntry(FormMachine.table, 0x21, 0x22003)
            machine.store(0x21 as UInt32, at: 0x21000)
            machine.store(0x22 as UInt32, at: 0x22000)
            try move(machine, 0, on & ~CR0.paging)
            #expect(machine.processor.pagingRules == nil)
            #expect(machine.read(0x21000) == 0x21)
            try move(machine, 0, on)
            #expect(machine.processor.pagingRules?.form == form)
            #expect(machine.processor.efer == 0)
            #expect(machine.read(0x21000) == 0x22)
        }
    }

    @Test("CR3 keeps all 32 bits in the forms of 32-bit code")
    func root() throws {
        for form in [PagingForm.twoLevel, .pae] {
            let machine = try FormMachine(form)
            let value = machine.processor.cr3 | 0x1f
            try move(machine, 3, value)
            #expect(machine.haltedVector == nil)
            #expect(machine.processor.cr3 == value)
            machine.store(0x5a as UInt32, at: 0x20000)
            #expect(machine.read(0x20000) == 0x5a)
        }
    }

    /// Changes of control registers: register, bits to change, whether the pointers are loaded.
    static let changes: [(UInt8, UInt64, Bool)] = [
        (3, 0, true), (0, CR0.cacheDisable, true), (0, CR0.writeProtect, false),
        (0, CR0.taskSwitched, false), (0, CR0.alignmentMask, false),
        (4, CR4.pageGlobalEnable, true), (4, CR4.pageSizeExtensions, true),
        (4, CR4.supervisorExecutionPrevention, true), (4, CR4.supervisorAccessPrevention, false),
        (4, CR4.osFXSR, false), (4, CR4.timeStampDisable, false),
    ]

    @Test(
        "the PAE pointers are loaded by the changes that load them, and no others",
        arguments: changes)
    func loads(_ number: UInt8, _ bits: UInt64, _ isLoad: Bool) throws {
        let machine = try FormMachine(.pae)
        let processor = machine.processor
        processor.control.exitsOnPagingOperations = true
        let old = number == 0 ? processor.cr0 : number == 3 ? processor.cr3 : processor.cr4
        machine.store(0x9001 as UInt64, at: 0x1018)
        let exit = try move(machine, number, old ^ bits)
        #expect(processor.pointers[3] == (isLoad ? 0x9001 : 0))
        #expect(processor.pointers[0] == FormMachine.directory | 1)
        // The hypervisor hears of each load.
        if isLoad { #expect(exit != .halted) }
    }

    @Test("the pointers are loaded when PG, and when PAE, is set")
    func loadsAtEntry() throws {
        let machine = try FormMachine(.pae)
        let on = machine.processor.cr0
        try move(machine, 0, on & ~CR0.paging)
        machine.store(0x9001 as UInt64, at: 0x1018)
        try move(machine, 3, 0x1000)
        #expect(machine.processor.pointers[3] == 0, "there are none without paging")
        try move(machine, 0, on)
        #expect(machine.processor.pointers[3] == 0x9001)
        // From 2-level to PAE paging with PG set: bits 11…5 of CR3 count in one of them alone. The
        // pointers lie in unused entries of the directory, and name one of 2 MiB pages.
        let other = try FormMachine(.twoLevel)
        for slot in 0..<4 as Range<UInt64> { other.store(0x4001 as UInt64, at: 0x2c00 + slot * 8) }
        other.store(0x83 as UInt64, at: 0x4000)
        try move(other, 3, 0x2c00)
        #expect(other.processor.pointers == SIMD4())
        try move(other, 4, CR4.physicalAddressExtension)
        #expect(other.haltedVector == nil)
        #expect(other.processor.pointers == SIMD4(repeating: 0x4001))
    }

    @Test(
        "a reserved bit in a present pointer is #GP(0), and nothing changes",
        arguments: changes.filter(\.2))
    func reserved(_ number: UInt8, _ bits: UInt64, _: Bool) throws {
        for bit in [1, 2, 5, 8, 40, 52, 63] as [UInt64] {
            let machine = try FormMachine(.pae)
            let processor = machine.processor
            let old = [processor.cr0, processor.cr3, processor.cr4]
            let pointers = processor.pointers
            let value = number == 0 ? old[0] : number == 3 ? old[1] : old[2]
            machine.store(1 << bit | 1 as UInt64, at: 0x1010)
            try move(machine, number, value ^ bits)
            #expect(machine.haltedVector == 13)
            #expect(try machine.load(UInt32.self, at: processor[.rsp]) == 0)
            #expect([processor.cr0, processor.cr3, processor.cr4] == old)
            #expect(processor.pointers == pointers)
            // Of one that is not present, none is.
            machine.store(1 << bit as UInt64, at: 0x1010)
            try move(machine, number, value ^ bits)
            #expect(machine.haltedVector == nil)
            #expect(processor.pointers[2] == 1 << bit)
        }
    }

    @Test("under the other schemes the pointers come from the guest's own memory")
    func schemes() throws {
        let machine = try FormMachine(.pae, hypervisorBytes: 1 << 20)
        func poke(_ address: UInt64, _ value: UInt64) {
            machine.memory.store(value, at: MachineAddress(address))
        }
        // Guest-physical and linear 0…4 MiB, 1:1: second dimension and shadow alike.
        poke(0, 0x1067)
        poke(0x1000, 0x2067)
        for page in 0..<2 as Range<UInt64> {
            poke(0x2000 + page * 8, machine.base + page << 21 | 0xe7)
        }
        let root = MachineAddress(0)
        for (number, paging) in [PagingScheme.shadow(root: root), .nested(root: root)].enumerated()
        {
            machine.processor.control.paging = paging
            machine.processor.invalidateAll()
            machine.store(0xa001 + UInt64(number) << 12, at: 0x1018)
            try move(machine, 3, 0x1000)
            #expect(machine.processor.pointers[3] == 0xa001 + UInt64(number) << 12)
        }
        // What the second dimension does not map exits, with nothing done.
        let retired = machine.processor.retired
        let exit = try move(machine, 3, 0x60_0020)
        #expect(exit == .secondDimensionFault(GuestPhysicalAddress(0x60_0020), []))
        #expect(machine.processor.cr3 == 0x1000)
        #expect(machine.processor.retired == retired)
    }

    @Test("a task switch that changes CR3 loads the pointers")
    func taskSwitch() throws {
        for isBad in [false, true] {
            let machine = try SystemMachine(.protected)
            let second: UInt64 = 0x9000
            // Two sets of pointers to the directory of 2 MiB pages.
            machine.store(0x3001 as UInt64, at: 0xb000)
            machine.store(0x3001 as UInt64, at: 0xb020)
            machine.store(0x3001 | (isBad ? 2 : 0) as UInt64, at: 0xb038)
            machine.store(
                0x0000_8900_0000_0067 | second << 16,
                at: SystemMachine.gdt + UInt64(SystemMachine.secondTask))
            machine.store(0xb020 as UInt32, at: second + 28)
            machine.store(0x40000 as UInt32, at: second + 32)
            machine.store(UInt32(2), at: second + 36)
            machine.store(UInt32(0x85000), at: second + 56)
            for (slot, selector) in [
                SystemMachine.data0, SystemMachine.code32, SystemMachine.data0,
                SystemMachine.data0,
            ].enumerated() {
                machine.store(UInt32(selector), at: second + 72 + UInt64(slot) * 4)
            }
            machine.store(UInt8(0xf4), at: 0x40000)
            machine.store(UInt8(0x8b), at: SystemMachine.gdt + UInt64(SystemMachine.task) + 5)
            // mov eax, 0xb000; mov cr3, eax; mov eax, PAE; mov cr4, eax; mov eax, cr0;
            // or eax, PG; mov cr0, eax; jmp 0x80:0
            machine.run(
                [0xb8] + bytes(0xb000 as UInt32) + [0x0f, 0x22, 0xd8, 0xb8, 0x20, 0, 0, 0]
                    + [0x0f, 0x22, 0xe0, 0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80]
                    + [0x0f, 0x22, 0xc0, 0xea, 0, 0, 0, 0, 0x80, 0])
            if isBad {
                #expect(machine.haltedVector == 13)
                #expect(machine.processor.cr3 == 0xb000)
                #expect(machine.processor.pointers == [0x3001, 0, 0, 0])
            } else {
                #expect(machine.processor.rip == 0x40001)
                #expect(machine.processor.cr3 == 0xb020)
                #expect(machine.processor.pointers == [0x3001, 0, 0, 0x3001])
            }
        }
    }

    /// A machine with pointers at 0xb000, and others at 0xb020 for the second task, which runs HLT
    /// at 0x40000 with its DS; and code that enters PAE paging and executes `more`.
    private func twoTasks(dataSelector: UInt16 = SystemMachine.data0, _ more: [UInt8]) throws
        -> (machine: SystemMachine, code: [UInt8])
    {
        let machine = try SystemMachine(.protected)
        let second: UInt64 = 0x9000
        machine.store(0x3001 as UInt64, at: 0xb000)
        machine.store(0xc001 as UInt64, at: 0xb020)
        // The second directory has 0x600000 where the first has 0x400000.
        for (page, frame) in [0, 1, 3, 3].enumerated() {
            machine.store(UInt64(frame) << 21 | 0x87, at: 0xc000 + UInt64(page) * 8)
        }
        machine.store(
            0x0000_8900_0000_0067 | second << 16,
            at: SystemMachine.gdt + UInt64(SystemMachine.secondTask))
        machine.store(0xb020 as UInt32, at: second + 28)
        machine.store(0x40000 as UInt32, at: second + 32)
        machine.store(UInt32(2), at: second + 36)
        machine.store(UInt32(0x85000), at: second + 56)
        for (slot, selector) in [
            SystemMachine.data0, SystemMachine.code32, SystemMachine.data0, dataSelector,
        ].enumerated() {
            machine.store(UInt32(selector), at: second + 72 + UInt64(slot) * 4)
        }
        machine.store(UInt8(0xf4), at: 0x40000)
        machine.store(UInt8(0x8b), at: SystemMachine.gdt + UInt64(SystemMachine.task) + 5)
        // mov eax, 0xb000; mov cr3, eax; mov eax, PAE; mov cr4, eax; mov eax, cr0;
        // or eax, PG; mov cr0, eax
        let enter: [UInt8] =
            [0xb8] + bytes(0xb000 as UInt32) + [0x0f, 0x22, 0xd8, 0xb8, 0x20, 0, 0, 0]
            + [0x0f, 0x22, 0xe0, 0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0]
        return (machine, enter + more)
    }

    @Test("a task switch saves the old task through its own pointers, not through the new ones")
    func taskSwitchSaves() throws {
        // mov ax, 0x30; ltr ax; jmp 0x80:0
        let (machine, code) = try twoTasks(
            [0x66, 0xb8, 0x30, 0, 0x0f, 0x00, 0xd8, 0xea, 0, 0, 0, 0, 0x80, 0])
        machine.store(
            0x0000_8940_0000_0067 as UInt64, at: SystemMachine.gdt + UInt64(SystemMachine.task))
        machine.run(code)
        #expect(machine.processor.rip == 0x40001)
        #expect(machine.processor.pointers == [0xc001, 0, 0, 0])
        let saved = UInt32(SystemMachine.code) + UInt32(code.count)
        #expect(try machine.load(UInt32.self, at: 0x40_0020) == saved)
        #expect(try machine.load(UInt32.self, at: 0x60_0020) == 0)
    }

    @Test("an exception in a task that was switched to comes after the exit for its CR3")
    func taskSwitchExits() throws {
        for isGate in [false, true] {
            // jmp 0x80:0, or int 0x20 through a task gate
            let (machine, code) = try twoTasks(
                dataSelector: SystemMachine.absent,
                isGate ? [0xcd, 0x20] : [0xea, 0, 0, 0, 0, 0x80, 0])
            machine.store(
                0x0000_8500_0080_0000 as UInt64, at: SystemMachine.idt + 0x20 * 8)
            machine.processor.control.exitsOnPagingOperations = true
            var exits = [machine.run(code)]
            while exits.count < 10, exits.last != .halted {
                if case .rootLoaded = exits.last, machine.processor.cr3 == 0xb020 {
                    #expect(machine.processor.rip == 0x40000, "nothing was delivered yet")
                }
                exits.append(machine.proceed())
            }
            #expect(exits.suffix(2) == [.rootLoaded(flushed: true), .halted])
            #expect(machine.haltedVector == 11)
            #expect(machine.processor.cr3 == 0xb020)
        }
    }

    // MARK: 5 levels

    private let deep = Result { try ProcessorModel(parsing: "penumbra-v2,+la57") }

    @Test("CR4.LA57 exists with the feature, and changes outside IA-32e mode alone")
    func fiveLevelBit() throws {
        let model = try deep.get()
        for form in PagingForm.allCases {
            let machine = try FormMachine(form, model: model)
            let old = machine.processor.cr4
            try move(machine, 4, old ^ CR4.fiveLevelPaging)
            #expect(machine.haltedVector == (machine.is64 ? 13 : nil))
            #expect(machine.processor.cr4 == (machine.is64 ? old : old ^ CR4.fiveLevelPaging))
            #expect(machine.processor.pagingRules?.form == form)
        }
        let machine = try FormMachine(.twoLevel)
        try move(machine, 4, CR4.fiveLevelPaging)
        #expect(machine.haltedVector == 13)
    }

    @Test("registers take addresses canonical in the model's widest form, RIP in the present one")
    func canonical() throws {
        let wide: UInt64 = 0x00ff_ffff_ffff_f000
        let wrmsr: [UInt8] = [0x0f, 0x30]
        for (form, hasFeature) in [
            (PagingForm.fourLevel, false), (.fourLevel, true), (.fiveLevel, true),
        ] {
            let model = hasFeature ? try deep.get() : .penumbraV2
            let machine = try FormMachine(form, model: model)
            let processor = machine.processor
            func write(_ register: UInt32, _ value: UInt64) -> Bool {
                processor[.rcx] = UInt64(register)
                processor[.rax] = value & 0xffff_ffff
                processor[.rdx] = value >> 32
                machine.run(wrmsr)
                return machine.haltedVector == nil
            }
            for register in [MSR.longSTAR, MSR.kernelGSBase, MSR.fsBase, MSR.sysenterESP] {
                #expect(write(register, wide) == hasFeature)
                #expect(!write(register, wide << 1))
            }
            // JMP RSI: a fetch that misses, or #GP.
            processor[.rsi] = wide
            machine.run([0xff, 0xe6])
            #expect(machine.haltedVector == (form == .fiveLevel ? 14 : 13))
            // INVLPG of anything is no fault.
            processor[.rdi] = wide << 1
            machine.run([0x0f, 0x01, 0x3f])
            #expect(machine.haltedVector == nil)
        }
    }

    @Test("the digest counts the pointers where they mean something")
    func digest() throws {
        let machine = try FormMachine(.pae)
        try move(machine, 3, 0x1000)
        let first = machine.processor.registerDigest
        try move(machine, 3, 0x1000)
        #expect(machine.processor.registerDigest == first)
        machine.store(0x9001 as UInt64, at: 0x1018)
        try move(machine, 3, 0x1000)
        #expect(machine.processor.registerDigest != first)
    }
}
