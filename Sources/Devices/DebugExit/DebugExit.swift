/// QEMU's `isa-debug-exit`: a port by which a test kernel ends the machine with a status.
///
/// A write of `value` gives the status `(value << 1) | 1`, of which a process keeps eight bits;
/// the status is therefore never 0.
package final class DebugExit: PortDevice {
    private let signals: MachineSignals

    package init(signals: MachineSignals) { self.signals = signals }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 { 0 }

    package func writePort(_ port: UInt16, size: Int, value: UInt32) {
        signals.raise(.debugExit(status: UInt8(truncatingIfNeeded: value << 1 | 1)))
    }
}
