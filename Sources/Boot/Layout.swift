import X86

/// Every guest-physical address that the loader uses, and the limits between them.
///
/// ```
///          0 ┌───────────────────────────────┐
///            │ interrupt vectors, BIOS data  │ 0x400: the few words that kernels read
///     0x1000 ├───────────────────────────────┤
///            │ boot GDT                      │ 6 descriptors
///     0x2000 ├───────────────────────────────┤
///            │ zero page (Linux boot_params) │ 4 KiB
///     0x3000 ├───────────────────────────────┤
///            │ Linux setup_data              │ 4 KiB
///     0x4000 ├───────────────────────────────┤
///            │ boot page tables              │ 6 tables: identity, 4 GiB in 2 MiB pages
///     0xa000 ├───────────────────────────────┤
///            │ (free)                        │
///    0x10000 ├───────────────────────────────┤
///            │ Multiboot or PVH start info   │ 64 KiB: structure, memory map, modules, strings
///    0x20000 ├───────────────────────────────┤
///            │ kernel command line           │ 64 KiB
///    0x30000 ├───────────────────────────────┤
///            │ (free)                        │
///    0x9fc00 ├───────────────────────────────┤
///            │ extended BIOS data area       │ 1 KiB, reserved
///    0xa0000 ├───────────────────────────────┤
///            │ legacy hole                   │ video memory and option ROMs: nothing there
///    0xe0000 ├───────────────────────────────┤
///            │ ACPI tables, RSDP first       │ 128 KiB, reserved
///   0x100000 ├───────────────────────────────┤
///            │ kernel; Multiboot modules     │ modules follow the kernel
///            │ ...                           │
///            │ initrd                        │ as high as the kernel and low RAM allow
///  0xc0000000├───────────────────────────────┤ low RAM ends here at the latest (3 GiB)
///            │ devices                       │ I/O APIC 0xfec00000, local APIC 0xfee00000
/// 0x100000000├───────────────────────────────┤
///            │ high RAM                      │ what exceeds 3 GiB
///            └───────────────────────────────┘
/// ```
public enum Layout {
    /// The BIOS data area, whose serial port, EBDA segment and memory size words kernels read.
    public static let biosDataArea: UInt64 = 0x400
    /// The global descriptor table that the guest starts with.
    public static let bootGDT: UInt64 = 0x1000
    /// Linux's `boot_params`, 4096 bytes.
    public static let zeroPage: UInt64 = 0x2000
    /// The list of Linux `setup_data`; at most 4096 bytes.
    public static let setupData: UInt64 = 0x3000
    /// The root of the boot page tables; five more tables follow it.
    public static let bootPageTables: UInt64 = 0x4000
    /// What the boot page tables map, in bytes from 0: 4 GiB.
    public static let bootMappedBytes: UInt64 = 0x1_0000_0000
    /// The Multiboot information or the PVH start information.
    public static let startInfo: UInt64 = 0x1_0000
    /// The room at `startInfo`, in bytes.
    public static let startInfoBytes: UInt64 = 0x1_0000
    /// The kernel's command line, ended by a NUL.
    public static let commandLine: UInt64 = 0x2_0000
    /// The room at `commandLine`, in bytes, NUL included.
    public static let commandLineBytes: UInt64 = 0x1_0000
    /// The end of what the loader keeps at the bottom of memory.
    public static let bootDataEnd: UInt64 = 0x3_0000
    /// The extended BIOS data area; RAM of the first megabyte ends below it.
    public static let extendedBIOSData: UInt64 = 0x9_fc00
    /// Where the legacy hole starts; it lasts to `extendedMemory`.
    public static let legacyHole: UInt64 = 0xa_0000
    /// The RSDP and the other ACPI tables, inside the legacy hole where kernels search for them.
    public static let acpiTables: UInt64 = 0xe_0000
    /// The room at `acpiTables`, in bytes.
    public static let acpiBytes: UInt64 = 0x2_0000
    /// Where memory above the first megabyte starts.
    public static let extendedMemory: UInt64 = 0x10_0000
    /// Where RAM below the devices ends at most: 3 GiB.
    public static let lowLimit: UInt64 = 0xc000_0000
    /// Where RAM above the devices starts: 4 GiB.
    public static let highStart: UInt64 = 0x1_0000_0000
    /// The least memory, in bytes, that a machine is loaded with.
    public static let leastMemory: UInt64 = 0x20_0000

    /// The largest kernel file that is read, in bytes: 1 GiB (debug symbols make files large).
    public static let kernelFileLimit: UInt64 = 1 << 30
    /// The most virtual processors that the tables describe.
    public static let mostProcessors = 255

    /// The end of RAM below the devices for a machine of `memoryBytes`, in bytes.
    public static func lowTop(memoryBytes: UInt64) -> UInt64 {
        min(memoryBytes & ~(pageSize - 1), lowLimit)
    }
}
