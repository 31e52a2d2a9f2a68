import Devices
import Snapshot
import X86

/// What of a configuration is part of a saved machine: all that the guest, or the order of its
/// processors' instructions, depends on.
extension MachineConfiguration {
    func save(to writer: inout FieldWriter) {
        writer.put(memoryBytes)
        writer.put(UInt8(truncatingIfNeeded: processors))
        writer.put(quantum)
        writer.put(optional: interleaving)
        writer.put(processorModel)
        writer.put(optional: debugExitPort)
        writer.put(UInt8(truncatingIfNeeded: debugExitSize))
        writer.put(optional: debugConsolePort)
        writer.put(hasTestDevice)
        writer.put(seed)
        writer.put(startTime)
        writer.put(clock == .host)
    }

    init(restoringFrom reader: inout FieldReader) throws(FieldError) {
        memoryBytes = try reader.get("memory size", in: pageSize...1 << 38)
        guard memoryBytes % pageSize == 0 else { throw .badValue("memory size") }
        let most = UInt8(truncatingIfNeeded: Self.mostProcessors)
        processors = Int(try reader.get("number of processors", in: 1...most))
        quantum = try reader.get("quantum", in: 1...UInt64.max)
        interleaving = try reader.optional("interleaving seed")
        processorModel = try reader.text("processor model", atMost: 4096)
        guard (try? ProcessorModel(parsing: processorModel)) != nil else {
            throw .badValue("processor model")
        }
        debugExitPort = try reader.optional("debug-exit port")
        debugExitSize = UInt16(try reader.get("debug-exit size", UInt8.self, in: 1...4))
        debugConsolePort = try reader.optional("debug console's port")
        hasTestDevice = try reader.flag("test device")
        seed = try reader.get("seed")
        startTime = try reader.get("start time")
        clock = try reader.flag("clock") ? .host : .virtual
    }
}

extension SavedMachine {
    /// Throws unless a configuration is the saved machine's, in all that belongs to it.
    func check(_ given: MachineConfiguration) throws(SavedMachineError) {
        func compare<T: Equatable>(
            _ property: String, _ value: (MachineConfiguration) -> T
        ) throws(SavedMachineError) {
            let mine = value(configuration)
            let other = value(given)
            guard mine != other else { return }
            throw .otherMachine(
                path: path, property: property, saved: "\(mine)", given: "\(other)")
        }
        try compare("memory in bytes") { $0.memoryBytes }
        try compare("number of processors") { $0.processors }
        try compare("quantum") { $0.quantum }
        try compare("interleaving seed") { $0.interleaving.map { "\($0)" } ?? "none" }
        if (try? ProcessorModel(parsing: configuration.processorModel))
            != (try? ProcessorModel(parsing: given.processorModel))
        {
            try compare("processor model") { $0.processorModel }
        }
        try compare("debug-exit port") { $0.debugExitPort.map { "\($0)" } ?? "none" }
        if given.debugExitPort != nil { try compare("debug-exit size") { $0.debugExitSize } }
        try compare("debug console's port") { $0.debugConsolePort.map { "\($0)" } ?? "none" }
        try compare("test device") { $0.hasTestDevice ? "there" : "not there" }
        try compare("seed") { $0.seed }
        try compare("start time") { $0.startTime }
    }
}
