import ArgumentParser

/// A value of `-device`: a device to add to the machine.
enum DeviceOption: Equatable {
    /// `isa-debug-exit[,iobase=PORT][,iosize=BYTES]`: the first port (QEMU's default is 0x501) and
    /// how many it takes, 1…4 (QEMU's default is 2).
    case debugExit(port: UInt16, size: UInt16)
    /// `isa-debugcon[,iobase=PORT]`: its port (QEMU's default is 0xe9).
    case debugConsole(port: UInt16)
    /// `pc-testdev`.
    case test

    /// - Throws: a `ValidationError` that names what is wrong.
    init(parsing text: String) throws {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        switch parts.first {
        case "isa-debug-exit": self = try Self.debugExit(parts.dropFirst())
        case "isa-debugcon": self = try Self.debugConsole(parts.dropFirst())
        case "pc-testdev":
            if let property = parts.dropFirst().first {
                throw ValidationError("pc-testdev has no property '\(property)'")
            }
            self = .test
        default:
            throw ValidationError(
                "there is no device '\(parts.first ?? "")' to add: "
                    + "only isa-debug-exit, isa-debugcon and pc-testdev are")
        }
    }

    private static func debugExit(_ properties: ArraySlice<Substring>) throws -> DeviceOption {
        var port: UInt16 = 0x501
        var size: UInt16 = 2
        for property in properties {
            let pair = property.split(separator: "=", maxSplits: 1)
            switch (pair.first, pair.count == 2 ? number(pair[1]) : nil) {
            case ("iobase", let value?): port = value
            case ("iosize", let value?) where 1...4 ~= value: size = value
            default:
                throw ValidationError(
                    "isa-debug-exit takes iobase=PORT and iosize=1…4, not '\(property)'")
            }
        }
        return .debugExit(port: port, size: size)
    }

    private static func debugConsole(_ properties: ArraySlice<Substring>) throws -> DeviceOption {
        var port: UInt16 = 0xe9
        for property in properties {
            let pair = property.split(separator: "=", maxSplits: 1)
            switch (pair.first, pair.count == 2 ? number(pair[1]) : nil) {
            case ("iobase", let value?): port = value
            default: throw ValidationError("isa-debugcon takes iobase=PORT, not '\(property)'")
            }
        }
        return .debugConsole(port: port)
    }

    /// A decimal or 0x-hexadecimal 16-bit number.
    private static func number(_ text: Substring) -> UInt16? {
        text.hasPrefix("0x") || text.hasPrefix("0X")
            ? UInt16(text.dropFirst(2), radix: 16) : UInt16(text)
    }
}
