import Processor
import X86

/// Lines of the file by which Linux' `perf` names generated code, `/tmp/perf-PID.map`: the first
/// address and the size in bytes, both in hexadecimal, and a name (perf's
/// `tools/perf/Documentation/jit-interface.txt`).
public enum PerfMap {
    /// The lines of a translated block: `guest:` or, of code at privilege level 3, `guest-user:`,
    /// and the guest's name for the code or its linear address; `.cold` follows the name of what is
    /// seldom executed.
    public static func lines(_ block: TranslatedBlock, name: String?) -> String {
        let place = name ?? "0x\(String(block.address.rawValue, radix: 16))"
        let full = "\(block.isUser ? "guest-user" : "guest"):\(place)"
        return line(block.hostAddress, block.hostCode.count, full)
            + line(block.coldAddress, block.coldCode.count, full + ".cold")
    }

    /// The line of code that translations share.
    public static func line(_ code: SharedHostCode) -> String {
        let name = code.name.map { $0 == " " ? "-" : String($0) }.joined()
        return line(code.addresses.lowerBound, code.addresses.count, "penumbra:\(name)")
    }

    private static func line(_ address: UInt, _ count: Int, _ name: String) -> String {
        "\(String(address, radix: 16)) \(String(count, radix: 16)) \(name)\n"
    }
}
