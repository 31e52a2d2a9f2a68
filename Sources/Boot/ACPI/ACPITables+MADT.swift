extension ACPITables {
    /// The interrupt controllers, revision 4 (ACPI 6.4 §5.2.12): a local APIC for each processor,
    /// one I/O APIC, and how ISA interrupts reach it.
    static func madt(processors: Int, _ platform: PlatformAddresses) -> [UInt8] {
        var body: [UInt8] = []
        body.append(littleEndian: platform.localAPIC)
        body.append(littleEndian: UInt32(1))  // PCAT_COMPAT: two 8259s are there as well
        for processor in 0..<processors {
            let id = UInt8(truncatingIfNeeded: processor)
            body += [0, 8, id, id]  // processor local APIC: UID, APIC ID
            body.append(littleEndian: UInt32(1))  // enabled
        }
        // An I/O APIC's identifier has four bits; it matters to nobody when there is only one.
        body += [1, 12, UInt8(min(processors, 15)), 0]
        body.append(littleEndian: platform.ioAPIC)
        body.append(littleEndian: UInt32(0))  // its first global interrupt
        // The 8254 is wired to input 2, as on every PC. Edge, active high.
        body += interruptOverride(source: 0, global: 2, flags: 0b01_01)
        // Level, active high.
        body += interruptOverride(
            source: platform.sciInterrupt, global: UInt32(platform.sciInterrupt), flags: 0b11_01)
        body += [4, 6, 0xff, 0, 0, 1]  // local APIC NMI: all processors, by the bus, LINT1
        return table("APIC", revision: 4, body)
    }

    /// An interrupt source override (§5.2.12.5). Flags: bits 1…0 polarity (1 high, 3 low),
    /// bits 3…2 trigger mode (1 edge, 3 level).
    private static func interruptOverride(
        source: UInt8, global: UInt32, flags: UInt16
    ) -> [UInt8] {
        var entry: [UInt8] = [2, 10, 0, source]
        entry.append(littleEndian: global)
        entry.append(littleEndian: flags)
        return entry
    }
}
