import X86

extension Processor {
    /// The architectural registers on one line: for instruction traces, which are compared line
    /// by line.
    public var registerLine: String {
        func hex(_ value: UInt64, _ digits: Int = 16) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        var line = "\(retired) \(hex(core[.cs].base &+ rip)) f=\(hex(core.flags, 6))"
        for register in GeneralRegister.allCases {
            line += " \(register)=\(hex(core[register]))"
        }
        return line + " cr2=\(hex(cr2)) cr3=\(hex(cr3)) cpl=\(privilegeLevel)"
    }
}
