import Debugger
import Glibc
import Hypervisor
import Reporting
import Verification
import VirtualMachine

/// One run of a machine on the terminal, from its files to the exit status.
struct MachineRun {
    let configuration: MachineConfiguration
    let options: RunCommand
    /// What it goes on from; nil: it boots.
    let saved: SavedMachine?

    /// - Throws: `Failure` or `MachineError` where the run could not begin or its console went away;
    ///   `ExitStatus` where it ended in any way but a plain success.
    func run() throws {
        guard StandardStreams.outputIsWritable else { throw Failure.outputClosed }
        let ledgerFile = try options.ledger.map { path throws(Failure) in try LedgerFile(path) }
        let symbols = try options.symbols.map { path throws(Failure) in try SymbolFile.read(path) }
        let log = try TranslationLog(options.translation, symbols)
        let console = TerminalConsole()
        let machine = try makeMachine(console)
        console.stop = machine.stopFlag
        machine.stopRegion = options.stopAtRegion ?? options.saving.saveAtRegion
        console.onSave = requestSave(machine)
        try prepareToSave(machine)
        let server = try options.debugging.endpoint.map { endpoint throws(DebugServerError) in
            try DebugServer(endpoint, machine.debugTarget)
        }
        StandardStreams.report(statement(machine))
        log?.attach(machine)
        machine.onLeniency = { StandardStreams.report("--verify: \($0)") }
        var progress = Progress()
        if options.progress && Progress.isWanted {
            console.onPoll = { progress.update { machine.retired } }
        }
        if let descriptor = options.beats {
            var pulse = Pulse(descriptor)
            console.onPoll = {
                if !pulse.beat(machine.retired) { machine.stopFlag.requestStop() }
            }
        }

        if let server { attach(server, machine, console) }
        RawTerminal.begin(stop: machine.stopFlag)
        let (outcome, saving) =
            waitForDebugger(server, machine, console)
            ? runAndSave(machine) { run(machine, server, console) } : (.stopped, .none)
        server?.end(status: exitStatus(outcome))
        console.flush()
        RawTerminal.end()
        console.onPoll = {}
        progress.end()
        try log?.end()

        if let counts = machine.lawfulness { StandardStreams.report(text(counts)) }
        let digest = options.digest ? machine.digest().description : nil
        var report = report(of: machine, outcome, symbols)
        if let digest { report.facts.append(.init("digest", digest)) }
        report.series = machine.series.map { Report.Series($0) }
        try ledgerFile?.write(report.json())
        if options.showLedger { StandardStreams.writeError(report.table()) }
        if let digest { StandardStreams.report("digest \(digest)") }
        if case .failed(let error) = saving { throw error }
        if case .done(let text) = saving { return StandardStreams.report(text) }
        let status = try status(of: outcome, console: console)
        try checkSaved(machine, outcome)
        guard status == .success else { throw status }
    }

    private func report(
        of machine: VirtualMachine, _ outcome: RunOutcome, _ symbols: SymbolTable?
    ) -> Report {
        var symbols = symbols
        symbols?.follow(systemCallEntry: machine.systemCallEntry)
        var report = Report(ledger: machine.ledger, facts: facts(outcome, machine))
        report.add(machine.breakdown, symbols: symbols)
        return report
    }

    /// What every run says: engine, technique, processor model, clock and memory.
    private func statement(_ machine: VirtualMachine) -> String {
        facts(machine).map { "\($0.key) \($0.value)" }.joined(separator: "; ")
    }

    private func facts(_ machine: VirtualMachine) -> [Report.Fact] {
        [
            .init("engine", machine.engine.rawValue),
            .init("technique", configuration.technique.description),
            .init("processor", configuration.processorModel),
            .init("hardware", configuration.hardware.description),
            .init("clock", configuration.clock.rawValue),
            .init("memory", MemorySize.text(configuration.memoryBytes)),
        ]
    }

    private func facts(_ outcome: RunOutcome, _ machine: VirtualMachine) -> [Report.Fact] {
        facts(machine) + [
            .init("kernel", configuration.kernel ?? ""),
            .init("restored", saved?.path ?? ""),
            .init("initrd", configuration.initrd ?? ""),
            .init("command-line", configuration.commandLine),
            .init("seed", String(configuration.seed)),
            .init("processors", String(configuration.processors)),
            .init("quantum", String(configuration.quantum)),
            .init("interleaving", configuration.interleaving.map { String($0) } ?? ""),
            .init("retired", String(machine.retired)),
            .init("outcome", text(outcome)),
        ]
    }

    private func text(_ counts: LawfulnessCounts) -> String {
        "--verify: judged \(counts.translations) translations, of which"
            + " \(counts.explainedByHistory) by history, and \(counts.faults) page faults;"
            + " \(counts.tableWrites) writes to at most \(counts.tables) tables;"
            + " not judged: \(counts.unjudged)"
    }

    private func text(_ outcome: RunOutcome) -> String {
        switch outcome {
        case .poweredOff: "powered off"
        case .reset: "reset"
        case .debugExit(let status): "debug exit \(status)"
        case .tripleFault: "triple fault"
        case .stopped: "stopped"
        case .marked: "marked"
        case .printed: "printed"
        case .paused: "saved"
        case .debugStop: "stopped"
        case .unlawful(let violation): "unlawful: \(violation.rule.rawValue)"
        }
    }

    /// - Throws: `Failure.consoleGone`.
    private func status(
        of outcome: RunOutcome, console: TerminalConsole
    ) throws(Failure) -> ExitStatus {
        if case .gone(let errno) = console.end { throw .consoleGone(errno: errno) }
        switch outcome {
        case .poweredOff, .reset, .marked, .printed:
            return .success
        case .debugExit(let status):
            return ExitStatus(rawValue: Int32(status))
        case .tripleFault(let text):
            StandardStreams.report("the guest's processor shut down: \(text)")
            return .tripleFault
        case .unlawful(let violation):
            StandardStreams.writeError("penumbra: \(violation)\n")
            return .unlawful
        case .paused, .debugStop: return .success
        case .stopped:
            guard let signal = RawTerminal.endingSignal else { return .success }
            StandardStreams.report("ended by signal \(signal)")
            return .signal(signal)
        }
    }
}
