import Hypervisor
import MachineMemory
import Processor
import Testing
import Verification
import X86

/// Two processors in 64-bit mode with an oracle, which execute one instruction at a time.
///
/// ```
///  guest-physical, mapped 1:1 by 2 MiB pages up to 16 MiB, by two roots:
///  0x1000, 0x2000, 0x3000  root, pointers, directory      0x4000, 0x5000, 0x6000  the others'
///  0x10000, 0x20000        code of each processor         0x90000  the operand of INVPCID
///  0x300000  the page table of virtual addresses from 128 MiB up, under the first root
/// ```
final class Bench {
    static let root: UInt64 = 0x1000
    static let otherRoot: UInt64 = 0x4000
    /// Entries 5 and 6 of the page table, and the pages that they map.
    static let page: UInt64 = 0x800_5000
    static let neighbour: UInt64 = 0x800_6000
    static let entry: UInt64 = 0x30_0028
    static let neighbourEntry: UInt64 = 0x30_0030
    /// The directory entry above them, and the next one, of each root.
    static let directory: UInt64 = 0x3200
    static let nextDirectory: UInt64 = 0x3208
    static let otherNextDirectory: UInt64 = 0x6208

    let memory: MachineMemory
    let processors: [Processor]
    let hypervisor: Hypervisor
    let oracle: Oracle
    private var cursors: [UInt64] = [0x10000, 0x20000]

    init(
        _ technique: String, _ defects: Defects = [], uses: Bool = false,
        limits: OracleLimits = OracleLimits(), entry: UInt64 = 0x60_0063,
        model: ProcessorModel = .penumbraV2
    ) throws {
        let technique = try Technique(parsing: technique)
        let shadowBytes: UInt64 = 1 << 20
        let memory = try MachineMemory(
            guestBytes: 16 << 20,
            hypervisorBytes: Hypervisor.hypervisorBytes(
                for: technique, shadowBytes: shadowBytes, processors: 2))
        self.memory = memory
        processors = (0..<2).map {
            Processor(memory: memory, platform: NoPlatform(), model: model, index: $0)
        }
        oracle = Oracle(memory: memory, processors: processors, uses: uses, limits: limits)
        hypervisor = try Hypervisor(
            memory: memory, processors: processors, technique: technique,
            shadowBytes: shadowBytes, defects: defects)
        for base in [Self.root, Self.otherRoot] {
            put(base + 0x1007 | 0x20, at: base)
            put(base + 0x2007 | 0x20, at: base + 0x1000)
            for page in 0..<8 as Range<UInt64> {
                put(page << 21 | 0xe3, at: base + 0x2000 + page * 8)
            }
        }
        put(0x30_0023, at: Self.directory)
        put(entry, at: Self.entry)
        put(0x61_0063, at: Self.neighbourEntry)
        for number in 0..<2 {
            var registers = BootRegisters()
            registers.rflags = 2
            registers.code = .init(selector: 0x10, limit: 0xffff_ffff, attributes: 0xa09b)
            registers.data = .init(selector: 0x18, limit: 0xffff_ffff, attributes: 0xc093)
            registers.cr0 =
                CR0.protectionEnable | CR0.paging | CR0.writeProtect | CR0.extensionType
            registers.cr3 = Self.root
            registers.cr4 = CR4.physicalAddressExtension
            registers.efer =
                EFER.longModeEnable | EFER.longModeActive | EFER.executeDisableEnable
            processors[number].setBootState(registers)
        }
        hypervisor.start()
    }

    /// Puts a quadword into guest memory, as a loader does before the guest runs.
    func put(_ value: UInt64, at guest: UInt64) {
        memory.store(value, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
    }

    var rule: LawfulnessRule? { oracle.violation?.rule }
    var text: String { oracle.violation?.description ?? "" }

    // MARK: Instructions. `number` is the processor's.

    /// Executes one instruction; false where it did not retire.
    @discardableResult
    func execute(_ number: Int, _ bytes: [UInt8], rcx: UInt64, rax: UInt64 = 0) -> Bool {
        let processor = processors[number]
        memory.write(
            bytes.span,
            at: memory.machineAddress(of: GuestPhysicalAddress(cursors[number])))
        processor.jump(to: cursors[number])
        cursors[number] += 16
        processor[.rcx] = rcx
        processor[.rax] = rax
        let end = processor.retired + 1
        for _ in 0..<100 {
            let exit = processor.run(until: end)
            if oracle.violation != nil { return false }
            if exit == .limit { return true }
            guard hypervisor.handle(exit, processor: number) else { return false }
        }
        return false
    }

    @discardableResult
    func load(_ number: Int, _ address: UInt64) -> UInt64 {
        execute(number, [0x48, 0x8b, 0x11], rcx: address)
        return processors[number][.rdx]
    }

    @discardableResult
    func store(_ number: Int, _ address: UInt64, _ value: UInt64) -> Bool {
        execute(number, [0x48, 0x89, 0x01], rcx: address, rax: value)
    }

    func invalidatePage(_ number: Int, _ address: UInt64) {
        execute(number, [0x0f, 0x01, 0x39], rcx: address)
    }

    func invalidatePCID(_ number: Int, type: UInt64, pcid: UInt64 = 0, _ address: UInt64 = 0) {
        put(pcid, at: 0x90000)
        put(address, at: 0x90008)
        execute(number, [0x66, 0x0f, 0x38, 0x82, 0x01], rcx: 0x90000, rax: type)
    }

    func loadRoot(_ number: Int, _ value: UInt64) {
        execute(number, [0x0f, 0x22, 0xd8], rcx: 0, rax: value)
    }

    /// Toggles bits of CR4.
    func toggle(_ number: Int, cr4 bits: UInt64) {
        execute(number, [0x0f, 0x22, 0xe0], rcx: 0, rax: processors[number].cr4 ^ bits)
    }
}

/// A platform with nothing on it.
final class NoPlatform: Platform {
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
