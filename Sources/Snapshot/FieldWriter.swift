/// The state of one component, field by field, on its way into a saved machine.
///
/// Each component writes its fields in a fixed order with explicit widths, in a file beside its own,
/// and reads them back in the same order with `FieldReader`. There are no names and no types in
/// the bytes: the order is the format, which the version of the file covers.
///
/// ```
///  integer     its bytes, little-endian
///  flag        one byte: 0 or 1
///  optional    a flag, then the integer; 0 where there is none
///  bytes       their number (4 bytes), then they
/// ```
package struct FieldWriter {
    /// What has been written.
    package private(set) var bytes: [UInt8] = []

    package init() {}

    /// An integer.
    package mutating func put<T: FixedWidthInteger>(_ value: T) {
        for shift in stride(from: 0, to: T.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> T(truncatingIfNeeded: shift)))
        }
    }

    /// A flag.
    package mutating func put(_ flag: Bool) { bytes.append(flag ? 1 : 0) }

    /// An integer that may not be there.
    package mutating func put<T: FixedWidthInteger>(optional value: T?) {
        put(value != nil)
        put(value ?? 0)
    }

    /// Bytes of any number below 2^32.
    package mutating func put(_ list: [UInt8]) {
        put(UInt32(truncatingIfNeeded: list.count))
        bytes += list
    }

    /// Text, as its UTF-8 bytes.
    package mutating func put(_ text: String) { put(Array(text.utf8)) }
}
