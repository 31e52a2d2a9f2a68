/// ACPI machine language, as far as a small static DSDT needs it. Every member returns bytes, so
/// that terms nest as they do in source.
///
/// - Source: ACPI 6.4 §20 (AML) and §6.4 (resource descriptors).
enum AML {
    /// A name of four characters, or a root name with its backslash; shorter ones end in "_".
    static func name(_ text: String) -> [UInt8] {
        var segment = Array(text.utf8)
        let length = segment.first == 0x5c ? 5 : 4
        while segment.count < length { segment.append(0x5f) }
        return segment
    }

    /// An integer in its shortest form (§20.2.3).
    static func integer(_ value: UInt32) -> [UInt8] {
        var bytes: [UInt8] = []
        switch value {
        case 0, 1:
            bytes = [UInt8(value)]  // ZeroOp, OneOp
        case 2...0xff:
            bytes = [0x0a, UInt8(value)]
        case 0x100...0xffff:
            bytes = [0x0b]
            bytes.append(littleEndian: UInt16(value))
        default:
            bytes = [0x0c]
            bytes.append(littleEndian: value)
        }
        return bytes
    }

    /// PkgLength and contents (§20.2.4). The length counts its own bytes.
    static func sized(_ contents: [UInt8]) -> [UInt8] {
        if contents.count + 1 < 0x40 { return [UInt8(contents.count + 1)] + contents }
        // Two bytes reach 4095, three 1 MiB: far more than the tables' whole room.
        let short = contents.count + 2 < 0x1000
        let length = contents.count + (short ? 2 : 3)
        var bytes = [UInt8(length & 0xf) | (short ? 0x40 : 0x80)]
        bytes.append(UInt8(truncatingIfNeeded: length >> 4))
        if !short { bytes.append(UInt8(truncatingIfNeeded: length >> 12)) }
        return bytes + contents
    }

    /// `Name (name, value)`.
    static func define(_ name: String, _ value: [UInt8]) -> [UInt8] {
        [0x08] + self.name(name) + value
    }

    /// `Scope (name) { terms }`.
    static func scope(_ name: String, _ terms: [UInt8]) -> [UInt8] {
        [0x10] + sized(self.name(name) + terms)
    }

    /// `Device (name) { terms }`.
    static func device(_ name: String, _ terms: [UInt8]) -> [UInt8] {
        [0x5b, 0x82] + sized(self.name(name) + terms)
    }

    /// `Package () { elements }`; at most 255 elements.
    static func package(_ elements: [[UInt8]]) -> [UInt8] {
        [0x12] + sized([UInt8(truncatingIfNeeded: elements.count)] + elements.flatMap { $0 })
    }

    /// `EisaId ("PNP0501")` (§19.3.4): three letters of 5 bits, then four hexadecimal digits,
    /// most significant byte first.
    static func eisaID(letters: String, product: UInt16) -> [UInt8] {
        var code: UInt32 = 0
        for letter in letters.utf8 { code = code << 5 | UInt32(letter & 0x1f) }
        return [0x0c]
            + [
                UInt8(truncatingIfNeeded: code >> 8), UInt8(truncatingIfNeeded: code),
                UInt8(product >> 8), UInt8(product & 0xff),
            ]
    }

    /// `ResourceTemplate () { IO (Decode16, port, port, 1, length) IRQNoFlags () { interrupt } }`.
    static func resources(port: UInt16, length: UInt8, interrupt: UInt8) -> [UInt8] {
        var descriptors: [UInt8] = [0x47, 0x01]  // I/O port descriptor (§6.4.2.5), 16-bit decode
        descriptors.append(littleEndian: port)
        descriptors.append(littleEndian: port)
        descriptors += [0x01, length]
        descriptors.append(0x22)  // IRQ descriptor (§6.4.2.1), two bytes: edge, active high
        descriptors.append(littleEndian: UInt16(1) << UInt16(interrupt & 15))
        descriptors += [0x79, 0x00]  // end tag (§6.4.2.9); sum 0: not checked
        return [0x11] + sized(integer(UInt32(descriptors.count)) + descriptors)
    }
}
