import Snapshot

/// The I/O APIC: 24 inputs, each redirected to local APICs, in a page at 0xfec00000.
///
/// Source: Intel 82093AA data sheet (order 290566), and, for the EOI register of version 0x20,
/// Intel I/O Controller Hub 9 data sheet §13.5.9. Inputs carry assertion, not voltage, so the
/// polarity bit is kept and changes nothing. ExtINT and SMI entries deliver nothing: the 8259s are
/// wired to LINT0.
package final class IOAPIC: MemoryDevice {
    /// Inputs, 82093AA §2.4.
    package static let pins = 24
    /// IOAPICVER (§3.2.2): version 0x20, 24 entries.
    private static let version: UInt32 = UInt32(pins - 1) << 16 | 0x20

    /// Offsets into the window (§3.1; EOIR: ICH9 §13.5.9).
    private enum Window {
        static let select: UInt32 = 0x00  // IOREGSEL
        static let data: UInt32 = 0x10  // IOWIN
        static let endOfInterrupt: UInt32 = 0x40  // EOIR
    }

    /// Carries the messages; whoever owns this chip sets it.
    package weak var bus: (any InterruptMessageBus)?

    private let initialID: UInt32
    private var id: UInt32
    private var selected: UInt32 = 0
    private var entries = [RedirectionEntry](repeating: RedirectionEntry(), count: pins)
    /// The inputs as they are now, a bit each.
    private var levels: UInt32 = 0

    /// - Parameter id: the APIC ID, 0…15, that the MADT names.
    package init(id: UInt8) {
        initialID = UInt32(id & 15)
        self.id = initialID
    }

    /// All entries masked. The inputs are not this chip's and stay.
    package func reset() {
        id = initialID
        selected = 0
        entries = [RedirectionEntry](repeating: RedirectionEntry(), count: Self.pins)
    }

    // MARK: Inputs

    /// Drives input `pin`, 0…23.
    package func setInput(_ pin: Int, _ asserted: Bool) {
        guard entries.indices.contains(pin) else { return }
        let bit = UInt32(1) << UInt32(pin)
        let rises = asserted && levels & bit == 0
        if asserted { levels |= bit } else { levels &= ~bit }
        if entries[pin].isLevel {
            serveLevel(pin)
        } else if rises && !entries[pin].isMasked {
            // §3.2.4: an edge on a masked input is lost.
            _ = deliver(entries[pin])
        }
    }

    /// Sends a level interrupt if its input is asserted and none is under way.
    private func serveLevel(_ pin: Int) {
        let entry = entries[pin]
        guard entry.isLevel, !entry.isMasked, !entry.remoteIRR, levels >> UInt32(pin) & 1 != 0
        else { return }
        // Set first: a processor could end the interrupt from within the delivery.
        entries[pin].remoteIRR = true
        if !deliver(entry) { entries[pin].remoteIRR = false }
    }

    private func deliver(_ entry: RedirectionEntry) -> Bool {
        switch entry.mode {
        case .fixed, .lowestPriority, .nonMaskable, .initialize:
            bus?.send(entry.message) ?? false
        case .systemManagement, .reserved, .startup, .external: false
        }
    }

    /// An EOI for `vector`, from a local APIC or the EOI register.
    package func endOfInterrupt(_ vector: UInt8) {
        for pin in entries.indices where entries[pin].vector == vector && entries[pin].remoteIRR {
            entries[pin].remoteIRR = false
            serveLevel(pin)
        }
    }

    // MARK: Registers

    package func readRegister(_ offset: UInt32, size: Int) -> UInt32 {
        let value: UInt32
        switch offset & 0xfc {
        case Window.select: value = selected
        case Window.data: value = readSelected()
        default: value = 0
        }
        return value >> (8 * (offset & 3))
    }

    package func writeRegister(_ offset: UInt32, size: Int, value: UInt32) {
        switch offset & 0xff {
        case Window.select: selected = value & 0xff
        case Window.data where size == 4: writeSelected(value)
        case Window.endOfInterrupt: endOfInterrupt(UInt8(truncatingIfNeeded: value))
        default: break
        }
    }

    private func readSelected() -> UInt32 {
        switch selected {
        case 0, 2: return id << 24  // IOAPICID (§3.2.1), IOAPICARB (§3.2.3)
        case 1: return Self.version
        default:
            guard let pin = selectedPin else { return 0 }
            let raw = entries[pin].rawValue
            return UInt32(truncatingIfNeeded: selected & 1 == 0 ? raw : raw >> 32)
        }
    }

    private func writeSelected(_ value: UInt32) {
        if selected == 0 { id = value >> 24 & 15 }
        guard let pin = selectedPin else { return }
        let raw = entries[pin].rawValue
        entries[pin].write(
            selected & 1 == 0
                ? raw & ~0xffff_ffff | UInt64(value)
                : raw & 0xffff_ffff | UInt64(value) << 32)
        serveLevel(pin)
    }

    /// IOREDTBL is at 0x10…0x3f, two registers an entry.
    private var selectedPin: Int? {
        let pin = (Int(selected) - 0x10) >> 1
        return entries.indices.contains(pin) ? pin : nil
    }
}

// MARK: Saved machines

extension IOAPIC {
    package func save(to writer: inout FieldWriter) {
        writer.put(id)
        writer.put(selected)
        for entry in entries { writer.put(entry.rawValue) }
        writer.put(levels)
    }

    package func restore(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.get("IOAPICID", mask: 15)
        selected = try reader.get("IOREGSEL", mask: 0xff)
        for pin in entries.indices {
            entries[pin].rawValue = try reader.get(
                "IOREDTBL", mask: RedirectionEntry.writable | RedirectionEntry.remoteIRR)
        }
        levels = try reader.get("I/O APIC inputs", mask: 1 << UInt32(Self.pins) &- 1)
    }
}
