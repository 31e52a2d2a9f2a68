/// The ACPI tables: what the guest learns of the machine.
///
/// ```
/// RSDP ─┬─> XSDT ─┬─> FADT ─┬─> DSDT
///       └─> RSDT ─┤         └─> FACS
///                 └─> MADT
/// ```
/// The RSDP lies at `Layout.acpiTables`, the others behind it. Both root tables are there: some
/// small kernels know only the older one.
/// - Source: ACPI 6.4 §5.2.
package struct ACPITables {
    /// All tables, to be placed at `Layout.acpiTables`.
    package private(set) var bytes: [UInt8]

    /// - Parameter processors: 1…255.
    package init(processors: Int, platform: PlatformAddresses) {
        bytes = [UInt8](repeating: 0, count: 64)  // the RSDP's place
        let facs = Self.append(ACPITables.facs(), to: &bytes)
        let dsdt = Self.append(ACPITables.dsdt(platform), to: &bytes)
        let fadt = Self.append(
            ACPITables.fadt(platform, facs: facs, dsdt: dsdt), to: &bytes)
        let madt = Self.append(
            ACPITables.madt(processors: processors, platform), to: &bytes)

        var rsdtBody: [UInt8] = []
        var xsdtBody: [UInt8] = []
        for table in [fadt, madt] {
            rsdtBody.append(littleEndian: table)
            xsdtBody.append(littleEndian: UInt64(table))
        }
        let rsdt = Self.append(Self.table("RSDT", revision: 1, rsdtBody), to: &bytes)
        let xsdt = Self.append(Self.table("XSDT", revision: 1, xsdtBody), to: &bytes)
        bytes.replaceSubrange(0..<36, with: Self.rsdp(rsdt: rsdt, xsdt: xsdt))
    }

    /// Appends a table at the next multiple of 64 bytes, which the FACS needs.
    /// - Returns: its guest-physical address.
    private static func append(_ table: [UInt8], to bytes: inout [UInt8]) -> UInt32 {
        bytes.pad(to: 64)
        let address = UInt32(Layout.acpiTables) &+ UInt32(truncatingIfNeeded: bytes.count)
        bytes += table
        return address
    }

    private static let oem = Array("PENUMB".utf8)

    /// A table: the 36-byte header of §5.2.6 before `body`, with the checksum that makes all bytes
    /// sum to 0.
    static func table(_ signature: String, revision: UInt8, _ body: [UInt8]) -> [UInt8] {
        var table = Array(signature.utf8)
        table.append(littleEndian: UInt32(truncatingIfNeeded: 36 + body.count))
        table += [revision, 0]
        table += oem + Array("PENUMBRA".utf8)
        table.append(littleEndian: UInt32(1))  // OEM revision
        table += Array("PNMB".utf8)  // who made the table
        table.append(littleEndian: UInt32(1))  // and its revision
        table += body
        table[9] = checksum(table[...])
        return table
    }

    /// The byte that makes a sum of bytes zero modulo 256.
    private static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt8 {
        0 &- bytes.reduce(0, &+)
    }

    /// The root pointer, revision 2, 36 bytes (§5.2.5.3).
    private static func rsdp(rsdt: UInt32, xsdt: UInt32) -> [UInt8] {
        var pointer = Array("RSD PTR ".utf8) + [0] + oem + [2]
        pointer.append(littleEndian: rsdt)
        pointer.append(littleEndian: UInt32(36))
        pointer.append(littleEndian: UInt64(xsdt))
        pointer += [0, 0, 0, 0]
        pointer[8] = checksum(pointer[..<20])
        pointer[32] = checksum(pointer[...])
        return pointer
    }

    /// The firmware control structure, 64 bytes without a checksum (§5.2.10). The machine never
    /// sleeps, so that only its presence matters.
    private static func facs() -> [UInt8] {
        var structure = Array("FACS".utf8)
        structure.append(littleEndian: UInt32(64))
        structure += [UInt8](repeating: 0, count: 56)
        structure[32] = 2  // version
        return structure
    }

    /// The definition block: the sleep state of power-off, the serial port and the clock.
    private static func dsdt(_ platform: PlatformAddresses) -> [UInt8] {
        let type = AML.integer(UInt32(platform.powerOffType & 7))
        let none = AML.integer(0)
        let serial = AML.device(
            "COM1",
            AML.define("_HID", AML.eisaID(letters: "PNP", product: 0x0501))
                + AML.define("_UID", AML.integer(1))
                + AML.define(
                    "_CRS",
                    AML.resources(
                        port: platform.serialPort, length: 8,
                        interrupt: platform.serialInterrupt)))
        let clock = AML.device(
            "RTC",
            AML.define("_HID", AML.eisaID(letters: "PNP", product: 0x0b00))
                + AML.define(
                    "_CRS",
                    AML.resources(
                        port: platform.clockPort, length: 2,
                        interrupt: platform.clockInterrupt)))
        let body =
            AML.define("\\_S5", AML.package([type, type, none, none]))
            + AML.scope("\\_SB", serial + clock)
        // Revision 2: integers have 64 bits.
        return table("DSDT", revision: 2, body)
    }
}
