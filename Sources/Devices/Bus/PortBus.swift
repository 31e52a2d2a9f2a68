/// The 65536 I/O ports, and the chip that answers each.
///
/// An access that is wider than its chip takes, or reaches past the chip's range, is split into
/// bytes from the lowest port up, as an ISA bridge does. Ports wrap at 64 Ki. Where nobody
/// answers, reads give all ones and writes do nothing.
package struct PortBus {
    private struct Attachment {
        let device: any PortDevice
        let ports: ClosedRange<UInt16>
        let widest: Int
    }

    private var attachments: [Attachment] = []
    /// One byte a port: 0 for nobody, else 1 + an index into `attachments`.
    private var owners = [UInt8](repeating: 0, count: 65536)

    package init() {}

    /// Gives `count` ports from `first` to a chip, taking them from whoever had them. Ports past
    /// 0xffff are left out.
    /// - Parameter widest: the widest access, in bytes, that the chip takes whole.
    package mutating func attach(
        _ device: any PortDevice, at first: UInt16, count: UInt16, widest: Int = 1
    ) {
        precondition(count > 0 && attachments.count < 255, "a port range for one of 255 chips")
        let (end, overflow) = first.addingReportingOverflow(count - 1)
        let last = overflow ? UInt16.max : end
        attachments.append(Attachment(device: device, ports: first...last, widest: widest))
        for port in first...last { owners[Int(port)] = UInt8(attachments.count) }
    }

    /// Reads `size` (1, 2 or 4) bytes; the bits above them are zero.
    package func read(_ port: UInt16, size: Int) -> UInt32 {
        let owner = Int(owners[Int(port)])
        if owner != 0 {
            let attachment = attachments[owner - 1]
            if size == 1 { return attachment.device.readPort(port, size: 1) & 0xff }
            if fits(port, size, attachment) {
                return attachment.device.readPort(port, size: size) & mask(size)
            }
        }
        if size <= 1 { return 0xff }
        var value: UInt32 = 0
        for index in 0..<min(size, 4) {
            let byte = read(port &+ UInt16(index), size: 1)
            value |= byte << UInt32(8 * index)
        }
        return value
    }

    /// Writes the low `size` (1, 2 or 4) bytes of `value`.
    package func write(_ port: UInt16, size: Int, value: UInt32) {
        let owner = Int(owners[Int(port)])
        if owner != 0 {
            let attachment = attachments[owner - 1]
            if size == 1 || fits(port, size, attachment) {
                attachment.device.writePort(port, size: size, value: value & mask(size))
                return
            }
        }
        if size <= 1 { return }
        for index in 0..<min(size, 4) {
            write(port &+ UInt16(index), size: 1, value: value >> UInt32(8 * index) & 0xff)
        }
    }

    private func fits(_ port: UInt16, _ size: Int, _ attachment: Attachment) -> Bool {
        size <= attachment.widest && Int(port) + size - 1 <= Int(attachment.ports.upperBound)
    }

    private func mask(_ size: Int) -> UInt32 { size >= 4 ? .max : (1 << UInt32(8 * size)) - 1 }
}
