import MachineMemory
import Processor
import X86

/// A platform with nothing on it.
final class EmptyPlatform: Platform {
    /// Answers an interrupt acknowledgement.
    var onAcknowledge: () -> UInt8? = { nil }
    /// The markers that code has executed.
    private(set) var markers: [RegionMarker] = []
    /// Called at each.
    var onMarker: () -> Void = {}

    func readPort(_ port: UInt16, size: Int) -> UInt32 { .max }
    func writePort(_ port: UInt16, size: Int, value: UInt32) {}
    func readDevice(_ address: MachineAddress, size: Int) -> UInt64 { .max }
    func writeDevice(_ address: MachineAddress, size: Int, value: UInt64) {}
    func readAPICRegister(_ register: UInt32, processor: Int) -> UInt64? { nil }
    func writeAPICRegister(_ register: UInt32, value: UInt64, processor: Int) -> Bool { false }
    func taskPriority(processor: Int) -> UInt8 { 0 }
    func setTaskPriority(_ value: UInt8, processor: Int) {}
    func acknowledgeInterrupt(processor: Int) -> UInt8? { onAcknowledge() }
    func timeStamp(retired: UInt64, processor: Int) -> UInt64 { retired }
    func marked(_ marker: RegionMarker, processor: Int) {
        markers.append(marker)
        onMarker()
    }
}

/// A processor in 64-bit mode at privilege level 0 with 16 MiB of memory, mapped 1:1 by 2 MiB
/// pages, under `bare`.
///
/// ```
///  0x1000 … 0x5000  page tables      0x10000  code      0x20000  data      0x80000  stack's top
/// ```
final class BareMachine {
    static let code: UInt64 = 0x10000
    static let data: UInt64 = 0x20000
    static let stack: UInt64 = 0x80000
    /// Where `mapSmall` maps pages of 4 KiB, and its table.
    static let small: UInt64 = 0x40_0000
    static let smallTable: UInt64 = 0x4000

    let memory: MachineMemory
    let platform = EmptyPlatform()
    let processor: Processor

    init(
        _ engine: Engine = TestEngine.chosen, hardware: Hardware = Hardware(),
        model: ProcessorModel = .penumbraV2
    ) throws {
        memory = try MachineMemory(guestBytes: 16 << 20, hypervisorBytes: 0)
        processor = Processor(
            memory: memory, platform: platform, model: model, index: 0, hardware: hardware)
        TestEngine.apply(to: processor, engine)
        memory.store(UInt64(0x2007), at: MachineAddress(0x1000))
        memory.store(UInt64(0x3007), at: MachineAddress(0x2000))
        for page in 0..<8 as Range<UInt64> {
            memory.store(page << 21 | 0x87, at: MachineAddress(0x3000 + page * 8))
        }
        boot()
    }

    /// Sets the registers as they are at the start; memory stays.
    func boot() {
        var registers = BootRegisters()
        registers.rip = Self.code
        registers.rflags = 2
        registers.cr0 =
            CR0.protectionEnable | CR0.paging | CR0.writeProtect | CR0.extensionType
            | CR0.numericError
        registers.cr3 = 0x1000
        registers.cr4 = CR4.physicalAddressExtension | CR4.osFXSR | CR4.osSIMDExceptions
        registers.efer = EFER.longModeEnable | EFER.longModeActive
        registers.code = .init(selector: 0x10, limit: .max, attributes: 0xa09b)
        registers.data = .init(selector: 0x18, limit: .max, attributes: 0xc093)
        registers.task = .init(selector: 0x20, limit: 0x67, attributes: 0x8b)
        processor.setBootState(registers)
        processor[.rsp] = Self.stack
    }

    /// Executes code placed at `BareMachine.code` until `count` instructions have retired, or
    /// something ends the run.
    func run(_ bytes: [UInt8], count: UInt64) -> Exit {
        memory.write(bytes.span, at: MachineAddress(Self.code))
        processor.codeChanged(in: MachineAddress(Self.code).frame)
        processor.jump(to: Self.code)
        return processor.run(until: processor.retired + count)
    }

    /// Executes what is in memory at `address`.
    func proceed(from address: UInt64, count: UInt64) -> Exit {
        processor.jump(to: address)
        return processor.run(until: processor.retired + count)
    }

    /// Puts bytes into memory as a device would.
    func store(_ bytes: [UInt8], at address: UInt64) {
        memory.write(bytes.span, at: MachineAddress(address))
        processor.codeChanged(in: MachineAddress(address).frame)
    }

    /// Puts entries into the table of the 2 MiB at `small`, in place of its large page.
    func mapSmall(_ entries: [UInt64], from first: UInt64 = 0) {
        for (index, entry) in entries.enumerated() {
            let slot = Self.smallTable + (first + UInt64(index)) * 8
            memory.store(entry, at: MachineAddress(slot))
            processor.codeChanged(in: MachineAddress(slot).frame)
        }
        memory.store(Self.smallTable | 7, at: MachineAddress(0x3000 + 2 * 8))
    }
}
