import Foundation
import MachineMemory
import Processor
import Testing
import X86

/// MOVBE, LZCNT, BMI1, BMI2 and ADX against the host's own processor: random operands and flags,
/// register and memory forms, every operand size.
@Suite struct BitManipulationTests {
    /// One instruction.
    struct Template: Sendable {
        var name: String
        /// Opcode; legacy ones with their map's bytes.
        var opcode: [UInt8]
        /// The mandatory prefix: nil, 66, F3 or F2.
        var prefix: UInt8?
        /// VEX's map; nil: a legacy encoding.
        var map: UInt8?
        /// The reg field where it extends the opcode.
        var group: UInt8?
        var hasImmediate = false
        var isMemoryOnly = false
        /// Whether there is a form for 16-bit operands.
        var hasNarrow = false
        var undefined: UInt64 = 0
    }

    static let templates: [Template] = {
        let some = RFLAGS.adjust | RFLAGS.parity
        let count = some | RFLAGS.sign | RFLAGS.overflow
        var list = [
            Template(
                name: "lzcnt", opcode: [0x0f, 0xbd], prefix: 0xf3, hasNarrow: true, undefined: count
            ),
            Template(
                name: "tzcnt", opcode: [0x0f, 0xbc], prefix: 0xf3, hasNarrow: true, undefined: count
            ),
            Template(name: "adcx", opcode: [0x0f, 0x38, 0xf6], prefix: 0x66),
            Template(name: "adox", opcode: [0x0f, 0x38, 0xf6], prefix: 0xf3),
            Template(
                name: "movbe load", opcode: [0x0f, 0x38, 0xf0], isMemoryOnly: true, hasNarrow: true),
            Template(
                name: "movbe store", opcode: [0x0f, 0x38, 0xf1], isMemoryOnly: true,
                hasNarrow: true),
            Template(name: "andn", opcode: [0xf2], map: 2, undefined: some),
            Template(name: "bextr", opcode: [0xf7], map: 2, undefined: some | RFLAGS.sign),
            Template(name: "bzhi", opcode: [0xf5], map: 2, undefined: some),
            Template(name: "pdep", opcode: [0xf5], prefix: 0xf2, map: 2),
            Template(name: "pext", opcode: [0xf5], prefix: 0xf3, map: 2),
            Template(name: "mulx", opcode: [0xf6], prefix: 0xf2, map: 2),
            Template(name: "shlx", opcode: [0xf7], prefix: 0x66, map: 2),
            Template(name: "shrx", opcode: [0xf7], prefix: 0xf2, map: 2),
            Template(name: "sarx", opcode: [0xf7], prefix: 0xf3, map: 2),
            Template(name: "rorx", opcode: [0xf0], prefix: 0xf2, map: 3, hasImmediate: true),
        ]
        for (number, name) in [(1, "blsr"), (2, "blsmsk"), (3, "blsi")] as [(UInt8, String)] {
            list.append(
                Template(name: name, opcode: [0xf3], map: 2, group: number, undefined: some))
        }
        return list
    }()

    static let hostHasThem: Bool = {
        let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
        let words = Set(text.split { $0 == " " || $0 == "\n" })
        return ["abm", "bmi1", "bmi2", "adx", "movbe"].allSatisfy { words.contains($0) }
    }()

    /// The registers that the stub leaves to the code, but RSI, which holds an address.
    static let registers: [UInt8] = [0, 1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15]

    /// The bytes of one instance.
    private func encode(_ template: Template, _ generator: inout SeededGenerator) -> [UInt8] {
        func register() -> UInt8 {
            Self.registers[Int(generator.next() % UInt64(Self.registers.count))]
        }
        let choice = generator.next()
        let isWide = choice & 1 != 0
        let isMemory = template.isMemoryOnly || choice & 6 == 0
        let reg = template.group ?? register()
        let rm = isMemory ? 6 : register()
        let second = register()
        var code: [UInt8] = []
        if let map = template.map {
            let prefix: UInt8 =
                switch template.prefix {
                case 0x66: 1
                case 0xf3: 2
                case 0xf2: 3
                default: 0
                }
            // RORX has no second source: the field is all ones.
            let field = template.hasImmediate ? 0 : second
            code = [
                0xc4, (reg < 8 ? 0x80 : 0) | 0x40 | (rm < 8 ? 0x20 : 0) | map,
                (isWide ? 0x80 : 0) | (~field & 15) << 3 | prefix,
            ]
        } else {
            if template.hasNarrow && choice & 24 == 0 { code.append(0x66) }
            if let prefix = template.prefix { code.append(prefix) }
            let rex: UInt8 = (isWide ? 8 : 0) | (reg >= 8 ? 4 : 0) | (rm >= 8 ? 1 : 0)
            if rex != 0 { code.append(0x40 | rex) }
        }
        code += template.opcode
        code.append((isMemory ? 0 : 0xc0) | (reg & 7) << 3 | rm & 7)
        if template.hasImmediate { code.append(UInt8(truncatingIfNeeded: choice >> 32)) }
        return code
    }

    @Test(
        "MOVBE, LZCNT, BMI1, BMI2 and ADX do what the host's processor does",
        .enabled(if: hostHasThem), arguments: [1, 2] as [UInt64])
    func differential(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let machine = try BareMachine(model: .everything)
        let stub = try #require(NativeStub())
        let scratch = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
        defer { unsafe scratch.deallocate() }
        let edges: [UInt64] = [0, 1, 0x80, 0x1008, 0xffff_ffff, 0x8000_0000, 1 << 63, .max]
        func value() -> UInt64 {
            let choice = generator.next()
            return choice & 3 == 0
                ? edges[Int(choice >> 8) % edges.count] : generator.next() >> (choice >> 8 & 63)
        }
        var executed = 0
        for template in Self.templates {
            for _ in 0..<80 {
                let code = encode(template, &generator)
                var state = (0..<16).map { _ in value() }
                state.append(generator.next() & RFLAGS.arithmetic | 0x202)
                let word = value()
                unsafe scratch.storeBytes(of: word, as: UInt64.self)
                machine.memory.store(word, at: MachineAddress(BareMachine.data))
                for register in GeneralRegister.allCases where register != .rsp {
                    machine.processor[register] = state[Int(register.rawValue)]
                }
                machine.processor[.rsi] = BareMachine.data
                machine.processor.flags = state[16] & ~RFLAGS.interruptEnable
                let exit = machine.run(code + [0xeb, 0], count: 2)
                state[6] = UInt64(UInt(bitPattern: scratch))
                let before = state
                stub.run(code, &state)
                let hex = code.map { String($0, radix: 16) }.joined(separator: " ")
                let context: Comment = "\(template.name): \(hex), seed \(seed), \(before)"
                #expect(exit == .limit, context)
                for register in GeneralRegister.allCases
                where ![.rsp, .rdi, .rsi].contains(register) {
                    #expect(
                        machine.processor[register] == state[Int(register.rawValue)],
                        "\(context.rawValue) \(register)")
                }
                let mask = RFLAGS.arithmetic & ~template.undefined
                #expect(
                    machine.processor.flags & mask == state[16] & mask,
                    "\(context.rawValue): flags \(machine.processor.flags) \(state[16])")
                let after = machine.memory.load(UInt64.self, at: MachineAddress(BareMachine.data))
                let native = unsafe scratch.load(as: UInt64.self)
                #expect(after == native, context)
                executed += 1
            }
        }
        #expect(executed == 80 * Self.templates.count)
    }

    @Test("without the features TZCNT is BSF, LZCNT is BSR, and the rest is undefined")
    func absent() throws {
        let machine = try SystemMachine(.long)
        // mov eax, 0x10; tzcnt ebx, eax; lzcnt ecx, eax; hlt
        machine.run([0xb8, 0x10, 0, 0, 0, 0xf3, 0x0f, 0xbc, 0xd8, 0xf3, 0x0f, 0xbd, 0xc8, 0xf4])
        #expect(machine.processor[.rbx] == 4)
        #expect(machine.processor[.rcx] == 4)
        // andn eax, eax, eax; movbe eax, [0x20000]
        for code in [
            [0xc4, 0xe2, 0x78, 0xf2, 0xc0], [0x0f, 0x38, 0xf0, 0x04, 0x25, 0, 0, 2, 0],
        ] as [[UInt8]] {
            machine.run(code)
            #expect(machine.haltedVector == 6)
        }
        let full = try SystemMachine(.long, model: .everything)
        full.run([0xb8, 0x10, 0, 0, 0, 0xf3, 0x0f, 0xbc, 0xd8, 0xf3, 0x0f, 0xbd, 0xc8, 0xf4])
        #expect(full.processor[.rbx] == 4)
        #expect(full.processor[.rcx] == 27)
    }

    @Test("VEX encodings are undefined in real mode")
    func realMode() throws {
        let machine = try SystemMachine(.real, model: .everything)
        // Vector 6's handler halts: its entry in the table points there.
        machine.store(UInt32(0x3000_0060), at: 6 * 4)
        machine.store(UInt8(0xf4), at: 0x30060)
        machine.run([0xc4, 0xe2, 0x78, 0xf2, 0xc0, 0xf4])
        #expect(machine.processor.rip == 0x61)
    }
}
