import Foundation
import Hypervisor
import VirtualMachine

/// A folder for saved machines, gone with the value.
final class SavingFolder {
    private let url = FileManager.default.temporaryDirectory
        .appending(path: "penumbra-saved-\(UUID())")

    init() {
        try? FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    var path: String { url.path }
    func file(_ name: String) -> String { url.appending(path: name).path }

    /// What is in it.
    var names: [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
    }

    /// What a file holds; nothing where there is none.
    func bytes(_ name: String) -> [UInt8] {
        (try? Data(contentsOf: url.appending(path: name))).map { Array($0) } ?? []
    }

    func write(_ name: String, _ bytes: [UInt8]) {
        try? Data(bytes).write(to: url.appending(path: name))
    }
}

/// Runs, saves and restores one guest.
struct SavingBench {
    var configuration: MachineConfiguration
    let folder = SavingFolder()

    init(_ configuration: MachineConfiguration) { self.configuration = configuration }

    /// How a run ended, and what it left.
    struct End: Equatable {
        var outcome: RunOutcome
        var digest: Digest
    }

    private func prepared(_ technique: String) throws -> MachineConfiguration {
        var configuration = configuration
        configuration.technique = try Technique(parsing: technique)
        return configuration
    }

    private func end(_ machine: VirtualMachine, _ console: RecordingConsole) -> End {
        console.onIdle = { [flag = machine.stopFlag] in flag.requestStop() }
        return End(outcome: machine.run(), digest: machine.digest())
    }

    func boot(_ technique: String) throws -> (VirtualMachine, RecordingConsole) {
        let console = RecordingConsole()
        return (try VirtualMachine(prepared(technique), console: console), console)
    }

    /// The run that nothing interrupts.
    func run(_ technique: String) throws -> End {
        let (machine, console) = try boot(technique)
        return end(machine, console)
    }

    /// Runs a machine, which is saved at each of the counts, to its end.
    /// - Returns: its end, and the names of the files.
    func save(_ technique: String, at counts: [UInt64]) throws -> (End, [String]) {
        let (machine, console) = try boot(technique)
        var names: [String] = []
        for count in counts {
            machine.pausePoint = count
            console.onIdle = { [flag = machine.stopFlag] in flag.requestStop() }
            guard machine.run() == .paused, machine.retired == count else { break }
            names.append("\(technique)-\(count)")
            try machine.save(to: folder.file(names[names.count - 1]))
        }
        return (end(machine, console), names)
    }

    func restore(_ name: String, _ technique: String) throws -> (VirtualMachine, RecordingConsole) {
        let console = RecordingConsole()
        let saved = try SavedMachine(path: folder.file(name))
        return (
            try VirtualMachine(restoring: saved, prepared(technique), console: console), console
        )
    }

    /// Restores a machine and runs it to its end.
    func finish(_ name: String, _ technique: String) throws -> End {
        let (machine, console) = try restore(name, technique)
        return end(machine, console)
    }
}
