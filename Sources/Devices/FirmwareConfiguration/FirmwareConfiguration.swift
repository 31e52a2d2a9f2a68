import Snapshot
import X86

/// QEMU's `fw_cfg` ports, as far as small kernels and SeaBIOS read them: who we are, memory,
/// processors, and that a boot menu is wanted.
///
/// The guest writes a 16-bit key to the selector and then reads the item from the data port, a
/// byte a read, zeros after its end. Source: QEMU's "fw_cfg" specification, "Hardware Interface".
/// There are no files and there is no DMA interface; an unknown key reads as zeros.
package final class FirmwareConfiguration: PortDevice {
    /// The keys of the items that exist ("fw_cfg" specification, "Firmware Configuration Items").
    private enum Key {
        static let signature: UInt16 = 0x00
        static let interfaces: UInt16 = 0x01
        static let memoryBytes: UInt16 = 0x03
        static let processors: UInt16 = 0x05
        static let bootMenu: UInt16 = 0x0e
        static let maximumProcessors: UInt16 = 0x0f
        static let fileDirectory: UInt16 = 0x19
    }

    private let memoryBytes: UInt64
    private let processors: Int
    private var item: [UInt8] = []
    private var position = 0

    package init(memoryBytes: UInt64, processors: Int) {
        self.memoryBytes = memoryBytes
        self.processors = processors
        reset()
    }

    package func reset() { select(Key.signature) }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        guard port != PlatformMap.Port.firmwareConfiguration else { return .max }
        guard position < item.count else { return 0 }
        defer { position += 1 }
        return UInt32(item[position])
    }

    package func writePort(_ port: UInt16, size: Int, value: UInt32) {
        guard port == PlatformMap.Port.firmwareConfiguration else { return }
        select(UInt16(truncatingIfNeeded: value))
    }

    private func select(_ key: UInt16) {
        position = 0
        switch key {
        case Key.signature: item = Array("QEMU".utf8)
        // Bit 0: the selector and data ports; bit 1, the DMA interface, is clear.
        case Key.interfaces: item = bytes(UInt32(1))
        case Key.memoryBytes: item = bytes(memoryBytes)
        case Key.processors, Key.maximumProcessors:
            item = bytes(UInt16(truncatingIfNeeded: processors))
        case Key.bootMenu: item = bytes(UInt16(1))
        // A big-endian count of files: none.
        case Key.fileDirectory: item = bytes(UInt32(0))
        default: item = []
        }
    }

    /// Little-endian bytes.
    private func bytes<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
        stride(from: 0, to: T.bitWidth, by: 8).map { UInt8(truncatingIfNeeded: value >> T($0)) }
    }
}

// MARK: Saved machines

extension FirmwareConfiguration {
    package func save(to writer: inout FieldWriter) {
        writer.put(item)
        writer.put(UInt8(truncatingIfNeeded: position))
    }

    package func restore(from reader: inout FieldReader) throws(FieldError) {
        item = try reader.list("fw_cfg item", atMost: 8)
        position = Int(try reader.get("fw_cfg position", UInt8.self, in: 0...8))
        guard position <= item.count else { throw .badValue("fw_cfg position") }
    }
}
