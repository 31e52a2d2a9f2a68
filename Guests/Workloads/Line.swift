/// A line of text that is put together and then written at once. What is too long is cut.
struct Line {
    private var bytes = InlineArray<120, UInt8>(repeating: 0)
    private var count = 0

    mutating func append(byte: UInt8) {
        guard count < bytes.count - 1 else { return }
        bytes[count] = byte
        count += 1
    }

    mutating func append(_ text: StaticString) {
        for index in 0..<text.utf8CodeUnitCount {
            append(byte: unsafe text.utf8Start[index])
        }
    }

    mutating func append(_ text: Argument) {
        var index = 0
        while text[index] != 0 {
            append(byte: text[index])
            index += 1
        }
    }

    mutating func append(decimal number: UInt) {
        if number >= 10 { append(decimal: number / 10) }
        append(byte: 0x30 + UInt8(truncatingIfNeeded: number % 10))
    }

    /// Sixteen digits.
    mutating func append(hexadecimal number: UInt64) {
        for shift in stride(from: 60, through: 0, by: -4) {
            let digit = UInt8(truncatingIfNeeded: number >> UInt64(shift) & 15)
            append(byte: digit < 10 ? 0x30 + digit : 0x57 + digit)
        }
    }

    /// Writes the line and a line feed.
    mutating func write(to descriptor: Int) {
        bytes[count] = 0x0a
        let size = count + 1
        unsafe withUnsafePointer(to: &bytes) {
            _ = System.attempt(.write, descriptor, Int(bitPattern: $0), size)
        }
    }
}
