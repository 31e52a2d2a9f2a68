import Snapshot
import X86

/// QEMU's `pc-testdev`: what test kernels use to check port and device-memory instructions and to
/// raise interrupt lines.
///
/// ```
///  port 0xe0…0xe3      32 bits that keep what is written, at any width
///  port 0xe4…0xe7      the same, but a byte at a time
///  port 0xe8…0xeb      QEMU's way to unmap a page behind the guest's back: nothing here
///  port 0x2000…0x2017  writing non-zero asserts interrupt line 0…23, zero releases it
///  0xff000000, 64 KiB  device memory that keeps what is written
/// ```
package final class TestDevice: PortDevice {
    /// The first port of the data registers, and how many ports the three blocks take.
    package static let dataPort: UInt16 = 0xe0
    package static let dataPorts: UInt16 = 12
    /// The first port of the interrupt lines, one a line.
    package static let linePort: UInt16 = 0x2000
    package static let lineCount: UInt16 = 24
    /// Where the device memory starts, and its pages of 4 KiB.
    package static let memoryBase = GuestPhysicalAddress(0xff00_0000)
    package static let memoryPages: UInt64 = 16

    private var data = [UInt8](repeating: 0, count: 8)
    private let setLine: (Int, Bool) -> Void

    /// - Parameter setLine: asserts or releases an interrupt line, 0…23.
    package init(setLine: @escaping (Int, Bool) -> Void) { self.setLine = setLine }

    /// Puts the device into its power-on state.
    package func reset() { for index in data.indices { data[index] = 0 } }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        guard port &- Self.dataPort < 8 else { return 0 }
        var value: UInt32 = 0
        for byte in 0..<size {
            let index = (Int(port &- Self.dataPort) + byte) & 7
            value |= UInt32(data[index]) << UInt32(8 * byte)
        }
        return value
    }

    package func writePort(_ port: UInt16, size: Int, value: UInt32) {
        if port &- Self.linePort < Self.lineCount {
            setLine(Int(port &- Self.linePort), value != 0)
        } else if port &- Self.dataPort < 8 {
            for byte in 0..<size {
                let index = (Int(port &- Self.dataPort) + byte) & 7
                data[index] = UInt8(truncatingIfNeeded: value >> UInt32(8 * byte))
            }
        }
    }
}

/// One page of the test device's memory.
package final class TestDeviceMemory: MemoryDevice {
    private var bytes = [UInt8](repeating: 0, count: Int(pageSize))

    package init() {}

    package func readRegister(_ offset: UInt32, size: Int) -> UInt32 {
        var value: UInt32 = 0
        for byte in 0..<size {
            value |= UInt32(bytes[Int(offset &+ UInt32(byte)) & 0xfff]) << UInt32(8 * byte)
        }
        return value
    }

    package func writeRegister(_ offset: UInt32, size: Int, value: UInt32) {
        for byte in 0..<size {
            bytes[Int(offset &+ UInt32(byte)) & 0xfff] =
                UInt8(truncatingIfNeeded: value >> UInt32(8 * byte))
        }
    }
}

// MARK: Saved machines

extension TestDevice {
    package func save(to writer: inout FieldWriter) { writer.put(data) }

    package func restore(from reader: inout FieldReader) throws(FieldError) {
        let saved = try reader.list("test device", atMost: data.count)
        guard saved.count == data.count else { throw .badValue("test device") }
        data = saved
    }
}

extension TestDeviceMemory {
    package func save(to writer: inout FieldWriter) { writer.put(bytes) }

    package func restore(from reader: inout FieldReader) throws(FieldError) {
        let saved = try reader.list("test device's memory", atMost: bytes.count)
        guard saved.count == bytes.count else { throw .badValue("test device's memory") }
        bytes = saved
    }
}
