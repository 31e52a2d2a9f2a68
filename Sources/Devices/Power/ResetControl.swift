import Snapshot

/// The three ways in which software resets a PC: port 0xcf9, the keyboard controller, port 0x92.
///
/// Sources: Intel 82371AB data sheet, "RC—Reset Control Register"; IBM AT Technical Reference,
/// "Keyboard Controller Commands" (pulse output port); IBM PS/2 Technical Reference, "System
/// Control Port A".
///
/// There is no keyboard. The status port reads as an output buffer that never empties and an input
/// buffer that is always free: drivers that wait before the reset command go on at once, and those
/// that first drain the buffer see that no controller is there. A20 is always on. Nor is there a
/// PCI bridge: its configuration ports read as all ones.
package final class ResetControl: PortDevice {
    private let signals: MachineSignals
    private var control: UInt8 = 0

    package init(signals: MachineSignals) { self.signals = signals }

    package func reset() { control = 0 }

    package func readPort(_ port: UInt16, size: Int) -> UInt32 {
        switch port {
        case PlatformMap.Port.keyboardCommand: 0x01  // OBF set, IBF clear
        case PlatformMap.Port.systemControlA: 0x02  // A20 on
        case PlatformMap.Port.resetControl where size == 1: UInt32(control)
        default: .max
        }
    }

    package func writePort(_ port: UInt16, size: Int, value: UInt32) {
        let byte = UInt8(truncatingIfNeeded: value)
        switch port {
        case PlatformMap.Port.keyboardCommand:
            // 0xf0…0xff pulse the output port's low bits that are 0 here; bit 0 is reset.
            if byte & 0xf1 == 0xf0 { signals.raise(.reset) }
        case PlatformMap.Port.systemControlA:
            if byte & 0x01 != 0 { signals.raise(.reset) }
        case PlatformMap.Port.resetControl where size == 1:
            // RCPU going from 0 to 1; SRST (bit 1) says how hard, which is all one here.
            if byte & ~control & 0x04 != 0 { signals.raise(.reset) }
            control = byte & 0x06
        default: break  // PCI configuration, keyboard data
        }
    }
}

// MARK: Saved machines

extension ResetControl {
    package func save(to writer: inout FieldWriter) { writer.put(control) }

    package func restore(from reader: inout FieldReader) throws(FieldError) {
        control = try reader.get("port 0xcf9", mask: 0x06)
    }
}
