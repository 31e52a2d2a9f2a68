import X86

/// Where everything is: every I/O port, interrupt number and device address of the machine.
///
/// The ACPI tables describe the same numbers to the guest.
public enum PlatformMap {
    /// The most processors that the interrupt fabric can address: one x2APIC logical cluster.
    public static let maximumProcessors = 16

    /// I/O port numbers, each the first of its chip's range.
    public enum Port {
        /// The master 8259: command, then data.
        public static let primaryPIC: UInt16 = 0x20
        /// The 8254: three counters, then the control word.
        public static let timer: UInt16 = 0x40
        /// The keyboard controller's data port; nothing but its reset command is there.
        public static let keyboardData: UInt16 = 0x60
        /// System control port B: gate and output of counter 2.
        public static let systemControlB: UInt16 = 0x61
        /// The keyboard controller's status and command port.
        public static let keyboardCommand: UInt16 = 0x64
        /// The clock's index, then its data.
        public static let clock: UInt16 = 0x70
        /// System control port A: A20 and fast reset.
        public static let systemControlA: UInt16 = 0x92
        /// The slave 8259: command, then data.
        public static let secondaryPIC: UInt16 = 0xa0
        /// Clears the interrupt of an x87 exception; the port after it does so too.
        public static let coprocessorError: UInt16 = 0xf0
        /// The first serial port: eight registers.
        public static let com1: UInt16 = 0x3f8
        /// The trigger modes of IRQ 0…7, then of IRQ 8…15.
        public static let triggerModes: UInt16 = 0x4d0
        /// `fw_cfg`: the 16-bit selector, whose second port is the data.
        public static let firmwareConfiguration: UInt16 = 0x510
        /// PM1a_EVT_BLK: 4 bytes.
        public static let pm1aEvent: UInt16 = 0x600
        /// PM1a_CNT_BLK: 2 bytes.
        public static let pm1aControl: UInt16 = 0x604
        /// PM_TMR_BLK: 4 bytes.
        public static let pmTimer: UInt16 = 0x608
        /// PCI's configuration address, where no bridge answers; its second byte is reset control.
        public static let pciConfigurationAddress: UInt16 = 0xcf8
        /// The reset control register: bit 2 going from 0 to 1 resets the machine.
        public static let resetControl: UInt16 = 0xcf9
    }

    /// ISA interrupt numbers (also I/O APIC pins, but for the timer's).
    public enum Interrupt {
        /// Counter 0 of the 8254; at the I/O APIC it is `timerPin`.
        public static let timer = 0
        /// The input of the master 8259 that the slave's output is wired to.
        public static let cascade = 2
        /// The first serial port.
        public static let com1 = 4
        /// The CMOS clock.
        public static let clock = 8
        /// The system control interrupt of ACPI: level, active high.
        public static let systemControl = 9
        /// An x87 exception, where CR0.NE is clear.
        public static let coprocessor = 13
        /// The I/O APIC pin of the timer, as the MADT's interrupt source override says.
        public static let timerPin = 2
    }

    /// Guest-physical addresses of the chips that answer in memory; each takes one 4 KiB page.
    public enum Memory {
        /// The I/O APIC's registers.
        public static let ioAPIC = GuestPhysicalAddress(0xfec0_0000)
        /// Where a local APIC is until its processor moves it by IA32_APIC_BASE.
        public static let localAPIC = GuestPhysicalAddress(0xfee0_0000)
    }

    /// SLP_TYP of soft-off, as the DSDT's `\_S5` names it. No other sleep state exists.
    public static let softOffSleepType: UInt8 = 5
}
