import Snapshot

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

// MARK: Saved machines

extension MachineSignals {
    /// The event's number in a saved machine, and the status of a debug exit.
    private var saved: (kind: UInt8, status: UInt8) {
        switch event {
        case nil: (0, 0)
        case .powerOff: (1, 0)
        case .reset: (2, 0)
        case .debugExit(let status): (3, status)
        }
    }

    func save(to writer: inout FieldWriter) {
        writer.put(saved.kind)
        writer.put(saved.status)
        writer.put(interruptsChanged)
    }

    func restore(from reader: inout FieldReader) throws(FieldError) {
        let kind: UInt8 = try reader.get("machine event", in: 0...3)
        let status: UInt8 = try reader.get("status of a debug exit")
        switch kind {
        case 0: setEvent(nil)
        case 1: setEvent(.powerOff)
        case 2: setEvent(.reset)
        default: setEvent(.debugExit(status: status))
        }
        interruptsChanged = try reader.flag("change of interrupts")
    }
}
