import Processor
import X86

/// The registers as the debugger numbers them, and the description that it gets of them (GDB manual,
/// "Target Descriptions", "i386 Features").
///
/// The description is that of a 64-bit processor in every mode: a debugger cannot change it while
/// it is connected, but guests change their mode.
package enum RegisterLayout {
    /// One register; its number is its place in `all`.
    struct Entry: Sendable {
        var name: String
        /// In bits, a multiple of 8.
        var bits: Int
        var type: String
        var group: String?
        /// nil: it always reads as zero.
        var register: ProcessorRegister?

        var bytes: Int { bits / 8 }
    }

    /// Registers that the debugger knows under a name together.
    struct Feature: Sendable {
        var name: String
        var entries: [Entry]
    }

    static let features = [core, sse, avx, segments, system]
    static let all = features.flatMap(\.entries)

    private static let core: Feature = {
        let general: [(String, GeneralRegister)] = [
            ("rax", .rax), ("rbx", .rbx), ("rcx", .rcx), ("rdx", .rdx), ("rsi", .rsi),
            ("rdi", .rdi), ("rbp", .rbp), ("rsp", .rsp), ("r8", .r8), ("r9", .r9), ("r10", .r10),
            ("r11", .r11), ("r12", .r12), ("r13", .r13), ("r14", .r14), ("r15", .r15),
        ]
        var entries = general.map { name, register in
            let isPointer = register == .rbp || register == .rsp
            return Entry(
                name: name, bits: 64, type: isPointer ? "data_ptr" : "int64",
                register: .general(register))
        }
        entries.append(Entry(name: "rip", bits: 64, type: "code_ptr", register: .rip))
        entries.append(Entry(name: "eflags", bits: 32, type: "eflags", register: .flags))
        let selectors: [(String, SegmentRegister)] = [
            ("cs", .cs), ("ss", .ss), ("ds", .ds), ("es", .es), ("fs", .fs), ("gs", .gs),
        ]
        entries += selectors.map {
            Entry(name: $0, bits: 32, type: "int32", register: .selector($1))
        }
        entries += (0..<8 as Range<UInt8>).map {
            Entry(name: "st\($0)", bits: 80, type: "i387_ext", register: .x87($0))
        }
        let words: [(String, ProcessorRegister?)] = [
            ("fctrl", .x87Control), ("fstat", .x87Status), ("ftag", .x87Tags), ("fiseg", nil),
            ("fioff", .x87InstructionPointer), ("foseg", nil), ("fooff", .x87OperandPointer),
            ("fop", .x87Opcode),
        ]
        entries += words.map {
            Entry(name: $0, bits: 32, type: "int", group: "float", register: $1)
        }
        return Feature(name: "org.gnu.gdb.i386.core", entries: entries)
    }()

    private static let sse: Feature = {
        var entries = (0..<16 as Range<UInt8>).map {
            Entry(name: "xmm\($0)", bits: 128, type: "vec128", register: .xmm($0))
        }
        entries.append(
            Entry(name: "mxcsr", bits: 32, type: "i386_mxcsr", group: "vector", register: .mxcsr))
        return Feature(name: "org.gnu.gdb.i386.sse", entries: entries)
    }()

    /// The upper halves of YMM registers; zero on a model without AVX.
    private static let avx = Feature(
        name: "org.gnu.gdb.i386.avx",
        entries: (0..<16 as Range<UInt8>).map {
            Entry(name: "ymm\($0)h", bits: 128, type: "uint128", register: .upper($0))
        })

    private static let segments = Feature(
        name: "org.gnu.gdb.i386.segments",
        entries: [
            Entry(name: "fs_base", bits: 64, type: "int", register: .base(.fs)),
            Entry(name: "gs_base", bits: 64, type: "int", register: .base(.gs)),
        ])

    /// Under the names that QEMU has for them.
    private static let system: Feature = {
        let registers: [(String, ProcessorRegister)] = [
            ("k_gs_base", .kernelGSBase), ("cr0", .cr0), ("cr2", .cr2), ("cr3", .cr3),
            ("cr4", .cr4), ("cr8", .cr8), ("efer", .efer), ("xcr0", .xcr0),
        ]
        return Feature(
            name: "org.penumbra.x86.system",
            entries: registers.map {
                Entry(name: $0, bits: 64, type: "int64", group: "system", register: $1)
            })
    }()

    /// `target.xml`.
    package static let description: String = {
        var text = """
            <?xml version="1.0"?>
            <!DOCTYPE target SYSTEM "gdb-target.dtd">
            <target>
            <architecture>i386:x86-64</architecture>

            """
        for feature in features {
            text += "<feature name=\"\(feature.name)\">\n"
            text += types[feature.name] ?? ""
            for entry in feature.entries {
                let group = entry.group.map { " group=\"\($0)\"" } ?? ""
                text += "<reg name=\"\(entry.name)\" bitsize=\"\(entry.bits)\""
                text += " type=\"\(entry.type)\"\(group)/>\n"
            }
            text += "</feature>\n"
        }
        return text + "</target>\n"
    }()

    /// The types that the entries of a feature have.
    private static let types = [
        "org.gnu.gdb.i386.core": flags(
            "eflags", 4,
            [
                ("CF", 0), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9),
                ("DF", 10), ("OF", 11), ("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18),
                ("VIF", 19), ("VIP", 20), ("ID", 21),
            ]),
        "org.gnu.gdb.i386.sse": """
        <vector id="v4f" type="ieee_single" count="4"/>
        <vector id="v2d" type="ieee_double" count="2"/>
        <vector id="v16i8" type="int8" count="16"/>
        <vector id="v8i16" type="int16" count="8"/>
        <vector id="v4i32" type="int32" count="4"/>
        <vector id="v2i64" type="int64" count="2"/>
        <union id="vec128">
        <field name="v4_float" type="v4f"/>
        <field name="v2_double" type="v2d"/>
        <field name="v16_int8" type="v16i8"/>
        <field name="v8_int16" type="v8i16"/>
        <field name="v4_int32" type="v4i32"/>
        <field name="v2_int64" type="v2i64"/>
        <field name="uint128" type="uint128"/>
        </union>

        """
            + flags(
                "i386_mxcsr", 4,
                [
                    ("IE", 0), ("DE", 1), ("ZE", 2), ("OE", 3), ("UE", 4), ("PE", 5), ("DAZ", 6),
                    ("IM", 7), ("DM", 8), ("ZM", 9), ("OM", 10), ("UM", 11), ("PM", 12), ("FZ", 15),
                ]),
    ]

    private static func flags(_ name: String, _ bytes: Int, _ bits: [(String, Int)]) -> String {
        let fields = bits.map { "<field name=\"\($0)\" start=\"\($1)\" end=\"\($1)\"/>\n" }
        return "<flags id=\"\(name)\" size=\"\(bytes)\">\n\(fields.joined())</flags>\n"
    }

    // MARK: Values

    /// A register's bytes, least significant first.
    static func bytes(_ value: UInt128, of entry: Entry) -> [UInt8] {
        (0..<entry.bytes).map { UInt8(truncatingIfNeeded: value >> UInt128($0 * 8)) }
    }

    /// The value of a register's bytes, of which there are as many as it has.
    static func value(_ bytes: some Sequence<UInt8>) -> UInt128 {
        var value: UInt128 = 0
        for (index, byte) in bytes.prefix(16).enumerated() {
            value |= UInt128(byte) << UInt128(index * 8)
        }
        return value
    }
}
