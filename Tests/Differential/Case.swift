import X86

/// Where a case's code and data lie, on the host as in the model: linear addresses.
///
/// ```
///  code      2 pages, not writable     data      2 pages, writable
///  constant  1 page, readable only     stack     1 page, writable
/// ```
/// Before and after each there is nothing.
package enum Area {
    package static let code: UInt64 = 0x1000_0000
    package static let codeEnd = code + 0x2000
    package static let data: UInt64 = 0x1001_0000
    package static let constant: UInt64 = 0x1001_8000
    package static let stack: UInt64 = 0x1002_0000
    /// The bases of FS and GS in 64-bit mode, both in `data`.
    package static let fs = data + 0x140
    package static let gs = data + 0x1010
    /// The pages in the order of a case's `memory`.
    package static let pages = [data, data + 0x1000, constant, stack]
}

/// The code size in which a case runs, at privilege level 3.
package enum CodeSize: String, CaseIterable, Sendable {
    case bits64 = "64-bit"
    case bits32 = "32-bit"
}

/// Instructions, and the state that they start from.
package struct Case: Sendable {
    package var size = CodeSize.bits64
    /// One instruction each.
    package var code: [[UInt8]] = []
    /// Where the first lies.
    package var start = Area.code
    /// RAX…R15.
    package var general = [UInt64](repeating: 0, count: 16)
    package var flags: UInt64 = 0x202
    /// The standard form of an XSAVE area with x87, SSE and AVX state.
    package var extended = [UInt8](repeating: 0, count: ExtendedLayout.size)
    /// The four pages of `Area.pages`.
    package var memory = [UInt8](repeating: 0, count: 4 * 4096)
    /// The flags that the code leaves undefined.
    package var undefined: UInt64 = 0
    /// Whether x87 state is not compared.
    package var ignoresX87 = false
    /// Whether CR2 is not compared.
    package var ignoresAddress = false
    /// Whether general registers are not compared.
    package var ignoresGeneral = false
    /// Whether memory is not compared.
    package var ignoresMemory = false

    package init() {}

    /// The bytes from `start` on: the instructions, and INT3.
    var bytes: [UInt8] { code.flatMap { $0 } + [0xcc] }
}

/// The standard form of an XSAVE area (SDM Vol. 1 §13.4).
package enum ExtendedLayout {
    package static let size = 832
    static let legacy = 0..<512
    static let upper = 576

    /// What of an area is compared: not the last instruction's and operand's addresses, nor what
    /// is reserved, and of an x87 register its 10 bytes.
    static let compared: [(name: String, range: Range<Int>)] = {
        var list = [
            ("FCW", 0..<2), ("FSW", 2..<4), ("tags", 4..<5), ("MXCSR", 24..<28),
        ]
        for index in 0..<8 { list.append(("ST\(index)", 32 + index * 16..<42 + index * 16)) }
        for index in 0..<16 {
            list.append(("XMM\(index)", 160 + index * 16..<176 + index * 16))
            list.append(("YMM\(index)'s upper half", 576 + index * 16..<592 + index * 16))
        }
        return list
    }()
}

/// What a case ended in.
package struct Outcome: Sendable {
    /// The vector of the exception; 3 is the INT3 at the end. Those that a signal does not tell
    /// apart are one: see `signalClass`.
    var vector = 0
    /// CR2 of a page fault.
    var address: UInt64 = 0
    var rip: UInt64 = 0
    var general = [UInt64](repeating: 0, count: 16)
    var flags: UInt64 = 0
    var extended: [UInt8] = []
    var memory: [UInt8] = []

    /// Ends that are no exceptions.
    static let stopped = 256
    static let lost = 257

    /// The vector as which Linux's signals show a vector: #OF and #BR as #GP, #NP as #SS, #XM as #MF.
    static func signalClass(_ vector: Int) -> Int {
        switch vector {
        case 4, 5: 13
        case 11: 12
        case 19: 16
        default: vector
        }
    }

    /// What differs from `other`; empty where nothing does.
    func differences(from other: Outcome, of test: Case) -> [String] {
        func hex(_ value: UInt64) -> String { String(value, radix: 16) }
        if vector != other.vector { return ["vector: \(vector), \(other.vector)"] }
        var list: [String] = []
        if vector == 14 && !test.ignoresAddress && address != other.address {
            list.append("CR2: \(hex(address)), \(hex(other.address))")
        }
        if rip != other.rip { list.append("RIP: \(hex(rip)), \(hex(other.rip))") }
        for register in GeneralRegister.allCases where !test.ignoresGeneral {
            let number = Int(register.rawValue)
            if test.size == .bits32 && number >= 8 { continue }
            let mask: UInt64 = test.size == .bits32 ? 0xffff_ffff : .max
            let (a, b) = (general[number] & mask, other.general[number] & mask)
            if a != b { list.append("\(register): \(hex(a)), \(hex(b))") }
        }
        // RF is the exception's, not the code's.
        let mask = ~(test.undefined | 1 << 16)
        if flags & mask != other.flags & mask {
            list.append("flags: \(hex(flags & mask)), \(hex(other.flags & mask))")
        }
        for part in ExtendedLayout.compared
        where extended[part.range] != other.extended[part.range] {
            if test.ignoresX87 && part.range.lowerBound < 160 && part.name != "MXCSR" { continue }
            list.append(
                "\(part.name): \(Listing.hex(extended[part.range])), "
                    + Listing.hex(other.extended[part.range]))
        }
        if !test.ignoresMemory, memory != other.memory,
            let place = memory.indices.first(where: { memory[$0] != other.memory[$0] })
        {
            let linear = Area.pages[place / 4096] + UInt64(place % 4096)
            list.append(
                "memory at \(hex(linear)): \(hex(UInt64(memory[place]))), \(hex(UInt64(other.memory[place])))"
            )
        }
        return list
    }
}
