/// The components of XSAVE and where they lie in its area (SDM Vol. 1 §13.4).
///
/// ```
///  0     legacy region: x87 and SSE state     512   header, 64 bytes
///  576   the upper halves of YMM0…YMM15, 256 bytes
///  832   PKRU, 8 bytes
/// ```
/// In the compacted form the components that are not asked for take no room.
public enum ExtendedState {
    public static let x87: UInt64 = 1 << 0
    public static let sse: UInt64 = 1 << 1
    /// The upper halves of YMM registers.
    public static let avx: UInt64 = 1 << 2
    /// PKRU.
    public static let keyRights: UInt64 = 1 << 9
    /// The legacy region and the header, in bytes: what every area has.
    public static let leastBytes: UInt32 = 576
    /// The bytes of the upper halves, which lie behind the header in both forms.
    public static let avxBytes: UInt32 = 256
    /// Where PKRU lies in the standard form, and its bytes.
    public static let keyRightsOffset: UInt32 = 832
    public static let keyRightsBytes: UInt32 = 8

    /// Whether XCR0 may hold this: x87 state always, and AVX state with SSE state alone.
    public static func canBeEnabled(_ components: UInt64) -> Bool {
        components & x87 != 0 && (components & avx == 0 || components & sse != 0)
    }

    /// The bytes of the standard form with these components.
    public static func size(of components: UInt64) -> UInt32 {
        components & keyRights != 0
            ? keyRightsOffset + keyRightsBytes
            : leastBytes + (components & avx != 0 ? avxBytes : 0)
    }

    /// The bytes of the compacted form with these components.
    public static func compactedSize(of components: UInt64) -> UInt32 {
        leastBytes + (components & avx != 0 ? avxBytes : 0)
            + (components & keyRights != 0 ? keyRightsBytes : 0)
    }
}
