import MachineMemory
import Processor
import Testing
import X86

/// The interpreter's integer instructions against the host's own processor: random operands and
/// flags, register and memory forms, every operand size.
@Suite struct HostDifferentialTests {
    /// One encoding to try.
    struct Template {
        var name: String
        /// Opcode bytes, after prefixes and REX.
        var opcode: [UInt8]
        /// The reg field of ModRM where it extends the opcode; nil: a random register.
        var group: UInt8?
        var hasModRM = true
        var immediate = Immediate.none
        /// Flags that the instruction leaves undefined.
        var undefined: UInt64 = 0
        var isByte = false
        var mandatoryPrefix: UInt8?
        /// Whether operand sizes other than the default make sense.
        var sizes = true
        var isShift = false
    }

    enum Immediate { case none, byte, operand }

    static let templates: [Template] = {
        var list: [Template] = []
        let names = ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"]
        for (number, name) in names.enumerated() {
            let base = UInt8(number * 8)
            let undefined = [1, 4, 6].contains(number) ? RFLAGS.adjust : 0
            for form in 0..<4 as Range<UInt8> {
                list.append(
                    Template(
                        name: name, opcode: [base + form], undefined: undefined,
                        isByte: form & 1 == 0))
            }
            list.append(
                Template(
                    name: name, opcode: [base + 4], hasModRM: false, immediate: .byte,
                    undefined: undefined, isByte: true))
            list.append(
                Template(
                    name: name, opcode: [base + 5], hasModRM: false, immediate: .operand,
                    undefined: undefined))
            for (opcode, immediate) in [
                (0x80, Immediate.byte), (0x81, .operand), (0x83, .byte),
            ] as [(UInt8, Immediate)] {
                list.append(
                    Template(
                        name: name, opcode: [opcode], group: UInt8(number),
                        immediate: immediate, undefined: undefined, isByte: opcode == 0x80))
            }
        }
        for (name, opcode) in [("test", 0x84), ("xchg", 0x86), ("mov", 0x88), ("mov", 0x8a)]
            as [(String, UInt8)]
        {
            let undefined = name == "test" ? RFLAGS.adjust : 0
            list.append(
                Template(name: name, opcode: [opcode], undefined: undefined, isByte: true))
            list.append(Template(name: name, opcode: [opcode + 1], undefined: undefined))
        }
        let product = RFLAGS.sign | RFLAGS.zero | RFLAGS.adjust | RFLAGS.parity
        for (number, name, undefined) in [
            (2, "not", 0), (3, "neg", 0), (4, "mul", product), (5, "imul", product),
        ] as [(UInt8, String, UInt64)] {
            list.append(
                Template(
                    name: name, opcode: [0xf6], group: number, undefined: undefined,
                    isByte: true))
            list.append(
                Template(name: name, opcode: [0xf7], group: number, undefined: undefined))
        }
        for (number, name) in [(0, "inc"), (1, "dec")] as [(UInt8, String)] {
            list.append(
                Template(name: name, opcode: [0xfe], group: number, isByte: true))
            list.append(Template(name: name, opcode: [0xff], group: number))
        }
        for (number, name) in ["rol", "ror", "rcl", "rcr", "shl", "shr", "shl", "sar"].enumerated()
        {
            for opcode in [0xc0, 0xd0, 0xd2] as [UInt8] {
                let immediate = opcode == 0xc0 ? Immediate.byte : .none
                for wide in 0..<2 as Range<UInt8> {
                    list.append(
                        Template(
                            name: name, opcode: [opcode + wide], group: UInt8(number),
                            immediate: immediate,
                            undefined: number >= 4 ? RFLAGS.adjust : 0, isByte: wide == 0,
                            isShift: true))
                }
            }
        }
        let bits = RFLAGS.overflow | RFLAGS.sign | RFLAGS.adjust | RFLAGS.parity
        for (number, name) in [(0xa3, "bt"), (0xab, "bts"), (0xb3, "btr"), (0xbb, "btc")]
            as [(UInt8, String)]
        {
            list.append(
                Template(name: name + " r", opcode: [0x0f, number], undefined: bits))
        }
        for number in 4..<8 as Range<UInt8> {
            list.append(
                Template(
                    name: "bt* imm", opcode: [0x0f, 0xba], group: number, immediate: .byte,
                    undefined: bits))
        }
        let scan = bits | RFLAGS.carry
        list.append(Template(name: "bsf", opcode: [0x0f, 0xbc], undefined: scan))
        list.append(Template(name: "bsr", opcode: [0x0f, 0xbd], undefined: scan))
        list.append(Template(name: "popcnt", opcode: [0x0f, 0xb8], mandatoryPrefix: 0xf3))
        list.append(Template(name: "imul 2", opcode: [0x0f, 0xaf], undefined: product))
        list.append(
            Template(name: "imul 3", opcode: [0x69], immediate: .operand, undefined: product))
        list.append(
            Template(name: "imul 3", opcode: [0x6b], immediate: .byte, undefined: product))
        for (opcode, name) in [(0xa4, "shld"), (0xac, "shrd")] as [(UInt8, String)] {
            list.append(
                Template(
                    name: name, opcode: [0x0f, opcode], immediate: .byte,
                    undefined: RFLAGS.adjust, isShift: true))
            list.append(
                Template(
                    name: name, opcode: [0x0f, opcode + 1], undefined: RFLAGS.adjust,
                    isShift: true))
        }
        for (opcode, name) in [(0xb0, "cmpxchg"), (0xc0, "xadd")] as [(UInt8, String)] {
            list.append(Template(name: name, opcode: [0x0f, opcode], isByte: true))
            list.append(Template(name: name, opcode: [0x0f, opcode + 1]))
        }
        for opcode in [0xb6, 0xb7, 0xbe, 0xbf] as [UInt8] {
            list.append(Template(name: "movzx/movsx", opcode: [0x0f, opcode]))
        }
        list.append(Template(name: "movsxd", opcode: [0x63]))
        for condition in 0..<16 as Range<UInt8> {
            list.append(
                Template(name: "setcc", opcode: [0x0f, 0x90 + condition], isByte: true))
            list.append(Template(name: "cmovcc", opcode: [0x0f, 0x40 + condition]))
        }
        for (opcode, name) in [
            (0x98, "cbw"), (0x99, "cwd"), (0xf5, "cmc"), (0xf8, "clc"), (0xf9, "stc"),
            (0x9e, "sahf"), (0x9f, "lahf"), (0x91, "xchg rax"), (0x93, "xchg rax"),
        ] as [(UInt8, String)] {
            list.append(Template(name: name, opcode: [opcode], hasModRM: false))
        }
        for register in [0, 1, 3, 6] as [UInt8] {
            list.append(
                Template(
                    name: "bswap", opcode: [0x0f, 0xc8 + register], hasModRM: false, sizes: false))
        }
        list.append(
            Template(
                name: "crc32", opcode: [0x0f, 0x38, 0xf0], isByte: true, mandatoryPrefix: 0xf2))
        list.append(
            Template(name: "crc32", opcode: [0x0f, 0x38, 0xf1], mandatoryPrefix: 0xf2))
        return list
    }()

    /// The byte offset of ModRM's registers that the stub leaves to the code: no RSP, no RDI, and
    /// RSI holds the memory operand's address.
    static let registers: [UInt8] = [0, 1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15]

    @Test("integer instructions do what the host's processor does", arguments: [1, 2] as [UInt64])
    func differential(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let machine = try BareMachine()
        let stub = try #require(NativeStub())
        var executed = 0
        let scratch = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
        defer { unsafe scratch.deallocate() }
        for template in Self.templates {
            for _ in 0..<60 {
                guard let (code, width, count) = encode(template, &generator) else { continue }
                var state = (0..<16).map { _ in interesting(&generator) }
                state.append(generator.next() & RFLAGS.arithmetic | 0x202)
                if let count { state[1] = UInt64(count) }
                let memoryWord = interesting(&generator)
                let upper = generator.next()
                unsafe scratch.storeBytes(of: memoryWord, as: UInt64.self)
                unsafe scratch.storeBytes(of: upper, toByteOffset: 8, as: UInt64.self)
                machine.memory.store(memoryWord, at: MachineAddress(BareMachine.data))
                machine.memory.store(upper, at: MachineAddress(BareMachine.data + 8))

                for register in GeneralRegister.allCases where register != .rsp {
                    machine.processor[register] = state[Int(register.rawValue)]
                }
                machine.processor[.rsi] = BareMachine.data
                machine.processor.flags = state[16] & ~RFLAGS.interruptEnable
                // A jump to the next instruction ends the block, so that it is run as a whole.
                let exit = machine.run(code + [0xeb, 0], count: 2)
                state[6] = UInt64(UInt(bitPattern: scratch))
                let before = state
                stub.run(code, &state)

                let hex = code.map { String($0, radix: 16) }.joined(separator: " ")
                let context: Comment =
                    "\(template.name) width \(width): \(hex), seed \(seed), rax \(before[0]) rcx \(before[1])"
                #expect(exit == .limit, context)
                for register in GeneralRegister.allCases
                where ![.rsp, .rdi, .rsi].contains(register) {
                    #expect(
                        machine.processor[register] == state[Int(register.rawValue)],
                        "\(context.rawValue) \(register)")
                }
                let mask = RFLAGS.arithmetic & ~undefinedFlags(template, count, width)
                #expect(
                    machine.processor.flags & mask == state[16] & mask,
                    "\(context.rawValue): flags \(machine.processor.flags & mask) \(state[16] & mask)"
                )
                let word = machine.memory.load(
                    UInt64.self, at: MachineAddress(BareMachine.data))
                let native = unsafe scratch.load(as: UInt64.self)
                #expect(word == native, context)
                executed += 1
            }
        }
        #expect(executed > 8000)
    }

    private func undefinedFlags(_ template: Template, _ count: UInt8?, _ width: Int) -> UInt64 {
        var undefined = template.undefined
        if template.isShift, let count {
            let masked = Int(count) & (width == 64 ? 63 : 31)
            if masked == 0 { return 0 }
            if masked != 1 { undefined |= RFLAGS.overflow }
            if masked >= width { undefined |= RFLAGS.carry }
        }
        return undefined
    }

    /// Values at the edges as often as random ones.
    func interesting(_ generator: inout SeededGenerator) -> UInt64 {
        let edges: [UInt64] = [
            0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000,
            0xffff_ffff, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, .max,
        ]
        let choice = generator.next()
        return choice & 1 == 0 ? edges[Int(choice >> 8) % edges.count] : generator.next()
    }

    /// The bytes of one instance; nil where the combination has no defined result.
    func encode(
        _ template: Template, _ generator: inout SeededGenerator
    ) -> (code: [UInt8], width: Int, count: UInt8?)? {
        var width = 32
        var bytes: [UInt8] = []
        var rex: UInt8 = 0
        let choice = generator.next()
        if template.isByte {
            width = 8
        } else if template.sizes {
            switch choice % 3 {
            case 0:
                width = 16
                bytes.append(0x66)
            case 1:
                width = 64
                rex |= 8
            default: break
            }
        } else if choice & 1 == 0 {
            width = 64
            rex |= 8
        }
        if let prefix = template.mandatoryPrefix { bytes.append(prefix) }
        // XCHG of a 16-bit crc32 source and the like are all defined; 16-bit MOVSXD is odd: skip.
        if template.name == "movsxd" && width == 16 { return nil }
        var tail: [UInt8] = []
        if template.hasModRM {
            let isMemory = choice >> 16 & 3 == 0
            let reg =
                template.group ?? Self.registers[Int(choice >> 24) % Self.registers.count]
            let rm = Self.registers[Int(choice >> 32) % Self.registers.count]
            if template.group == nil && reg >= 8 { rex |= 4 }
            if isMemory {
                if template.name.hasSuffix(" r") { return nil }
                tail.append((reg & 7) << 3 | 6)
            } else {
                if rm >= 8 { rex |= 1 }
                tail.append(0xc0 | (reg & 7) << 3 | rm & 7)
                // RDI and RSP as byte registers are the stub's: with REX, and 4…7 without it are
                // AH…BH, which is fine.
            }
            if template.isByte && template.name != "crc32" && rex == 0 && choice >> 60 == 0 {
                rex = 0x40
            }
        }
        var count: UInt8?
        if template.isShift {
            let value = UInt8(truncatingIfNeeded: choice >> 40)
            if template.opcode[0] == 0xd0 || template.opcode[0] == 0xd1 {
                count = 1
            } else {
                count = value
            }
            // Beyond the operand's size SHLD and SHRD are undefined.
            if template.opcode.count == 2 {
                count = value % UInt8(min(width, 63) + 1)
                if width == 16 { count = value % 17 }
            }
        }
        switch template.immediate {
        case .none: break
        case .byte: tail.append(count ?? UInt8(truncatingIfNeeded: choice >> 48))
        case .operand:
            let value = generator.next()
            for byte in 0..<(width == 16 ? 2 : 4) {
                tail.append(UInt8(truncatingIfNeeded: value >> UInt64(byte * 8)))
            }
        }
        if rex != 0 { bytes.append(rex | 0x40) }
        return (bytes + template.opcode + tail, width, count)
    }
}
