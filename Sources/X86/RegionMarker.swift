/// What guest code, at any privilege level, tells by CPUID leaf 0x4000_0001: that a region of
/// interest begins or ends. What happens in between is counted apart.
///
/// The guest cannot tell whether anybody listens: the leaf returns the same (`result`), and takes
/// one instruction, either way. Documented in Docs/Regions.md.
public enum RegionMarker: Equatable, Sendable {
    /// A region begins; the number is 1…65535.
    case begin(UInt16)
    /// The region ends; the number is 1…65535.
    case end(UInt16)

    /// The leaf, in EAX. The range from 0x4000_0000 up is left to hypervisors (SDM Vol. 2A, CPUID).
    public static let leaf: UInt32 = 0x4000_0001

    /// What the leaf returns: EAX is the version of this interface, the others are zero.
    public static let result = CPUIDResult(eax: 1)

    /// The marker that a CPUID instruction is; nil where it is none.
    /// - Parameters:
    ///   - leaf: EAX.
    ///   - subleaf: ECX: the region in bits 15:0, and in bit 31 whether it ends. With region 0, or
    ///     with any other bit set, it is no marker.
    public init?(leaf: UInt32, subleaf: UInt32) {
        guard leaf == Self.leaf else { return nil }
        let region = UInt16(truncatingIfNeeded: subleaf)
        guard region != 0, subleaf & 0x7fff_0000 == 0 else { return nil }
        self = subleaf >> 31 == 0 ? .begin(region) : .end(region)
    }
}
