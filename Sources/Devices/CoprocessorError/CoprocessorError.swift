import Snapshot

/// How a PC reports x87 exceptions where CR0.NE is clear: FERR# sets a latch that drives IRQ 13,
/// and a write of port 0xf0 clears it and asserts IGNNE# until FERR# goes away.
///
/// Source: Intel 82371AB data sheet, "Coprocessor Error Register"; SDM Vol. 1 §D.2.1.2.
package final class CoprocessorError: PortDevice {
    private let interrupt: Line
    private var isPending = false
    private var isIgnored = false

    /// - Parameter interrupt: IRQ 13.
    package init(interrupt: @escaping Line) { self.interrupt = interrupt }

    package func reset() {
        isPending = false
        isIgnored = false
        interrupt(false)
    }

    /// Drives FERR#. Returns IGNNE#.
    package func signal(_ isPending: Bool) -> Bool {
        if isPending && !self.isPending { interrupt(true) }
        if !isPending { isIgnored = false }
        self.isPending = isPending
        return isIgnored
    }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 { 0xff }

    package func writePort(_ port: UInt16, size: Int, value: UInt32) {
        interrupt(false)
        isIgnored = isPending
    }
}

// MARK: Saved machines

extension CoprocessorError {
    package func save(to writer: inout FieldWriter) {
        writer.put(isPending)
        writer.put(isIgnored)
    }

    /// Takes on a saved state. The line is not driven: what it leads to has been saved too.
    package func restore(from reader: inout FieldReader) throws(FieldError) {
        isPending = try reader.flag("FERR#")
        isIgnored = try reader.flag("IGNNE#")
    }
}
