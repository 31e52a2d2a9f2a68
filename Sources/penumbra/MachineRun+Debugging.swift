import Debugger
import Processor
import VirtualMachine

/// Running with a debugger.
extension MachineRun {
    /// Has the machine stop for a debugger that connects or asks for it.
    func attach(_ server: DebugServer, _ machine: VirtualMachine, _ console: TerminalConsole) {
        let wait = options.debugging.waits ? ", the machine stopped" : ""
        StandardStreams.report("waiting for a debugger at \(server.endpoint)\(wait)")
        console.onPoll = { [onPoll = console.onPoll, breakFlag = machine.breakFlag] in
            onPoll()
            if server.wantsStop() { breakFlag.requestStop() }
        }
    }

    /// Runs the machine until it ends, or pauses for anything but the debugger.
    func run(
        _ machine: VirtualMachine, _ server: DebugServer?, _ console: TerminalConsole
    ) -> RunOutcome {
        guard let server else { return machine.run() }
        while true {
            let outcome = machine.run()
            guard case .debugStop(let processor, let reason) = outcome else { return outcome }
            let ending = serve(server, (processor, reason), machine, console)
            guard ending == .resumed else { return .stopped }
        }
    }

    /// Waits for the debugger, for `-S`.
    /// - Returns: false where the machine is over before it has begun.
    func waitForDebugger(
        _ server: DebugServer?, _ machine: VirtualMachine, _ console: TerminalConsole
    ) -> Bool {
        guard let server, options.debugging.waits else { return true }
        return serve(server, nil, machine, console) == .resumed
    }

    /// Has the debugger work on the stopped machine; the console's keys are attended to.
    private func serve(
        _ server: DebugServer, _ stop: (processor: Int, reason: DebugStop)?,
        _ machine: VirtualMachine, _ console: TerminalConsole
    ) -> DebugServer.Ending {
        let onPoll = console.onPoll
        console.onPoll = {}
        defer { console.onPoll = onPoll }
        return server.serve(stop) {
            console.poll()
            return !machine.stopFlag.isSet
        }
    }

    /// What the debugger is told at the end.
    func exitStatus(_ outcome: RunOutcome) -> UInt8 {
        switch outcome {
        case .debugExit(let status): status
        case .tripleFault: UInt8(truncatingIfNeeded: ExitStatus.tripleFault.rawValue)
        case .unlawful: UInt8(truncatingIfNeeded: ExitStatus.unlawful.rawValue)
        case .poweredOff, .printed, .reset, .stopped, .marked, .paused, .debugStop: 0
        }
    }
}
