/// One entry of the redirection table (82093AA data sheet §3.2.4, "IOREDTBL").
///
/// ```
/// 63      56        16   15   14   13   12   11   10…8   7…0
/// destination  …  mask  level IRR  low  busy logical mode vector
/// ```
struct RedirectionEntry: Hashable {
    var rawValue: UInt64 = 1 << 16  // INTR_MASK after reset

    /// The bits that software can write: all but DELIVS (12) and Remote IRR (14).
    static let writable: UInt64 = 0xff00_0000_0001_afff
    /// Remote IRR.
    static let remoteIRR: UInt64 = 1 << 14

    var vector: UInt8 { UInt8(truncatingIfNeeded: rawValue) }
    var mode: DeliveryMode { DeliveryMode(bits: UInt32(truncatingIfNeeded: rawValue >> 8 & 7)) }
    var isLogical: Bool { rawValue >> 11 & 1 != 0 }
    var isLevel: Bool { rawValue >> 15 & 1 != 0 }
    var isMasked: Bool { rawValue >> 16 & 1 != 0 }
    var destination: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 56) }

    /// Remote IRR: a local APIC has the level interrupt and has not ended it.
    var remoteIRR: Bool {
        get { rawValue >> 14 & 1 != 0 }
        set { rawValue = rawValue & ~(1 << 14) | (newValue ? 1 << 14 : 0) }
    }

    /// Writes what software may; an entry that becomes edge-triggered has no Remote IRR.
    mutating func write(_ value: UInt64) {
        rawValue = rawValue & ~Self.writable | value & Self.writable
        if !isLevel { remoteIRR = false }
    }

    var message: InterruptMessage {
        InterruptMessage(
            destination: isLogical
                ? .logical(destination, wide: false) : .physical(destination, wide: false),
            mode: mode, vector: vector, isLevel: isLevel)
    }
}
