import ArgumentParser

/// The value of `-device`: `isa-debug-exit[,iobase=PORT][,iosize=BYTES]`, the only device there is
/// to add.
struct DebugExitDevice: Equatable {
    /// The first port; QEMU's default is 0x501.
    var port: UInt16 = 0x501
    /// How many ports it takes, 1…4; QEMU's default is 2.
    var size: UInt16 = 2

    /// - Throws: a `ValidationError` that names what is wrong.
    init(parsing text: String) throws {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        guard parts.first == "isa-debug-exit" else {
            throw ValidationError(
                "there is no device '\(parts.first ?? "")' to add: only isa-debug-exit is")
        }
        for part in parts.dropFirst() {
            let pair = part.split(separator: "=", maxSplits: 1)
            switch (pair.first, pair.count == 2 ? Self.number(pair[1]) : nil) {
            case ("iobase", let value?): port = value
            case ("iosize", let value?) where 1...4 ~= value: size = value
            default:
                throw ValidationError(
                    "isa-debug-exit takes iobase=PORT and iosize=1…4, not '\(part)'")
            }
        }
    }

    /// A decimal or 0x-hexadecimal 16-bit number.
    private static func number(_ text: Substring) -> UInt16? {
        text.hasPrefix("0x") || text.hasPrefix("0X")
            ? UInt16(text.dropFirst(2), radix: 16) : UInt16(text)
    }
}
