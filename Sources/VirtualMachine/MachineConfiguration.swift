import Devices
import Hypervisor
import Processor

/// Everything that decides what a machine is and does.
public struct MachineConfiguration: Sendable {
    /// The kernel's file name. Nil: there is none, as a machine that is restored needs none; it ends
    /// where the guest resets it.
    public var kernel: String?
    /// Whether that file is a PC's firmware, which starts as a processor does after a reset.
    public var isFirmware = false
    /// The initial RAM disk's file name, or the Multiboot modules ("FILE args,FILE …").
    public var initrd: String?
    /// The kernel's command line.
    public var commandLine = ""
    /// Guest RAM in bytes, a multiple of 4 KiB.
    public var memoryBytes: UInt64 = 512 << 20
    /// How many virtual processors, 1…`mostProcessors`.
    public var processors = 1
    /// How many instructions a processor executes before it is the next one's turn, at least 1.
    /// Without meaning where there is one processor.
    public var quantum: UInt64 = 10_000
    /// A seed from which the lengths of turns follow, 1…`quantum`, to meet other interleavings of
    /// the processors; nil: each turn has `quantum` instructions.
    public var interleaving: UInt64?
    /// A processor model and changes to it: "penumbra-v2,+rdrand".
    public var processorModel = "penumbra-v2"
    /// Which processor it is where the architecture leaves a choice.
    public var hardware = Hardware()
    /// What executes guest code; nil: the standard engine, where the host has what it needs.
    public var engine: Engine?
    /// How memory is virtualized.
    public var technique = Technique.traced(.standard)
    /// What time is in the guest.
    public var clock = ClockKind.virtual
    /// The I/O port of a debug-exit device; nil: there is none.
    public var debugExitPort: UInt16?
    /// How many ports the debug-exit device takes, 1…4.
    public var debugExitSize: UInt16 = 4
    /// The I/O port whose bytes are printed on the console too; nil: there is none.
    public var debugConsolePort: UInt16?
    /// A text at which the run ends, right after the instruction that has printed its last byte;
    /// nil, or empty: none.
    public var lastText: String?
    /// Whether QEMU's `pc-testdev` is there, which some test kernels use.
    public var hasTestDevice = false
    /// Whether a reset starts the guest anew rather than ending the run.
    public var rebootAllowed = true
    /// What everything random in the machine follows from.
    public var seed: UInt64 = 0
    /// The ceiling on shadow pages, in bytes.
    public var shadowMemoryBytes: UInt64 = 64 << 20
    /// The instructions between two points of the run's series; nil: there is none.
    public var sampleInterval: UInt64?
    /// Whether the ledger's breakdown tells which guest code and which processes exits come from.
    public var countsPlaces = false
    /// What the lawfulness oracle judges.
    public var verification = VerificationMode.off
    /// The date at which the machine's clock starts, in seconds since 1970: 2026-01-01.
    public var startTime: UInt64 = 1_767_225_600

    /// The most virtual processors that a machine can have.
    public static let mostProcessors = PlatformMap.maximumProcessors

    public init(kernel: String) { self.kernel = kernel }
}

/// What of a run the lawfulness oracle judges.
public enum VerificationMode: Sendable {
    case off
    /// Each translation that a processor takes from a table, and each page fault.
    case walks
    /// Each use of a cached translation too. Some ten times slower.
    case uses
}

/// What the guest's clocks follow.
public enum ClockKind: String, Sendable, CaseIterable {
    /// The retired instructions: a run is the same every time.
    case virtual
    /// The host's monotonic clock.
    case host
}
