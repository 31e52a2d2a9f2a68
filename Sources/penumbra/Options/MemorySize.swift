import ArgumentParser

/// A size of memory as QEMU writes it: a number of mebibytes, or a number with a unit.
///
/// `512`, `512M`, `2G`, `524288K`, `size=2G`; units are powers of 1024, in either case.
struct MemorySize: Equatable {
    var bytes: UInt64

    /// - Throws: a `ValidationError` that shows the forms there are.
    init(parsing text: String) throws {
        let value = text.hasPrefix("size=") ? text.dropFirst(5) : text[...]
        let units: [Character: UInt64] = ["k": 10, "m": 20, "g": 30, "t": 40]
        let unit = value.last.flatMap { units[Character($0.lowercased())] }
        let digits = unit == nil ? value : value.dropLast()
        let factor: UInt64 = 1 << (unit ?? 20)
        // UInt64 alone would take a sign.
        guard digits.allSatisfy(\.isASCII), digits.first?.isNumber == true,
            let number = UInt64(digits), number > 0, number <= UInt64.max / factor
        else {
            throw ValidationError("'\(text)' is no size of memory: 512 (MiB), 512M, 2G")
        }
        bytes = number * factor
    }

    /// The size for people: `512 MiB`, `64 KiB`.
    static func text(_ bytes: UInt64) -> String {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] as [(UInt64, String)] {
            if bytes >= 1 << shift && bytes & ((1 << shift) - 1) == 0 {
                return "\(bytes >> shift) \(unit)"
            }
        }
        return "\(bytes) bytes"
    }
}
