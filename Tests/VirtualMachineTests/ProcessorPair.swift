import Hypervisor
import MachineMemory
import Processor
import Testing
import X86

/// Two processors in 64-bit mode on the same page tables, under one hypervisor, run by hand.
///
/// ```
///  guest-physical, mapped 1:1 by 2 MiB pages up to 16 MiB:
///  0x1000 … 0x4000  page tables      0x10000, 0x11000  code      0x80000, 0x90000  stacks' tops
///  0x300000  the page table of virtual addresses from 128 MiB up
/// ```
final class ProcessorPair {
    /// Where each processor's code begins.
    static let code: [UInt64] = [0x10000, 0x11000]
    /// A virtual address, and where its page-table entry is.
    static let page: UInt64 = 0x800_5000
    static let entry: UInt64 = 0x30_0028
    /// The directory entry above it.
    static let directory: UInt64 = 0x3200

    let memory: MachineMemory
    let processors: [Processor]
    let hypervisor: Hypervisor

    init(_ technique: String) throws {
        let technique = try Technique(parsing: technique)
        let shadowBytes: UInt64 = 1 << 20
        let memory = try MachineMemory(
            guestBytes: 16 << 20,
            hypervisorBytes: Hypervisor.hypervisorBytes(
                for: technique, shadowBytes: shadowBytes, processors: 2, guestBytes: 16 << 20))
        self.memory = memory
        processors = (0..<2).map {
            Processor(memory: memory, platform: NoPlatform(), model: .penumbraV2, index: $0)
        }
        hypervisor = try Hypervisor(
            memory: memory, processors: processors, technique: technique,
            shadowBytes: shadowBytes)
        store(0x2007, at: 0x1000)
        store(0x3007, at: 0x2000)
        for page in 0..<8 as Range<UInt64> { store(page << 21 | 0x87, at: 0x3000 + page * 8) }
        store(0x30_0003, at: Self.directory)
        for number in 0..<2 {
            var registers = BootRegisters()
            registers.setFlatSegments64()
            registers.rip = Self.code[number]
            registers.cr0 =
                CR0.protectionEnable | CR0.paging | CR0.writeProtect | CR0.extensionType
            registers.cr3 = 0x1000
            registers.cr4 = CR4.physicalAddressExtension
            registers.efer = EFER.longModeEnable | EFER.longModeActive
            processors[number].setBootState(registers)
            processors[number][.rsp] = 0x8_0000 + 0x1_0000 * UInt64(number)
        }
        hypervisor.start()
    }

    /// Puts a quadword into guest memory, before the guest has seen it.
    func store(_ value: UInt64, at guest: UInt64) {
        memory.store(value, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
    }

    /// Puts code into guest memory, before the guest has executed it.
    func put(_ bytes: [UInt8], at guest: UInt64) {
        memory.write(bytes.span, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
    }

    /// Has one processor retire `count` instructions, the hypervisor answering its exits.
    func run(_ number: Int, _ count: UInt64, location: SourceLocation = #_sourceLocation) {
        let end = processors[number].retired + count
        for _ in 0..<1000 {
            let exit = processors[number].run(until: end)
            if exit == .limit { return }
            guard hypervisor.handle(exit, processor: number) else {
                Issue.record("\(exit)", sourceLocation: location)
                return
            }
        }
        Issue.record("no progress", sourceLocation: location)
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
