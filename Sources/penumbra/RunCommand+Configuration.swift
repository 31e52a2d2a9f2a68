import VirtualMachine

extension RunCommand {
    /// The machine that the options ask for, or that is saved, with what the options say beside.
    /// - Throws: `Failure.noDefaultGuest`.
    func machineConfiguration(_ saved: SavedMachine?) throws(Failure) -> MachineConfiguration {
        var machine: MachineConfiguration
        if let saved {
            machine = saved.configuration
            machine.kernel = bios ?? kernel
            machine.isFirmware = bios != nil
            machine.initrd = initrd
            machine.commandLine = append ?? ""
        } else if let bios {
            machine = MachineConfiguration(kernel: bios)
            machine.isFirmware = true
        } else if let kernel {
            machine = MachineConfiguration(kernel: kernel)
            machine.initrd = initrd
            machine.commandLine = append ?? ""
        } else {
            let guest = try DefaultGuest.find()
            machine = MachineConfiguration(kernel: guest.kernel)
            machine.initrd = initrd ?? guest.initrd
            machine.commandLine = append ?? DefaultGuest.commandLine
        }
        if let memory { machine.memoryBytes = memory.bytes }
        if let processors { machine.processors = processors }
        if let quantum { machine.quantum = quantum }
        if let interleaving { machine.interleaving = interleaving }
        if let processor { machine.processorModel = processor }
        if let hardware { machine.hardware = hardware }
        if let mmu { machine.technique = mmu }
        if let clock { machine.clock = clock }
        machine.engine = engine
        for case .debugExit(let port, let size) in devices {
            machine.debugExitPort = port
            machine.debugExitSize = size
        }
        for case .debugConsole(let port) in devices { machine.debugConsolePort = port }
        if devices.contains(.test) { machine.hasTestDevice = true }
        machine.lastText = until
        machine.rebootAllowed = !noReboot
        if let seed { machine.seed = seed }
        machine.sampleInterval = sample
        machine.countsPlaces = ledger != nil || showLedger
        if verify { machine.verification = .walks }
        if let shadowMemory { machine.shadowMemoryBytes = shadowMemory.bytes }
        return machine
    }
}
