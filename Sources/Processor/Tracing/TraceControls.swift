import X86

/// How the hypervisor says which pages are traced.
public enum TraceIndication: String, CaseIterable, Sendable {
    /// T in the shadow leaf that maps the page.
    case entry
    /// A bitmap with one bit a machine frame (`TraceControls.frameMap`).
    case frame
}

/// What the processor notes of a traced write.
public enum TraceFormat: String, CaseIterable, Sendable {
    /// Where it was made: 8 bytes in the ring.
    case address
    /// Where, what was written, by which instruction, and in which order: 32 bytes in the ring.
    case value
    /// A bit for the quadword, in the page's mask; 8 bytes in the ring for each group of 64
    /// quadwords that had no bit set before.
    case mask

    /// The size of one record in the ring, in bytes: a power of two.
    public var recordBytes: UInt64 { self == .value ? 32 : 8 }

    /// The most records that one instruction can need: those of XSAVE's 832 bytes, with one more at
    /// each end.
    var widestInstruction: UInt64 { self == .mask ? 4 : 112 }
}

/// The registers of the traced-write facility, documented in Docs/TracedWrites.md.
///
/// ```
///  machine memory, each where its field says
///  base       the ring of this processor: capacity bytes
///  frameMap   1 bit  a frame of frames   indication .frame
///  masks      64 B   a frame of frames   format .mask
///  common     64 B   for all processors  format .value, or elides
///  roots      256 B  of this processor   elides
/// ```
public struct TraceControls: Equatable, Sendable {
    /// Whether traced writes are recorded.
    public var isEnabled = false
    /// How pages are said to be traced.
    public var indication = TraceIndication.entry
    /// What is noted of a write.
    public var format = TraceFormat.address
    /// The ring's first byte; page-aligned machine memory.
    public var base = MachineAddress(0)
    /// The ring's size in bytes: a power of two, 4 KiB…2 MiB.
    public var capacity: UInt64 = 4096
    /// How many records in the ring cause `bufferThreshold`; 0: never.
    public var threshold: UInt64 = 0
    /// With `TraceFormat.address`: a record equal to one of the last `coalesce` ones is not
    /// repeated; 0…8.
    public var coalesce = 1
    /// Free-running count of records consumed: the hypervisor's index.
    public var consumer: UInt64 = 0
    /// The machine frames that `frameMap` and `masks` describe; no other is traced by them.
    public var frames: Range<UInt64> = 0..<0
    /// Frame *f* is traced where bit (f − first) mod 8 of byte (f − first) / 8 is set.
    public var frameMap = MachineAddress(0)
    /// The mask of frame *f* is the 64 bytes at (f − first) × 64; bit *i* of them stands for the
    /// quadword *i* of the frame.
    public var masks = MachineAddress(0)
    /// What all processors share; see `TraceCommon`.
    public var common = MachineAddress(0)
    /// Whether INVLPG, INVPCID and MOV to CR3 are done without an exit while nothing is pending.
    public var elides = false
    /// The table of roots that MOV to CR3 finds its shadow in; see `TraceRoots`.
    public var roots = MachineAddress(0)

    public init() {}

    /// The number of records that the ring holds.
    public var recordCount: UInt64 { capacity / format.recordBytes }
}

/// The 64 bytes that all processors share, as offsets in them. The processors add to both by
/// locked operations, before the write is visible.
public enum TraceCommon {
    /// The number of the next value record.
    public static let sequence: UInt64 = 0
    /// Records that are written and not consumed, of all processors together. Software subtracts
    /// what it has consumed.
    public static let outstanding: UInt64 = 8
}

/// The table of one processor's known roots: 16 pairs of quadwords.
///
/// ```
///  offset 16 × n      guest root: bits 51…12 of CR3; bit 0: the pair is valid
///  offset 16 × n + 8  shadow root: the machine address of the tables to walk for it
/// ```
public enum TraceRoots {
    /// How many pairs there are.
    public static let count: UInt64 = 16
    /// The size of the table in bytes.
    public static let bytes: UInt64 = count * 16
    /// Marks a pair as valid.
    public static let valid: UInt64 = 1
}
