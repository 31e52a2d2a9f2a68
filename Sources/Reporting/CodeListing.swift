import CZydis
import Processor
import X86

/// Translated blocks as text: the guest's instructions on the left, beside each the host's that were
/// made for it.
///
/// ```
/// ffffffff81000040 supervisor start_kernel+0x10: 2 instructions, 4 bytes; 61 bytes of host code, 93 cold
///                                                 | 7f3a5c000150  mov r10, [r15+0x20]
///                                                 | …
/// ffffffff81000040  inc rax                       | 7f3a5c00017b  inc rax
/// ffffffff81000043  ret                           | 7f3a5c00017e  lea r10, [rsp]
///                                                 | …
/// cold                                            | …
/// ```
public struct CodeListing {
    private static let column = 56
    /// What leads to shared code is named after it.
    private var names: [UInt64: String] = [:]

    /// - Parameter shared: the code that is named where host code leads to it.
    public init(shared: [SharedHostCode]) {
        for part in shared { names[UInt64(part.addresses.lowerBound)] = part.name }
    }

    /// The listing of a block, which ends with an empty line. `name`: the guest's for its address.
    public func text(_ block: TranslatedBlock, name: String?) -> String {
        let host = Code(bytes: block.hostCode, address: block.hostAddress)
        let cold = Code(bytes: block.coldCode, address: block.coldAddress)
        let rights = block.isUser ? "user" : "supervisor"
        let place = "\(Self.hex(block.address.rawValue)) \(rights)\(name.map { " \($0)" } ?? "")"
        var text =
            "\(place): \(Self.count(block.parts.count, "instruction")), "
            + "\(Self.count(block.guestCode.count, "byte")); "
            + "\(Self.count(block.hostCode.count, "byte")) of host code, "
            + "\(block.coldCode.count) cold\n"
        let entry = block.parts.first?.hostOffset ?? 0
        text += lines("", host, 0..<entry)
        for (number, part) in block.parts.enumerated() {
            let isLast = number + 1 == block.parts.count
            let end = isLast ? block.hostCode.count : block.parts[number + 1].hostOffset
            let address = block.address.rawValue &+ UInt64(part.guestOffset)
            let guest = Self.disassemble(block.guestCode[part.guestOffset...], at: address)
            text += lines(
                "\(Self.hex(address))  \(guest.text)", host,
                part.hostOffset..<max(end, part.hostOffset))
        }
        return text + lines("cold", cold, 0..<block.coldCode.count) + "\n"
    }

    /// Host code, and where it runs.
    private struct Code {
        var bytes: [UInt8]
        var address: UInt
    }

    /// Host code beside what it was made for.
    private func lines(_ left: String, _ code: Code, _ range: Range<Int>) -> String {
        var text = ""
        var left = left
        var offset = range.lowerBound
        repeat {
            let address = UInt64(code.address &+ UInt(offset))
            let padding = String(repeating: " ", count: max(0, Self.column - left.count))
            guard offset < range.upperBound else {
                if !left.isEmpty { text += left + "\n" }
                break
            }
            let host = Self.disassemble(code.bytes[offset..<range.upperBound], at: address)
            let target = host.target.flatMap { names[$0] }.map { "  ; \($0)" } ?? ""
            text += "\(left)\(padding) | \(Self.hex(address))  \(host.text)\(target)\n"
            left = ""
            offset += host.length
        } while offset < range.upperBound
        return text
    }

    /// The first instruction of some 64-bit code, its length in bytes and, of a direct jump or call,
    /// where it leads. What is no instruction is one byte.
    private static func disassemble(
        _ code: ArraySlice<UInt8>, at address: UInt64
    ) -> (text: String, length: Int, target: UInt64?) {
        var found = unsafe ZydisDisassembledInstruction()
        let status = unsafe code.withUnsafeBytes {
            unsafe ZydisDisassembleIntel(
                ZYDIS_MACHINE_MODE_LONG_64, address, $0.baseAddress, ZyanUSize($0.count), &found)
        }
        // ZYAN_SUCCESS: the highest bit is clear.
        let length = unsafe Int(found.info.length)
        guard status & 0x8000_0000 == 0, length > 0 else {
            return ("byte \(hex(UInt64(code.first ?? 0)))", 1, nil)
        }
        let text = unsafe withUnsafeBytes(of: found.text) {
            unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        var target: UInt64?
        let operand = unsafe found.operands.0
        if operand.type == ZYDIS_OPERAND_TYPE_IMMEDIATE, operand.imm.is_relative != 0 {
            target = unsafe address &+ UInt64(length) &+ operand.imm.value.u
        }
        return (text, length, target)
    }

    private static func hex(_ number: UInt64) -> String { String(number, radix: 16) }

    private static func count(_ number: Int, _ noun: String) -> String {
        "\(number) \(noun)\(number == 1 ? "" : "s")"
    }
}
