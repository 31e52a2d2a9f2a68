import MachineMemory
import Processor
import Testing
import X86

/// A processor at privilege level 0 whose guest has page tables of a given form: in 32-bit code, or
/// in 64-bit code with the forms that need it. Every vector's handler is a HLT of its own.
///
/// ```
///  0x1000 the root, or the PAE pointers   0x2000 directory   0x3000 table: 1:1, all but 0
///  0x4000 table for tests   0x5000 GDT   0x5800 IDT   0x6000 PML4 (5 levels)   0x7000 level 3
///  0x10000 code   0x30000 handlers   0x80000 stack
/// ```
/// All guest-physical; `base` is the machine address of guest-physical 0.
final class FormMachine {
    static let code: UInt64 = 0x10000
    static let handlers: UInt64 = 0x30000
    static let stack: UInt64 = 0x80000
    static let directory: UInt64 = 0x2000
    /// The table of the addresses from 0 up.
    static let table: UInt64 = 0x3000
    /// A table that tests link where they like.
    static let spare: UInt64 = 0x4000

    let form: PagingForm
    let base: UInt64
    let memory: MachineMemory
    let platform = EmptyPlatform()
    let processor: Processor

    init(
        _ form: PagingForm, guestBytes: UInt64 = 16 << 20, hypervisorBytes: UInt64 = 0,
        cr4: UInt64 = 0, efer: UInt64 = 0, model: ProcessorModel = .penumbraV2
    ) throws {
        self.form = form
        memory = try MachineMemory(guestBytes: guestBytes, hypervisorBytes: hypervisorBytes)
        base = memory.guestBase
        processor = Processor(memory: memory, platform: platform, model: model, index: 0)
        TestEngine.apply(to: processor)
        setTables()
        setDescriptors()
        var registers = BootRegisters()
        registers.general[Int(GeneralRegister.rsp.rawValue)] = Self.stack
        registers.rip = Self.code
        registers.gdt = .init(base: 0x5000, limit: 0x1f)
        registers.idt = .init(base: 0x5800, limit: is64 ? 0x1ff : 0xff)
        registers.cr0 = CR0.protectionEnable | CR0.paging | CR0.writeProtect
        registers.cr3 = form == .twoLevel ? Self.directory : 0x1000
        registers.cr4 = cr4 | (form == .twoLevel ? 0 : CR4.physicalAddressExtension)
        if form == .fiveLevel { registers.cr4 |= CR4.fiveLevelPaging }
        registers.efer = efer | (is64 ? EFER.longModeEnable | EFER.longModeActive : 0)
        if form == .pae { registers.pointers = [Self.directory | 1, 0, 0, 0] }
        registers.code = .init(
            selector: 8, limit: .max, attributes: is64 ? 0xa09b : 0xc09b)
        registers.data = .init(selector: 0x10, limit: .max, attributes: 0xc093)
        registers.task = .init(selector: 0x18, limit: 0x67, attributes: 0x8b)
        processor.setBootState(registers)
    }

    var is64: Bool { form == .fourLevel || form == .fiveLevel }

    private func setTables() {
        switch form {
        case .twoLevel: break
        case .pae: store(Self.directory | 1, at: 0x1000)
        case .fourLevel: store(0x7007 as UInt64, at: 0x1000)
        case .fiveLevel:
            store(0x6007 as UInt64, at: 0x1000)
            store(0x7007 as UInt64, at: 0x6000)
        }
        if is64 { store(Self.directory | 7, at: 0x7000) }
        setEntry(Self.directory, 0, Self.table | 7)
        for page in 1..<256 as Range<UInt64> { setEntry(Self.table, page, page << 12 | 3) }
    }

    private func setDescriptors() {
        store(is64 ? 0x00af_9b00_0000_ffff : 0x00cf_9b00_0000_ffff as UInt64, at: 0x5008)
        store(0x00cf_9300_0000_ffff as UInt64, at: 0x5010)
        for vector in 0..<32 as Range<UInt64> {
            let target = Self.handlers + vector * 16
            store(0xf4 as UInt8, at: target)
            let gate = target & 0xffff | 8 << 16 | 0x8e << 40 | (target >> 16) << 48
            store(gate, at: 0x5800 + vector * (is64 ? 16 : 8))
        }
    }

    /// Writes to guest-physical memory as a device would.
    func store<W: FixedWidthInteger>(_ value: W, at address: UInt64) {
        memory.store(value, at: MachineAddress(base + address))
        processor.codeChanged(in: MachineAddress(base + address).frame)
    }

    func load<W: FixedWidthInteger>(_ type: W.Type, at address: UInt64) throws -> W {
        try #require(memory.load(W.self, at: MachineAddress(base + address)))
    }

    /// Writes an entry of a table in the form's width.
    func setEntry(_ table: UInt64, _ index: UInt64, _ entry: UInt64) {
        if form == .twoLevel {
            store(UInt32(truncatingIfNeeded: entry), at: table + index * 4)
        } else {
            store(entry, at: table + index * 8)
        }
    }

    func entry(_ table: UInt64, _ index: UInt64) throws -> UInt64 {
        form == .twoLevel
            ? UInt64(try load(UInt32.self, at: table + index * 4))
            : try load(UInt64.self, at: table + index * 8)
    }

    /// Runs code, which is the same in both sizes, until it halts or exits.
    @discardableResult
    func run(_ bytes: [UInt8]) -> Exit {
        let address = MachineAddress(base + Self.code)
        memory.write((bytes + [0xf4]).span, at: address)
        processor.codeChanged(in: address.frame)
        processor.jump(to: Self.code)
        return processor.run(until: processor.retired + 1000)
    }

    /// The vector in whose handler the guest halted.
    var haltedVector: UInt64? {
        let offset = processor.rip &- 1 &- Self.handlers
        return offset < 0x200 && offset % 16 == 0 ? offset / 16 : nil
    }

    /// The error code of a page fault in whose handler the guest halted; nil if it did not.
    func pageFault() throws -> PageFaultError? {
        guard haltedVector == 14 else { return nil }
        return PageFaultError(rawValue: try load(UInt32.self, at: processor[.rsp]))
    }

    /// Reads 4 bytes at a linear address: MOV EAX, [ESI].
    @discardableResult
    func read(_ address: UInt64) -> UInt64 {
        processor[.rsi] = address
        run([0x8b, 0x06])
        return processor[.rax] & 0xffff_ffff
    }

    /// Writes 4 bytes: MOV [ESI], EAX.
    @discardableResult
    func write(_ address: UInt64) -> Exit {
        processor[.rsi] = address
        return run([0x89, 0x06])
    }
}
