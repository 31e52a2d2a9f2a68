/// What ends a run of the machine.
public enum MachineEvent: Hashable, Sendable {
    /// The guest entered soft-off.
    case powerOff
    /// The guest asked for a reset.
    case reset
    /// The guest wrote the debug-exit port; the status is that of the whole program.
    case debugExit(status: UInt8)
}

/// What chips tell the board, in one place that all of them share.
package final class MachineSignals {
    /// The first event since the board took the last one.
    package private(set) var event: MachineEvent?
    /// Whether an interrupt, NMI or start-up may have become pending or gone away, or a timer may
    /// have been set anew, since the board last cleared it.
    package var interruptsChanged = false

    package init() {}

    /// Raises an event; one that nobody has taken yet stays.
    package func raise(_ event: MachineEvent) {
        if self.event == nil { self.event = event }
    }

    package func setEvent(_ event: MachineEvent?) { self.event = event }
}
