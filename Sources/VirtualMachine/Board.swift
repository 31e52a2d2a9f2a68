import Boot
import Devices
import Hypervisor
import MachineMemory
import X86

/// The board's wiring: what the processors' pins and the boot loader's writes reach.
final class Board: GuestMemory {
    let chipset: Chipset
    let clock: MachineClock
    private let memory: MachineMemory
    /// Set once it exists; the machine owns it and this board.
    weak var hypervisor: Hypervisor?
    /// What the guest has marked, until the run loop takes it, which it does before any processor
    /// executes another instruction.
    var marker: RegionMarker?

    /// The text that ends the run, and whether it has been printed.
    private let lastText: TextSearch
    var hasPrintedLastText: Bool { lastText.isFound }

    init(
        _ configuration: MachineConfiguration, memory: MachineMemory, clock: MachineClock,
        model: ProcessorModel, console: any ConsolePort
    ) {
        self.memory = memory
        self.clock = clock
        lastText = TextSearch(configuration.lastText ?? "")
        var chips = ChipsetConfiguration(
            processors: configuration.processors, memoryBytes: configuration.memoryBytes,
            startTime: configuration.startTime, tscFrequency: MachineClock.tscFrequency)
        chips.physicalAddressBits = Int(model.physicalAddressBits)
        chips.hasX2APIC = model.has(.x2apic)
        chips.debugExitPort = configuration.debugExitPort
        chips.debugExitSize = configuration.debugExitSize
        chips.debugConsolePort = configuration.debugConsolePort
        chips.hasTestDevice = configuration.hasTestDevice
        chipset = Chipset(
            configuration: chips, time: clock,
            console: { [lastText] in
                console.write($0)
                lastText.add($0)
            })
    }

    /// The guest-physical address that a processor's access without memory goes to.
    func guestAddress(of address: MachineAddress) -> GuestPhysicalAddress {
        memory.guestAddress(of: address)
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
