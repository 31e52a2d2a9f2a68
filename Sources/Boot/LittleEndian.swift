/// Building structures as bytes. All structures of this module are little-endian.
extension [UInt8] {
    /// Appends an integer.
    package mutating func append<T: FixedWidthInteger>(littleEndian value: T) {
        for shift in stride(from: 0, to: T.bitWidth, by: 8) {
            append(UInt8(truncatingIfNeeded: value >> T(shift)))
        }
    }

    /// Replaces the bytes at `offset` by an integer; the structure must be that long.
    package mutating func put<T: FixedWidthInteger>(_ value: T, at offset: Int) {
        for byte in 0..<T.bitWidth / 8 {
            self[offset + byte] = UInt8(truncatingIfNeeded: value >> T(8 * byte))
        }
    }

    /// Appends zeroes until the length is a multiple of `alignment`.
    package mutating func pad(to alignment: Int) {
        while count % alignment != 0 { append(0) }
    }
}
