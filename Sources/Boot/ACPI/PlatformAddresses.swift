/// Where the board's chips answer, as far as the ACPI tables name them.
///
/// The defaults are the default board's. The PM timer is taken to have 24 bits.
public struct PlatformAddresses: Sendable, Equatable {
    /// The port of the PM1a event block, 4 bytes.
    public var pm1aEvent: UInt16 = 0x600
    /// The port of the PM1a control block, 2 bytes.
    public var pm1aControl: UInt16 = 0x604
    /// The port of the PM timer, 4 bytes.
    public var pmTimer: UInt16 = 0x608
    /// The ISA interrupt of ACPI events, level-triggered and active high.
    public var sciInterrupt: UInt8 = 9
    /// The port of the reset register.
    public var resetPort: UInt16 = 0xcf9
    /// What is written there for a reset.
    public var resetValue: UInt8 = 6
    /// The SLP_TYP of power-off (the S5 state), 0…7.
    public var powerOffType: UInt8 = 5
    /// The guest-physical address of each local APIC.
    public var localAPIC: UInt32 = 0xfee0_0000
    /// The guest-physical address of the I/O APIC.
    public var ioAPIC: UInt32 = 0xfec0_0000
    /// The port of the first UART, 8 bytes.
    public var serialPort: UInt16 = 0x3f8
    /// Its ISA interrupt.
    public var serialInterrupt: UInt8 = 4
    /// The port of the CMOS clock, 2 bytes.
    public var clockPort: UInt16 = 0x70
    /// Its ISA interrupt.
    public var clockInterrupt: UInt8 = 8
    /// The CMOS register that holds the century; 0: none.
    public var clockCentury: UInt8 = 0x32

    /// The default board's addresses.
    public init() {}
}
