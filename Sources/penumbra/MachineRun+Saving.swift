import VirtualMachine

/// Saving and restoring.
extension MachineRun {
    /// What became of saving at `--save-at`.
    enum Saving: Equatable {
        /// Its point did not come, or there is none.
        case none
        /// The machine was saved, which a line says, and the run is over.
        case done(String)
        case failed(SavedMachineError)
    }

    /// The machine: restored where a saved one was named.
    func makeMachine(_ console: TerminalConsole) throws(MachineError) -> VirtualMachine {
        guard let saved else { return try VirtualMachine(configuration, console: console) }
        return try VirtualMachine(restoring: saved, configuration, console: console)
    }

    /// Sets the point at which the machine is saved. That the file can be written is known before
    /// any work is lost.
    /// - Throws: `Failure.savePointIsPast`, `SavedMachineError`.
    func prepareToSave(_ machine: VirtualMachine) throws {
        guard let path = options.saving.save else { return }
        try VirtualMachine.checkSaving(to: path)
        guard let point = options.saving.saveAt else { return }
        guard point >= machine.retired else {
            throw Failure.savePointIsPast(at: machine.retired, point: point)
        }
        machine.pausePoint = point
    }

    /// Throws where the guest ended the machine before it was to be saved.
    func checkSaved(_ machine: VirtualMachine, _ outcome: RunOutcome) throws(Failure) {
        switch outcome {
        case .poweredOff, .reset, .debugExit, .printed:
            if let point = options.saving.saveAt {
                throw .endedBeforeSaving(at: machine.retired, point: point)
            }
            if let region = options.saving.saveAtRegion {
                throw .endedBeforeRegion(at: machine.retired, region: region)
            }
        case .tripleFault, .stopped, .paused, .debugStop, .marked, .unlawful: return
        }
    }

    /// What Ctrl-A S does.
    func requestSave(_ machine: VirtualMachine) -> () -> Void {
        guard options.saving.save != nil else {
            return { StandardStreams.writeError("\r\nno file to save to: give --save FILE\r\n") }
        }
        return { [pauseFlag = machine.pauseFlag] in pauseFlag.requestStop() }
    }

    /// Runs the machine to its end, by `run`. At Ctrl-A S it is saved and goes on; at `--save-at`
    /// and `--save-at-region` it is saved, and that is the end.
    func runAndSave(
        _ machine: VirtualMachine, _ run: () -> RunOutcome
    ) -> (RunOutcome, Saving) {
        while true {
            let outcome = run()
            let isAtRegion = outcome == .marked && options.saving.saveAtRegion != nil
            guard outcome == .paused || isAtRegion, let path = options.saving.save else {
                return (outcome, .none)
            }
            let isLast = isAtRegion || options.saving.saveAt != nil && machine.pausePoint == nil
            do throws(SavedMachineError) {
                try machine.save(to: path)
                let text = "saved the machine at \(machine.retired) instructions in \(path)"
                if isLast { return (outcome, .done(text)) }
                StandardStreams.writeError("\r\npenumbra: \(text)\r\n")
            } catch {
                if isLast { return (outcome, .failed(error)) }
                StandardStreams.writeError("\r\npenumbra: \(error)\r\n")
            }
        }
    }
}
