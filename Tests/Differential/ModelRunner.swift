import MachineMemory
import Processor
import X86

/// Pins that lead nowhere.
private final class NoPlatform: Platform {
    func readPort(_ port: UInt16, size: Int) -> UInt32 { .max }
    func writePort(_ port: UInt16, size: Int, value: UInt32) {}
    func readDevice(_ address: MachineAddress, size: Int) -> UInt64 { .max }
    func writeDevice(_ address: MachineAddress, size: Int, value: UInt64) {}
    func readAPICRegister(_ register: UInt32, processor: Int) -> UInt64? { nil }
    func writeAPICRegister(_ register: UInt32, value: UInt64, processor: Int) -> Bool { false }
    func taskPriority(processor: Int) -> UInt8 { 0 }
    func setTaskPriority(_ value: UInt8, processor: Int) {}
    func acknowledgeInterrupt(processor: Int) -> UInt8? { nil }
    func timeStamp(retired: UInt64, processor: Int) -> UInt64 { retired }
}

/// Runs cases on the modelled processor, at level 3 under a tiny system that is as Linux is to a
/// process: the same selectors, XCR0, and CR4.
///
/// ```
///  0x1000 … 0x4000  page tables   0x5000 GDT   0x5800 IDT   0x6000 TSS   0x8000 stack's top
///  0x9000 XSAVE area   0xa000 frame for IRETQ   0x10000 code at level 0   0x30000 handlers
///  0x100000  the frames of the areas: code, data, constant, stack
/// ```
package final class ModelRunner {
    private let memory: MachineMemory
    private let platform = NoPlatform()
    private let processor: Processor

    private static let stackTop: UInt64 = 0x8000
    private static let area: UInt64 = 0x9000
    private static let frame: UInt64 = 0xa000
    private static let enter: UInt64 = 0x10000
    private static let prepare: UInt64 = 0x10100
    private static let save: UInt64 = 0x10200
    private static let enable: UInt64 = 0x10300
    private static let handlers: UInt64 = 0x30000
    private static let codeFrame: UInt64 = 0x10_0000
    private static let dataFrame: UInt64 = 0x10_2000

    package init(_ engine: Engine, model: ProcessorModel) throws(MachineMemoryError) {
        memory = try MachineMemory(guestBytes: 16 << 20, hypervisorBytes: 0)
        processor = Processor(memory: memory, platform: platform, model: model, index: 0)
        processor.use(engine)
        processor.usesBeforeTranslation = 1
        setTables()
        setDescriptors()
        setCode()
        reset()
    }

    private func store(_ value: UInt64, at address: UInt64) {
        memory.store(value, at: MachineAddress(address))
    }

    private func setTables() {
        store(0x2007, at: 0x1000)
        store(0x3007, at: 0x2000)
        store(0x83, at: 0x3000)
        store(0x4007, at: 0x3000 + (Area.code >> 21) * 8)
        func map(_ linear: UInt64, _ frame: UInt64, _ bits: UInt64) {
            store(frame | bits, at: 0x4000 + (linear >> 12 & 511) * 8)
        }
        for page in 0..<2 as Range<UInt64> {
            map(Area.code + page << 12, Self.codeFrame + page << 12, 5)
        }
        for (index, page) in Area.pages.enumerated() {
            map(
                page, Self.dataFrame + UInt64(index) << 12,
                1 << 63 | (page == Area.constant ? 5 : 7))
        }
    }

    private func setDescriptors() {
        let descriptors: [UInt64] = [
            0, 0x00cf_9b00_0000_ffff, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff,
            0x00cf_fb00_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff, 0,
            0x0000_8b00_6000_0067, 0,
        ]
        for (index, descriptor) in descriptors.enumerated() {
            store(descriptor, at: 0x5000 + UInt64(index) * 8)
        }
        store(Self.stackTop, at: 0x6004)
        for vector in 0..<32 as Range<UInt64> {
            let target = Self.handlers + vector * 16
            memory.store(0xf4 as UInt8, at: MachineAddress(target))
            let rights: UInt64 = vector == 3 || vector == 4 ? 0xee : 0x8e
            store(
                target & 0xffff | 0x10 << 16 | rights << 40 | (target >> 16) << 48,
                at: 0x5800 + vector * 16)
        }
    }

    private func setCode() {
        func put(_ bytes: [UInt8], at address: UInt64) {
            memory.write(bytes.span, at: MachineAddress(address))
        }
        func base(_ register: UInt8, _ value: UInt64) -> [UInt8] {
            [0xb9, register, 0x01, 0x00, 0xc0, 0xb8]
                + (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } + [0x0f, 0x30]
        }
        put([0x48, 0xcf], at: Self.enter)  // iretq
        put(
            [
                0x8e, 0xd8, 0x8e, 0xc0,  // mov ds, eax; mov es, eax
                0x31, 0xc0, 0x8e, 0xe0, 0x8e, 0xe8,  // xor eax, eax; mov fs, eax; mov gs, eax
                0x31, 0xd2,  // xor edx, edx
            ] + base(0, Area.fs) + base(1, Area.gs) + [  // mov ecx, …; mov eax, …; wrmsr
                0xb8, 7, 0, 0, 0,  // mov eax, 7
                0x0f, 0xae, 0x2c, 0x25, 0, 0x90, 0, 0,  // xrstor [area]
                0xf4,  // hlt
            ], at: Self.prepare)
        put(
            // mov eax, 7; xor edx, edx; xsave [area]; hlt
            [0xb8, 7, 0, 0, 0, 0x31, 0xd2, 0x0f, 0xae, 0x24, 0x25, 0, 0x90, 0, 0, 0xf4],
            at: Self.save)
        // mov eax, 7; xor edx, edx; xor ecx, ecx; xsetbv; hlt
        put(
            [0xb8, 7, 0, 0, 0, 0x31, 0xd2, 0x31, 0xc9, 0x0f, 0x01, 0xd1, 0xf4], at: Self.enable)
    }

    @discardableResult
    private func go(to address: UInt64) -> Exit {
        processor.jump(to: address)
        return processor.run(until: processor.retired + 20000)
    }

    /// Executes a case from its start to its exception.
    package func run(_ test: Case) -> Outcome {
        memory.write(test.memory.span, at: MachineAddress(Self.dataFrame))
        memory.write(test.extended.span, at: MachineAddress(Self.area))
        // Bytes that end the area stay in it: what lies beyond is not mapped.
        let offset = test.start - Area.code
        let bytes = Array(test.bytes.prefix(Int(Area.codeEnd - test.start)))
        memory.write(bytes.span, at: MachineAddress(Self.codeFrame + offset))
        processor.codeChanged(in: MachineAddress(Self.codeFrame).frame)
        processor.codeChanged(in: MachineAddress(Self.codeFrame + 4096).frame)

        let is64 = test.size == .bits64
        processor[.rax] = is64 ? 0 : 0x2b
        processor[.rsp] = Self.stackTop
        guard go(to: Self.prepare) == .halted else { return Outcome(vector: Outcome.lost) }
        let frame = [test.start, is64 ? 0x33 : 0x23, test.flags, test.general[4], 0x2b]
        for (index, word) in frame.enumerated() {
            store(word, at: Self.frame + UInt64(index) * 8)
        }
        for register in GeneralRegister.allCases {
            processor[register] = test.general[Int(register.rawValue)]
        }
        processor[.rsp] = Self.frame
        var outcome = Outcome()
        let exit = go(to: Self.enter)
        let handler = (processor.rip &- 1) &- Self.handlers
        guard exit == .halted, handler < 0x200, handler & 15 == 0 else {
            reset()
            outcome.vector = exit == .limit ? Outcome.stopped : Outcome.lost
            return outcome
        }
        let vector = Int(handler / 16)
        outcome.vector = Outcome.signalClass(vector)
        outcome.address = processor.cr2
        for register in GeneralRegister.allCases {
            outcome.general[Int(register.rawValue)] = processor[register]
        }
        let hasError = vector == 8 || (10...14).contains(vector) || vector == 17
        var top = processor[.rsp]
        if hasError { top += 8 }
        func word(_ index: UInt64) -> UInt64 {
            memory.load(UInt64.self, at: MachineAddress(top + index * 8)) ?? 0
        }
        outcome.rip = word(0)
        outcome.flags = word(2)
        outcome.general[4] = word(3)
        processor[.rsp] = Self.stackTop
        go(to: Self.save)
        outcome.extended =
            memory.read(at: MachineAddress(Self.area), count: ExtendedLayout.size) ?? []
        outcome.memory = memory.read(at: MachineAddress(Self.dataFrame), count: 4 * 4096) ?? []
        return outcome
    }

    /// At level 0, with the x87, SSE and AVX state enabled.
    private func reset() {
        var boot = BootRegisters()
        boot.gdt = .init(base: 0x5000, limit: 0x4f)
        boot.idt = .init(base: 0x5800, limit: 0x1ff)
        boot.cr0 =
            CR0.protectionEnable | CR0.paging | CR0.writeProtect | CR0.numericError
            | CR0.monitorCoprocessor | CR0.alignmentMask
        boot.cr3 = 0x1000
        boot.cr4 =
            CR4.physicalAddressExtension | CR4.osFXSR | CR4.osSIMDExceptions | CR4.osXSAVE
        boot.efer = EFER.longModeEnable | EFER.longModeActive | EFER.executeDisableEnable
        boot.code = .init(selector: 0x10, limit: .max, attributes: 0xa09b)
        boot.data = .init(selector: 0x18, limit: .max, attributes: 0xc093)
        boot.task = .init(selector: 0x40, base: 0x6000, limit: 0x67, attributes: 0x8b)
        processor.setBootState(boot)
        processor[.rsp] = Self.stackTop
        go(to: Self.enable)
    }
}
