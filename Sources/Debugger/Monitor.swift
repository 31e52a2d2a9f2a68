import Processor
import VirtualMachine
import X86

/// The commands that a user gives as `monitor …`: texts about the machine, of bounded length.
struct Monitor {
    let target: DebugTarget
    let processor: Int

    init(_ target: DebugTarget, processor: Int) {
        self.target = target
        self.processor = processor
    }

    static let help = """
        info registers [N]  registers of processor N (default: the selected thread's)
        info tlb [N]        what its modelled TLB holds
        info mem [N]        the linear memory that its page tables map
        info shadow         the hypervisor's shadow pages
        info trace          the guest write buffers
        xp [/COUNT[b|h|w|g]] ADDRESS
                            guest-physical memory
        help                this text

        """

    /// Lines of one listing.
    static let mostLines = 2000
    /// Records of one write buffer that are listed.
    static let mostRecords = 64

    /// What a command line prints.
    func text(_ line: String) -> String {
        let words = line.split { $0 == " " || $0 == "\t" || $0 == "\n" }
        switch words.first {
        case "help", "?", nil: return Self.help
        case "info" where words.count == 2: return info(words[1], processor)
        case "info" where words.count == 3:
            guard let number = Int(words[2]), 0..<target.processorCount ~= number else {
                return "there is no processor \(words[2].prefix(20)): 0 to "
                    + "\(target.processorCount - 1)\n"
            }
            return info(words[1], number)
        case "xp": return physicalMemory(Array(words.dropFirst()))
        default: return unknown(line)
        }
    }

    private func info(_ topic: Substring, _ number: Int) -> String {
        switch topic {
        case "registers": registers(number)
        case "tlb": cachedTranslations(number)
        case "mem": mappedMemory(number)
        case "shadow": shadowPages
        case "trace": writeBuffers
        default: unknown("info \(topic)")
        }
    }

    private func unknown(_ line: String) -> String {
        "there is no command '\(line.prefix(60))'; there are:\n" + Self.help
    }

    // MARK: Texts

    static func hex(_ value: UInt64, _ digits: Int = 16) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: max(0, digits - text.count)) + text
    }

    static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    /// The first lines, and how many more there are.
    static func bounded(_ lines: [String]) -> String {
        var text = lines.prefix(mostLines).joined(separator: "\n")
        if !lines.isEmpty { text += "\n" }
        if lines.count > mostLines { text += "… and \(lines.count - mostLines) more\n" }
        return text
    }

    // MARK: xp

    private func physicalMemory(_ words: [Substring]) -> String {
        let usage = "xp [/COUNT[b|h|w|g]] ADDRESS, COUNT 1 to 1024\n"
        var words = words
        var count = 1
        var size = 4
        if let format = words.first, format.hasPrefix("/") {
            words.removeFirst()
            var rest = format.dropFirst()
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(digits.count).drop { $0 == "x" }
            if let unit = rest.first {
                guard let bytes = ["b": 1, "h": 2, "w": 4, "g": 8][unit], rest.count == 1 else {
                    return usage
                }
                size = bytes
            }
            guard let number = digits.isEmpty ? 1 : Int(digits), 1...1024 ~= number else {
                return usage
            }
            count = number
        }
        guard words.count == 1, let address = Self.address(words[0]) else { return usage }
        let bytes = target.readPhysical(address, count: count * size)
        var lines: [String] = []
        for start in stride(from: 0, to: bytes.count / size * size, by: 16) {
            var line = Self.hex(address &+ UInt64(start)) + ":"
            for place in stride(
                from: start, to: min(start + 16, bytes.count / size * size), by: size)
            {
                let value = RegisterLayout.value(bytes[place..<place + size])
                line += " 0x" + Self.hex(UInt64(truncatingIfNeeded: value), size * 2)
            }
            lines.append(line)
        }
        if bytes.count < count * size {
            lines.append("no memory at \(Self.hex(address &+ UInt64(bytes.count)))")
        }
        return Self.bounded(lines)
    }

    /// A decimal or 0x-hexadecimal number.
    private static func address(_ text: Substring) -> UInt64? {
        text.hasPrefix("0x") || text.hasPrefix("0X")
            ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
    }
}
