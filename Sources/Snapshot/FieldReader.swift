/// Reads back what `FieldWriter` wrote. The bytes come from a file, which may hold anything: every
/// read is checked against their end, and every value against what the component can hold.
package struct FieldReader {
    private let bytes: [UInt8]
    private var position = 0

    package init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// An integer within `range`; any value where none is given.
    /// - Parameter name: what it is, for the error.
    package mutating func get<T: FixedWidthInteger>(
        _ name: StaticString, _ type: T.Type = T.self, in range: ClosedRange<T> = T.min...T.max
    ) throws(FieldError) -> T {
        let width = T.bitWidth / 8
        guard bytes.count - position >= width else { throw .tooShort(name) }
        var value: T = 0
        for index in (0..<width).reversed() {
            value = value << 8 | T(truncatingIfNeeded: bytes[position + index])
        }
        position += width
        guard range.contains(value) else { throw .badValue(name) }
        return value
    }

    /// An integer that has no bits but those of `mask`.
    package mutating func get<T: FixedWidthInteger>(
        _ name: StaticString, _ type: T.Type = T.self, mask: T
    ) throws(FieldError) -> T {
        let value: T = try get(name)
        guard value & ~mask == 0 else { throw .badValue(name) }
        return value
    }

    /// A flag.
    package mutating func flag(_ name: StaticString) throws(FieldError) -> Bool {
        try get(name, UInt8.self, in: 0...1) == 1
    }

    /// An integer within `range` that may not be there.
    package mutating func optional<T: FixedWidthInteger>(
        _ name: StaticString, _ type: T.Type = T.self, in range: ClosedRange<T> = T.min...T.max
    ) throws(FieldError) -> T? {
        let isThere = try flag(name)
        let value: T = try get(name)
        guard isThere ? range.contains(value) : value == 0 else { throw .badValue(name) }
        return isThere ? value : nil
    }

    /// At most `limit` bytes.
    package mutating func list(
        _ name: StaticString, atMost limit: Int
    ) throws(FieldError) -> [UInt8] {
        let count = Int(try get(name, UInt32.self))
        guard count <= limit else { throw .badValue(name) }
        guard bytes.count - position >= count else { throw .tooShort(name) }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    /// Text of at most `limit` bytes in UTF-8.
    package mutating func text(
        _ name: StaticString, atMost limit: Int
    ) throws(FieldError) -> String {
        guard let text = String(validating: try list(name, atMost: limit), as: UTF8.self) else {
            throw .badValue(name)
        }
        return text
    }

    /// Throws unless everything has been read.
    package func finish() throws(FieldError) {
        guard position == bytes.count else { throw .tooLong(bytes.count - position) }
    }
}

/// Why bytes are not the state of a component.
package enum FieldError: Error, Equatable, CustomStringConvertible {
    /// They end before this field does.
    case tooShort(StaticString)
    /// So many bytes follow the last field.
    case tooLong(Int)
    /// The field holds what no machine has.
    case badValue(StaticString)

    package var description: String {
        switch self {
        case .tooShort(let name): "it ends before \(name)"
        case .tooLong(let count): "\(count) bytes follow its last field"
        case .badValue(let name): "no machine has its value of \(name)"
        }
    }

    package static func == (a: FieldError, b: FieldError) -> Bool {
        switch (a, b) {
        case (.tooShort(let a), .tooShort(let b)), (.badValue(let a), .badValue(let b)):
            a.description == b.description
        case (.tooLong(let a), .tooLong(let b)): a == b
        default: false
        }
    }
}
