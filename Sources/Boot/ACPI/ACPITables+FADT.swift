extension ACPITables {
    /// Bits of the FADT's flags (ACPI 6.4 Table 5.10).
    private enum Flag {
        /// WBINVD works.
        static let writeBack: UInt32 = 1 << 0
        /// PROC_C1: HLT works on every processor.
        static let halt: UInt32 = 1 << 2
        /// PWR_BUTTON, SLP_BUTTON: neither button is a fixed feature (there is none at all).
        static let noButtons: UInt32 = 1 << 4 | 1 << 5
        /// FIX_RTC: the clock's alarm is not in the fixed event registers.
        static let noFixedAlarm: UInt32 = 1 << 6
        /// RESET_REG_SUP.
        static let reset: UInt32 = 1 << 10
        /// HEADLESS: no display and no keyboard.
        static let headless: UInt32 = 1 << 12
    }

    /// IAPC_BOOT_ARCH (ACPI 6.4 Table 5.11): LEGACY_DEVICES, VGA not present. The bit for an 8042
    /// is clear, and so is the one that would deny the CMOS clock.
    private static let bootArchitecture: UInt16 = 1 << 0 | 1 << 2

    /// The fixed description table, revision 5.1, 268 bytes (ACPI 5.1 §5.2.9). There is no SMI
    /// command port: the machine is in ACPI mode from the start.
    static func fadt(_ platform: PlatformAddresses, facs: UInt32, dsdt: UInt32) -> [UInt8] {
        var body = [UInt8](repeating: 0, count: 268 - 36)
        // Offsets are those of the specification, from the table's start.
        func put<T: FixedWidthInteger>(_ value: T, _ offset: Int) {
            body.put(value, at: offset - 36)
        }
        /// A generic address structure in I/O space (§5.2.3.2).
        func putPort(_ port: UInt16, bytes: UInt8, _ offset: Int) {
            put(UInt8(1), offset)  // system I/O
            put(bytes * 8, offset + 1)
            put(bytes == 4 ? UInt8(3) : bytes, offset + 3)  // access size: 1, 2, 3 = 1, 2, 4 bytes
            put(UInt64(port), offset + 4)
        }
        put(facs, 36)  // FIRMWARE_CTRL; X_FIRMWARE_CTRL stays 0, as it must beside it
        put(dsdt, 40)
        put(UInt16(platform.sciInterrupt), 46)
        put(UInt32(platform.pm1aEvent), 56)
        put(UInt32(platform.pm1aControl), 64)
        put(UInt32(platform.pmTimer), 76)
        put(UInt8(4), 88)  // PM1_EVT_LEN
        put(UInt8(2), 89)  // PM1_CNT_LEN
        put(UInt8(4), 91)  // PM_TMR_LEN
        put(UInt16(0xfff), 96)  // P_LVL2_LAT above 100: no C2
        put(UInt16(0xfff), 98)  // P_LVL3_LAT above 1000: no C3
        put(platform.clockCentury, 108)
        put(bootArchitecture, 109)
        put(
            Flag.writeBack | Flag.halt | Flag.noButtons | Flag.noFixedAlarm | Flag.reset
                | Flag.headless,
            112)
        putPort(platform.resetPort, bytes: 1, 116)
        put(platform.resetValue, 128)
        put(UInt8(1), 131)  // minor version
        put(UInt64(dsdt), 140)
        putPort(platform.pm1aEvent, bytes: 4, 148)
        // The event block is two 16-bit registers, accessed as such.
        put(UInt8(2), 151)
        putPort(platform.pm1aControl, bytes: 2, 172)
        putPort(platform.pmTimer, bytes: 4, 208)
        return table("FACP", revision: 5, body)
    }
}
