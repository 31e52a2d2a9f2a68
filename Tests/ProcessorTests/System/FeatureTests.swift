import Processor
import Testing
import X86

/// Features that a model may have: protection keys, XSAVE's newer forms, MONITOR and MWAIT.
@Suite struct FeatureTests {
    static let cr4 =
        CR4.physicalAddressExtension | CR4.osFXSR | CR4.osXSAVE | CR4.protectionKeyEnable

    /// A machine with every feature, CR4 set as above.
    private func machine(cr4: UInt64 = FeatureTests.cr4) throws -> SystemMachine {
        let machine = try SystemMachine(.long, model: .everything)
        machine.run(ControlTests.moveToControl(4, cr4))
        #expect(machine.haltedVector == nil)
        return machine
    }

    /// mov eax, value; mov edx, high; mov ecx, number
    private func load(_ value: UInt32, high: UInt32 = 0, number: UInt32 = 0) -> [UInt8] {
        [0xb8] + bytes(value) + [0xba] + bytes(high) + [0xb9] + bytes(number)
    }

    private static let rdpkru: [UInt8] = [0x0f, 0x01, 0xee]
    private static let wrpkru: [UInt8] = [0x0f, 0x01, 0xef]

    // MARK: Protection keys

    @Test("RDPKRU and WRPKRU need CR4.PKE, and zeros in ECX and EDX")
    func keyInstructions() throws {
        let without = try machine(cr4: CR4.physicalAddressExtension)
        for code in [Self.rdpkru, Self.wrpkru] {
            without.run(load(0) + code)
            #expect(without.haltedVector == 6)
        }
        let machine = try machine()
        machine.run(load(0, number: 1) + Self.rdpkru)
        #expect(machine.haltedVector == 13)
        machine.run(load(0, number: 1) + Self.wrpkru)
        #expect(machine.haltedVector == 13)
        machine.run(load(0, high: 1) + Self.wrpkru)
        #expect(machine.haltedVector == 13)
        machine.run(load(0x5555_5550) + Self.wrpkru + load(0, high: 7) + Self.rdpkru + [0xf4])
        #expect(machine.haltedVector == nil)
        #expect(machine.processor[.rax] == 0x5555_5550)
        #expect(machine.processor[.rdx] == 0)
    }

    @Test("a key denies reads or writes as PKRU says, at once, with PK in the error code")
    func keys() throws {
        let machine = try machine()
        machine.store(UInt64(0x60_0087) | 5 << 59, at: 0x3018)
        let read: [UInt8] = [0x8b, 0x04, 0x25, 0, 0, 0x60, 0]
        let write: [UInt8] = [0x89, 0x04, 0x25, 0, 0, 0x60, 0]
        machine.run(load(0) + Self.wrpkru + read + write + [0xf4])
        #expect(machine.haltedVector == nil)
        // The translation is cached now, and writable.
        machine.run(load(1 << 11) + Self.wrpkru + read + write)
        #expect(machine.haltedVector == 14)
        #expect(try machine.frame(0) == 0x23)
        #expect(machine.processor.cr2 == 0x60_0000)
        machine.run(load(1 << 10) + Self.wrpkru + read)
        #expect(machine.haltedVector == 14)
        #expect(try machine.frame(0) == 0x21)
        // Without CR0.WP the supervisor's writes are not denied by WD.
        machine.run(load(1 << 11) + Self.wrpkru + ControlTests.moveToControl(0, 0x8000_0011))
        machine.run(write + [0xf4])
        #expect(machine.haltedVector == nil)
        // Supervisor pages have no key.
        machine.store(UInt64(0x60_0083) | 5 << 59, at: 0x3018)
        machine.run(ControlTests.moveToControl(3, 0x1000))
        machine.run(load(3 << 10) + Self.wrpkru + read + [0xf4])
        #expect(machine.haltedVector == nil)
    }

    @Test("CPUID tells whether the system has enabled protection keys")
    func ospke() {
        let model = ProcessorModel.everything
        for (cr4, bits) in [(0, 1 << 3), (CR4.protectionKeyEnable, 3 << 3)]
            as [(UInt64, UInt32)]
        {
            let context = CPUIDContext(apicID: 0, cr4: cr4, isAPICEnabled: true)
            #expect(model.cpuid(leaf: 7, subleaf: 0, context: context).ecx & 3 << 3 == bits)
        }
        #expect(!ProcessorModel.penumbraV2.has(.pku))
    }

    // MARK: XSAVE

    /// XCR0 := components; xsetbv
    private func setExtended(_ components: UInt32) -> [UInt8] {
        load(components) + [0x0f, 0x01, 0xd1]
    }

    /// An instruction of 0F C7 (XSAVEC /4, XSAVES /5, XRSTORS /3) or 0F AE (XRSTOR /5) on [0x20000].
    private func area(_ opcode: UInt8, _ group: UInt8) -> [UInt8] {
        [0x0f, opcode, group << 3 | 4, 0x25, 0, 0, 2, 0]
    }

    @Test("XSAVEC writes the compacted form, and XRSTOR reads it")
    func compacted() throws {
        let machine = try machine()
        for offset in stride(from: 0, to: 640, by: 8) as StrideTo<UInt64> {
            machine.store(UInt64.max, at: SystemMachine.data + offset)
        }
        machine.run(setExtended(0x203) + load(0x30) + Self.wrpkru + load(0x202) + area(0xc7, 4))
        #expect(try machine.load(UInt64.self, at: 0x20200) == 0x202)
        #expect(try machine.load(UInt64.self, at: 0x20208) == 1 << 63 | 0x202)
        // Nothing else of the header is written; PKRU follows it.
        #expect(try machine.load(UInt64.self, at: 0x20210) == .max)
        #expect(try machine.load(UInt64.self, at: 0x20240) == 0x30)
        #expect(try machine.load(UInt64.self, at: 0x20248) == .max)
        for offset in stride(from: 0x210, to: 0x240, by: 8) as StrideTo<UInt64> {
            machine.store(UInt64(0), at: SystemMachine.data + offset)
        }
        machine.run(load(0x0c) + Self.wrpkru + load(0x203) + area(0xae, 5) + [0xf4])
        #expect(machine.haltedVector == nil)
        #expect(machine.processor.keyRights.rawValue == 0x30)
        // What the header lacks is initialized.
        machine.store(UInt64(2), at: 0x20200)
        machine.run(load(0x203) + area(0xae, 5) + [0xf4])
        #expect(machine.haltedVector == nil)
        #expect(machine.processor.keyRights.rawValue == 0)
    }

    @Test("in the standard form PKRU lies where CPUID says")
    func standard() throws {
        let machine = try machine()
        // xsave
        machine.run(
            setExtended(0x203) + load(0x44) + Self.wrpkru + load(0x200) + area(0xae, 4) + [0xf4])
        #expect(machine.haltedVector == nil)
        let context = CPUIDContext(apicID: 0, cr4: Self.cr4, isAPICEnabled: true, xcr0: 0x203)
        let leaf = ProcessorModel.everything.cpuid(leaf: 0xd, subleaf: 9, context: context)
        #expect(leaf.eax == 8)
        #expect(try machine.load(UInt64.self, at: 0x20000 + UInt64(leaf.ebx)) == 0x44)
        let sizes = ProcessorModel.everything.cpuid(leaf: 0xd, subleaf: 0, context: context)
        #expect(sizes.eax == 0x203)
        #expect(sizes.ebx == leaf.ebx + 8 && sizes.ecx == sizes.ebx)
        #expect(
            ProcessorModel.everything.cpuid(leaf: 0xd, subleaf: 1, context: context).ebx == 584)
    }

    @Test("bad headers are #GP(0): compacted or not, XRSTOR and XRSTORS")
    func badHeaders() throws {
        let machine = try machine()
        machine.run(setExtended(0x203) + [0xf4])
        // XSTATE_BV, XCOMP_BV, bytes 23…16, bytes 63…56; whether XRSTOR, XRSTORS accept it.
        let headers: [(UInt64, UInt64, UInt64, UInt64, Bool, Bool)] = [
            (0, 0, 0, 0, true, false), (0, 1 << 63, 0, 0, true, true),
            (0, 1, 0, 0, false, false), (4, 0, 0, 0, false, false),
            (1, 1 << 63, 0, 0, false, false), (0, 1 << 63 | 4, 0, 0, false, false),
            (1, 1 << 63 | 1, 1, 0, false, false), (1, 1 << 63 | 1, 0, 1, false, false),
            (1, 1 << 63 | 1, 0, 0, true, true), (0, 0, 1, 0, false, false),
        ]
        machine.store(UInt64(0x1f80), at: 0x20018)
        for (index, header) in headers.enumerated() {
            machine.store(header.0, at: 0x20200)
            machine.store(header.1, at: 0x20208)
            machine.store(header.2, at: 0x20210)
            machine.store(header.3, at: 0x20238)
            machine.run(load(3) + area(0xae, 5) + [0xf4])
            #expect(machine.haltedVector == (header.4 ? nil : 13), "XRSTOR \(index)")
            machine.run(load(3) + area(0xc7, 3) + [0xf4])
            #expect(machine.haltedVector == (header.5 ? nil : 13), "XRSTORS \(index)")
        }
    }

    @Test("XSAVES and XRSTORS are the supervisor's, and IA32_XSS holds nothing")
    func supervisor() throws {
        let machine = try machine()
        machine.run(ControlTests.write(MSR.extendedSupervisorState, 1))
        #expect(machine.haltedVector == 13)
        machine.run(ControlTests.write(MSR.extendedSupervisorState, 0))
        #expect(machine.haltedVector == nil)
        for group in [3, 5] as [UInt8] {
            machine.enterUser()
            machine.run(load(3) + area(0xc7, group))
            #expect(machine.haltedVector == 13)
        }
        let without = try SystemMachine(.long)
        without.run(ControlTests.moveToControl(4, CR4.osXSAVE | 0x20))
        for group in [3, 4, 5] as [UInt8] {
            without.run(load(3) + area(0xc7, group))
            #expect(without.haltedVector == 6)
        }
    }

    @Test("XGETBV of register 1 leaves out what is in its initial state")
    func inUse() throws {
        let machine = try machine()
        let read = load(0, number: 1) + [0x0f, 0x01, 0xd0]
        machine.run(setExtended(0x203) + read + [0xf4])
        #expect(machine.processor[.rax] == 3)
        machine.run(load(4) + Self.wrpkru + read + [0xf4])
        #expect(machine.processor[.rax] == 0x203)
        machine.run(load(0, number: 2) + [0x0f, 0x01, 0xd0])
        #expect(machine.haltedVector == 13)
        // Components that the model lacks cannot be enabled.
        machine.run(setExtended(7))
        #expect(machine.haltedVector == 13)
    }

    // MARK: MONITOR and MWAIT

    @Test("MONITOR and MWAIT are the supervisor's, and refuse unknown hints")
    func monitor() throws {
        let monitor: [UInt8] = [0x0f, 0x01, 0xc8]
        let wait: [UInt8] = [0x0f, 0x01, 0xc9]
        let machine = try machine()
        machine.run(load(0x20000) + monitor + load(0, number: 1) + wait + [0xf4])
        #expect(machine.haltedVector == nil)
        machine.run(load(0x20000, number: 1) + monitor)
        #expect(machine.haltedVector == 13)
        machine.run(load(0, number: 2) + wait)
        #expect(machine.haltedVector == 13)
        // An address that is not mapped.
        machine.run(load(0x4000_0000) + monitor)
        #expect(machine.haltedVector == 14)
        for code in [monitor, wait] {
            machine.enterUser()
            machine.run(load(0x20000) + code)
            #expect(machine.haltedVector == 6)
            let without = try SystemMachine(.long)
            without.run(load(0x20000) + code)
            #expect(without.haltedVector == 6)
        }
    }
}
