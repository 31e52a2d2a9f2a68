/// A chip that answers I/O ports.
package protocol PortDevice: AnyObject {
    /// Reads `size` bytes (1, 2 or 4, at most the width it was attached with), in the low bits.
    func readPort(_ port: UInt16, size: Int) -> UInt32
    /// Writes the low `size` bytes of `value`.
    func writePort(_ port: UInt16, size: Int, value: UInt32)
}

/// A wire from a chip's output to an input elsewhere. It carries assertion, not voltage.
package typealias Line = (_ asserted: Bool) -> Void
