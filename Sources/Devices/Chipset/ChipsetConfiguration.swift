/// What a machine's chips are made for.
public struct ChipsetConfiguration: Hashable, Sendable {
    /// Processors, 1…`PlatformMap.maximumProcessors`; each has a local APIC whose ID is its number.
    public var processors: Int
    /// The guest's memory in bytes, as firmware tells it.
    public var memoryBytes: UInt64
    /// The date at the machine's start, in seconds since 1970.
    public var startTime: UInt64
    /// The time-stamp counter's rate in Hz, which TSC deadlines are measured in.
    public var tscFrequency: UInt64
    /// The rate in Hz of the local APIC timer before its divider: the core crystal clock that
    /// CPUID leaf 0x15 reports in ECX.
    public var crystalFrequency: UInt64
    /// The width of physical addresses, 32…52: higher bits of IA32_APIC_BASE are reserved.
    public var physicalAddressBits: Int
    /// Whether the local APICs have x2APIC mode.
    public var hasX2APIC = true
    /// The first port of the debug-exit device; nil for none.
    public var debugExitPort: UInt16?
    /// How many ports that device takes, 1…4.
    public var debugExitSize: UInt16
    /// The port whose bytes are printed on the console too; nil for none.
    public var debugConsolePort: UInt16?
    /// Whether QEMU's `pc-testdev` is there.
    public var hasTestDevice = false

    /// A machine without a debug-exit device, with a 25 MHz crystal and 40-bit addresses.
    public init(
        processors: Int = 1, memoryBytes: UInt64, startTime: UInt64,
        tscFrequency: UInt64 = 1_000_000_000
    ) {
        self.processors = processors
        self.memoryBytes = memoryBytes
        self.startTime = startTime
        self.tscFrequency = tscFrequency
        crystalFrequency = 25_000_000
        physicalAddressBits = 40
        debugExitPort = nil
        debugExitSize = 2
    }
}
