import Boot
import Devices
import Hypervisor
import MachineMemory
import Processor
import X86

/// The board's wiring: what the processor's pins and the boot loader's writes reach.
final class Board: Platform, GuestMemory {
    let chipset: Chipset
    let clock: MachineClock
    private let memory: MachineMemory
    /// Set once they exist; the machine owns them and this board.
    weak var processor: Processor?
    weak var hypervisor: Hypervisor?

    init(
        _ configuration: MachineConfiguration, memory: MachineMemory, clock: MachineClock,
        model: ProcessorModel, console: any ConsolePort
    ) {
        self.memory = memory
        self.clock = clock
        var chips = ChipsetConfiguration(
            processors: configuration.processors, memoryBytes: configuration.memoryBytes,
            startTime: configuration.startTime, tscFrequency: MachineClock.tscFrequency)
        chips.physicalAddressBits = Int(model.physicalAddressBits)
        chips.debugExitPort = configuration.debugExitPort
        chips.debugExitSize = configuration.debugExitSize
        chips.hasTestDevice = configuration.hasTestDevice
        chipset = Chipset(
            configuration: chips, time: clock, console: { console.write($0) })
    }

    // MARK: Platform

    func readPort(_ port: UInt16, size: Int) -> UInt32 {
        defer { accessed() }
        return chipset.readPort(port, size: size)
    }

    func writePort(_ port: UInt16, size: Int, value: UInt32) {
        chipset.writePort(port, size: size, value: value)
        accessed()
    }

    func readDevice(_ address: MachineAddress, size: Int) -> UInt64 {
        defer { accessed() }
        return chipset.readMemory(memory.guestAddress(of: address), size: size, processor: 0)
    }

    func writeDevice(_ address: MachineAddress, size: Int, value: UInt64) {
        chipset.writeMemory(
            memory.guestAddress(of: address), size: size, value: value, processor: 0)
        accessed()
    }

    func readAPICRegister(_ register: UInt32, processor: Int) -> UInt64? {
        defer { accessed() }
        return chipset.readAPICRegister(register, processor: processor)
    }

    func writeAPICRegister(_ register: UInt32, value: UInt64, processor: Int) -> Bool {
        defer { accessed() }
        return chipset.writeAPICRegister(register, value: value, processor: processor)
    }

    func taskPriority(processor: Int) -> UInt8 { chipset.taskPriority(processor: processor) }

    func setTaskPriority(_ value: UInt8, processor: Int) {
        chipset.setTaskPriority(value, processor: processor)
        accessed()
    }

    func acknowledgeInterrupt(processor: Int) -> UInt8? {
        let vector = chipset.acknowledgeInterrupt(processor: processor)
        self.processor?.interruptRequested = chipset.hasInterrupt(processor: processor)
        return vector
    }

    func timeStamp(retired: UInt64, processor: Int) -> UInt64 { clock.now }

    /// An access may have raised an interrupt, set a timer or ended the machine: the run loop
    /// looks at it before the next instruction.
    private func accessed() {
        if chipset.interruptsChanged || chipset.event != nil { processor?.requestStop() }
    }

    // MARK: GuestMemory

    func write(_ bytes: Span<UInt8>, at address: GuestPhysicalAddress) -> Bool {
        guard memory.isGuestMemory(address, size: max(bytes.count, 1)),
            memory.write(bytes, at: memory.machineAddress(of: address))
        else { return false }
        hypervisor?.guestMemoryWritten(address..<address + UInt64(bytes.count))
        return true
    }
}
