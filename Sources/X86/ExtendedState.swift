/// The components of XSAVE and where they lie in its area (SDM Vol. 1 §13.4).
///
/// ```
///  0     legacy region: x87 and SSE state     512   header, 64 bytes
///  576   free: where other processors have the upper halves of YMM registers
///  832   PKRU, 8 bytes; in the compacted form it follows the header
/// ```
public enum ExtendedState {
    public static let x87: UInt64 = 1 << 0
    public static let sse: UInt64 = 1 << 1
    /// PKRU.
    public static let keyRights: UInt64 = 1 << 9
    /// The legacy region and the header, in bytes: what every area has.
    public static let leastBytes: UInt32 = 576
    /// Where PKRU lies in the standard form, and its bytes.
    public static let keyRightsOffset: UInt32 = 832
    public static let keyRightsBytes: UInt32 = 8

    /// The bytes of the standard form with these components.
    public static func size(of components: UInt64) -> UInt32 {
        components & keyRights != 0 ? keyRightsOffset + keyRightsBytes : leastBytes
    }

    /// The bytes of the compacted form with these components.
    public static func compactedSize(of components: UInt64) -> UInt32 {
        leastBytes + (components & keyRights != 0 ? keyRightsBytes : 0)
    }
}
