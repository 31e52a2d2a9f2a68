/// QEMU's `isa-debugcon`: a port to which firmware writes what it has to say.
///
/// Reads give 0xe9, by which software finds it.
package final class DebugConsole: PortDevice {
    private let sink: (UInt8) -> Void

    package init(sink: @escaping (UInt8) -> Void) { self.sink = sink }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 { 0xe9 }

    package func writePort(_ port: UInt16, size: Int, value: UInt32) {
        sink(UInt8(truncatingIfNeeded: value))
    }
}
