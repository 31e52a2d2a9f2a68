import MachineMemory
import Processor
import Testing
import X86

/// A platform that logs port accesses and raises interrupts when a test says so.
final class LoggingPlatform: Platform {
    var writes: [(port: UInt16, value: UInt32)] = []
    var interrupts: [UInt8] = []
    var acknowledged = 0
    var priority: UInt8 = 0
    /// Whether port writes are kept in `writes`.
    var keepsLog = true
    /// Asked to stop the guest when it has made ten thousand port accesses.
    weak var processor: Processor?
    private var accesses = 0
    func readPort(_ port: UInt16, size: Int) -> UInt32 {
        count()
        return 0xa5a5_0000 | UInt32(port)
    }
    func writePort(_ port: UInt16, size: Int, value: UInt32) {
        count()
        if keepsLog { writes.append((port, value)) }
    }
    private func count() {
        accesses += 1
        if accesses % 10_000 == 0 { processor?.requestStop() }
    }
    func readDevice(_ address: MachineAddress, size: Int) -> UInt64 { .max }
    func writeDevice(_ address: MachineAddress, size: Int, value: UInt64) {}
    func readAPICRegister(_ register: UInt32, processor: Int) -> UInt64? {
        register == MSR.apicBase ? 0xfee0_0900 : nil
    }
    func writeAPICRegister(_ register: UInt32, value: UInt64, processor: Int) -> Bool { false }
    func taskPriority(processor: Int) -> UInt8 { priority }
    func setTaskPriority(_ value: UInt8, processor: Int) { priority = value }
    func acknowledgeInterrupt(processor: Int) -> UInt8? {
        acknowledged += 1
        return interrupts.isEmpty ? nil : interrupts.removeFirst()
    }
    func timeStamp(retired: UInt64, processor: Int) -> UInt64 { retired }
    /// What FERR# was driven to, and what IGNNE# says.
    private(set) var floatingPointErrors: [Bool] = []
    var ignoresErrors = false
    func signalFloatingPointError(_ isPending: Bool, processor: Int) -> Bool {
        floatingPointErrors.append(isPending)
        return ignoresErrors
    }
    private(set) var markers: [RegionMarker] = []
    func marked(_ marker: RegionMarker, processor: Int) { markers.append(marker) }
}

/// A machine with descriptor tables, in which every vector's handler is a HLT of its own.
///
/// ```
///  0x1000 page tables    0x5000 GDT       0x6000 IDT        0x7000 TSS
///  0x10000 code          0x20000 data     0x30000 handlers, 16 bytes apart
///  0x80000 stack         0x90000 stack of level 0           0xa0000 stack of IST 1
/// ```
final class SystemMachine {
    enum Mode { case real, protected, long }

    static let code: UInt64 = 0x10000
    static let data: UInt64 = 0x20000
    static let handlers: UInt64 = 0x30000
    static let stack: UInt64 = 0x80000
    static let kernelStack: UInt64 = 0x90000
    static let alternateStack: UInt64 = 0xa0000
    static let gdt: UInt64 = 0x5000
    static let idt: UInt64 = 0x6000
    static let tss: UInt64 = 0x7000

    /// Selectors in the GDT, of long and protected mode alike.
    static let code64: UInt16 = 0x08
    static let data0: UInt16 = 0x10
    static let userCode32: UInt16 = 0x18
    static let userData: UInt16 = 0x20
    static let userCode64: UInt16 = 0x28
    static let task: UInt16 = 0x30
    static let code32: UInt16 = 0x40
    static let absent: UInt16 = 0x48
    static let readOnly: UInt16 = 0x50
    static let conforming: UInt16 = 0x58
    static let small: UInt16 = 0x60
    static let gate: UInt16 = 0x70
    static let secondTask: UInt16 = 0x80
    static let code16: UInt16 = 0x88

    let memory: MachineMemory
    let platform = LoggingPlatform()
    let processor: Processor
    let mode: Mode

    init(
        _ mode: Mode, model: ProcessorModel = .penumbraV2, hardware: Hardware = Hardware()
    ) throws {
        self.mode = mode
        memory = try MachineMemory(guestBytes: 8 << 20, hypervisorBytes: 0)
        processor = Processor(
            memory: memory, platform: platform, model: model, index: 0, hardware: hardware)
        platform.processor = processor
        TestEngine.apply(to: processor)
        memory.store(UInt64(0x2007), at: MachineAddress(0x1000))
        memory.store(UInt64(0x3007), at: MachineAddress(0x2000))
        for page in 0..<4 as Range<UInt64> {
            store(page << 21 | 0x87, at: 0x3000 + page * 8)
        }
        let descriptors: [(UInt16, UInt64)] = [
            (Self.code64, mode == .long ? 0x00af_9b00_0000_ffff : 0x00cf_9b00_0000_ffff),
            (Self.data0, 0x00cf_9300_0000_ffff), (Self.userCode32, 0x00cf_fb00_0000_ffff),
            (Self.userData, 0x00cf_f300_0000_ffff), (Self.userCode64, 0x00af_fb00_0000_ffff),
            (Self.task, 0x0000_8900_7000_0000 | (mode == .long ? 0x67 : 0x20ff)),
            (Self.code32, 0x00cf_9b00_0000_ffff), (Self.absent, 0x00cf_1300_0000_ffff),
            (Self.readOnly, 0x00cf_9100_0000_ffff), (Self.conforming, 0x00cf_9f00_0000_ffff),
            (Self.small, 0x0040_9300_0000_0fff), (Self.code16, 0x000f_9b00_0000_ffff),
        ]
        for (selector, value) in descriptors { store(value, at: Self.gdt + UInt64(selector)) }
        for vector in 0..<256 as Range<UInt64> {
            memory.store(UInt8(0xf4), at: MachineAddress(Self.handlers + vector * 16))
            setGate(UInt8(vector), level: vector == 0x80 || vector == 3 ? 3 : 0)
        }
        start()
    }

    private func start() {
        var registers = BootRegisters()
        registers.general[Int(GeneralRegister.rsp.rawValue)] = Self.stack
        registers.rip = Self.code
        registers.gdt = .init(base: Self.gdt, limit: 0x8f)
        registers.idt = .init(base: Self.idt, limit: 0xfff)
        switch mode {
        case .real:
            registers.rip = 0
            registers.code = .init(
                selector: 0x1000, base: 0x10000, limit: 0xffff, attributes: 0x9b)
            registers.data = .init(limit: 0xffff, attributes: 0x93)
            registers.idt = .init(base: 0, limit: 0x3ff)
            registers.general[Int(GeneralRegister.rsp.rawValue)] = 0x8000
        case .protected:
            registers.cr0 = CR0.protectionEnable | CR0.extensionType
            registers.code = .init(
                selector: Self.code32, limit: .max, attributes: 0xc09b)
            registers.data = .init(selector: Self.data0, limit: .max, attributes: 0xc093)
            registers.task = .init(
                selector: Self.task, base: Self.tss, limit: 0x20ff, attributes: 0x8b)
            store(UInt32(Self.kernelStack), at: Self.tss + 4)
            store(UInt32(Self.data0), at: Self.tss + 8)
            store(UInt16(0x68), at: Self.tss + 102)
        case .long:
            registers.cr0 =
                CR0.protectionEnable | CR0.paging | CR0.writeProtect | CR0.extensionType
            registers.cr3 = 0x1000
            registers.cr4 = CR4.physicalAddressExtension
            registers.efer = EFER.longModeEnable | EFER.longModeActive | EFER.systemCallEnable
            registers.setFlatSegments64()
            registers.task = .init(
                selector: Self.task, base: Self.tss, limit: 0x67, attributes: 0x8b)
            store(Self.kernelStack, at: Self.tss + 4)
            store(Self.alternateStack, at: Self.tss + 36)
            // The I/O permission bitmap starts beyond the limit: there is none.
            store(UInt16(0x68), at: Self.tss + 102)
        }
        processor.setBootState(registers)
    }

    func store<W: FixedWidthInteger>(_ value: W, at address: UInt64) {
        memory.store(value, at: MachineAddress(address))
        processor.codeChanged(in: MachineAddress(address).frame)
    }

    func load<W: FixedWidthInteger>(_ type: W.Type, at address: UInt64) throws -> W {
        try #require(memory.load(W.self, at: MachineAddress(address)))
    }

    /// Makes a gate to the vector's own handler; `type` 0xe interrupt, 0xf trap.
    func setGate(
        _ vector: UInt8, type: UInt64 = 0xe, level: UInt64 = 0, stack: UInt64 = 0,
        present: Bool = true, selector: UInt16? = nil
    ) {
        let target = Self.handlers + UInt64(vector) * 16
        let code = UInt64(selector ?? (mode == .long ? Self.code64 : Self.code32))
        let low =
            target & 0xffff | code << 16 | stack << 32 | type << 40 | level << 45
            | (present ? 1 << 47 : 0) | (target >> 16 & 0xffff) << 48
        if mode == .long {
            store(low, at: Self.idt + UInt64(vector) * 16)
            store(UInt64(0), at: Self.idt + UInt64(vector) * 16 + 8)
        } else {
            store(low, at: Self.idt + UInt64(vector) * 8)
        }
    }

    /// Runs code from `SystemMachine.code` until it halts or exits, at most 1000 instructions.
    @discardableResult
    func run(_ bytes: [UInt8]) -> Exit {
        memory.write(bytes.span, at: MachineAddress(Self.code))
        processor.codeChanged(in: MachineAddress(Self.code).frame)
        processor.jump(to: mode == .real ? 0 : Self.code)
        return proceed()
    }

    @discardableResult
    func proceed() -> Exit { processor.run(until: processor.retired + 1000) }

    /// The vector in whose handler the guest halted.
    var haltedVector: UInt64? {
        let offset = processor.rip &- 1 &- Self.handlers
        return offset < 0x1000 && offset % 16 == 0 ? offset / 16 : nil
    }

    /// The `index`th value on the stack, in the mode's own width.
    func frame(_ index: UInt64) throws -> UInt64 {
        mode == .long
            ? try load(UInt64.self, at: processor[.rsp] + index * 8)
            : UInt64(try load(UInt32.self, at: processor[.rsp] + index * 4))
    }

    /// Enters level 3 at `SystemMachine.code` with flags.
    func enterUser(flags: UInt64 = 2, code: UInt16? = nil) {
        let selector = code ?? (mode == .long ? Self.userCode64 : Self.userCode32)
        var registers = BootRegisters()
        registers.general[Int(GeneralRegister.rsp.rawValue)] = Self.stack
        registers.rip = Self.code
        registers.rflags = flags
        registers.cr0 = processor.cr0
        registers.cr3 = processor.cr3
        registers.cr4 = processor.cr4
        registers.efer = processor.efer
        registers.gdt = .init(base: Self.gdt, limit: 0x8f)
        registers.idt = .init(base: Self.idt, limit: 0xfff)
        registers.code = .init(
            selector: selector | 3, limit: .max,
            attributes: selector == Self.userCode64 ? 0xa0fb : 0xc0fb)
        registers.data = .init(selector: Self.userData | 3, limit: .max, attributes: 0xc0f3)
        registers.task = .init(
            selector: Self.task, base: Self.tss, limit: mode == .long ? 0x67 : 0x20ff,
            attributes: 0x8b)
        processor.setBootState(registers)
    }
}

/// The little-endian bytes of an integer, for immediates.
func bytes<W: FixedWidthInteger>(_ value: W) -> [UInt8] {
    (0..<W.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> W($0 * 8)) }
}
