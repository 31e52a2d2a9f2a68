import VirtualMachine

extension RunCommand {
    /// The machine that the options ask for.
    /// - Throws: `Failure.noDefaultGuest`.
    func machineConfiguration() throws(Failure) -> MachineConfiguration {
        var machine: MachineConfiguration
        if let kernel {
            machine = MachineConfiguration(kernel: kernel)
            machine.initrd = initrd
            machine.commandLine = append ?? ""
        } else {
            let guest = try DefaultGuest.find()
            machine = MachineConfiguration(kernel: guest.kernel)
            machine.initrd = initrd ?? guest.initrd
            machine.commandLine = append ?? DefaultGuest.commandLine
        }
        machine.memoryBytes = memory?.bytes ?? 512 << 20
        machine.processors = processors ?? 1
        if let quantum { machine.quantum = quantum }
        machine.interleaving = interleaving
        machine.processorModel = processor
        if let hardware { machine.hardware = hardware }
        if let mmu { machine.technique = mmu }
        machine.engine = engine
        machine.clock = clock
        for case .debugExit(let port, let size) in devices {
            machine.debugExitPort = port
            machine.debugExitSize = size
        }
        machine.hasTestDevice = devices.contains(.test)
        machine.rebootAllowed = !noReboot
        machine.seed = seed
        if verify { machine.verification = .walks }
        if let shadowMemory { machine.shadowMemoryBytes = shadowMemory.bytes }
        return machine
    }
}
