import X86

/// A chip that answers guest-physical addresses: a window of 32-bit registers.
package protocol MemoryDevice: AnyObject {
    /// Reads `size` (1…4) bytes at `offset` bytes into the window, in the low bits.
    func readRegister(_ offset: UInt32, size: Int) -> UInt32
    /// Writes the low `size` (1…4) bytes of `value` at `offset` bytes into the window.
    func writeRegister(_ offset: UInt32, size: Int, value: UInt32)
}

/// The guest-physical addresses that chips answer, each in one 4 KiB page.
///
/// An access of 5…8 bytes is made as two, low half first. Where nobody answers, reads give all
/// ones and writes do nothing.
package struct MemoryBus {
    private var windows: [(page: UInt64, device: any MemoryDevice)] = []

    package init() {}

    /// Gives the 4 KiB page at `base` to a chip.
    package mutating func attach(_ device: any MemoryDevice, at base: GuestPhysicalAddress) {
        windows.append((base.pageNumber, device))
    }

    /// Reads `size` (1…8) bytes; the bits above them are zero.
    package func read(_ address: GuestPhysicalAddress, size: Int) -> UInt64 {
        guard let device = device(at: address) else { return Self.mask(size) }
        return Self.read(from: device, at: address, size: size)
    }

    /// Writes the low `size` (1…8) bytes of `value`.
    package func write(_ address: GuestPhysicalAddress, size: Int, value: UInt64) {
        guard let device = device(at: address) else { return }
        Self.write(to: device, at: address, size: size, value: value)
    }

    /// Reads a chip's window, wherever it is, at the offset that `address` has in its page.
    package static func read(
        from device: any MemoryDevice, at address: GuestPhysicalAddress, size: Int
    ) -> UInt64 {
        let offset = UInt32(truncatingIfNeeded: address.pageOffset)
        var value = UInt64(device.readRegister(offset, size: max(1, min(size, 4))))
        if size > 4 {
            value |= UInt64(device.readRegister(offset &+ 4, size: min(size, 8) - 4)) << 32
        }
        return value & mask(size)
    }

    /// Writes a chip's window, wherever it is, at the offset that `address` has in its page.
    package static func write(
        to device: any MemoryDevice, at address: GuestPhysicalAddress, size: Int, value: UInt64
    ) {
        let offset = UInt32(truncatingIfNeeded: address.pageOffset)
        let value = value & mask(size)
        device.writeRegister(
            offset, size: max(1, min(size, 4)), value: UInt32(truncatingIfNeeded: value))
        if size > 4 {
            device.writeRegister(
                offset &+ 4, size: min(size, 8) - 4, value: UInt32(truncatingIfNeeded: value >> 32))
        }
    }

    private func device(at address: GuestPhysicalAddress) -> (any MemoryDevice)? {
        for window in windows where window.page == address.pageNumber { return window.device }
        return nil
    }

    private static func mask(_ size: Int) -> UInt64 {
        size >= 8 ? .max : (1 << UInt64(8 * max(size, 0))) &- 1
    }
}
