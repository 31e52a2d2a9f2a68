import MachineMemory
import Processor
import Testing
import X86

/// SSE, MMX and x87 instructions under both engines: registers, control words, flags, memory and
/// faults must agree.
///
/// ```
///  data + 0x80   RSI       + 0x200  what FXRSTOR64 loads
///       + 0x100  operands  + 0x400  what FXSAVE64 leaves
/// ```
@Suite(.enabled(if: Engine.translatorLack == nil)) struct VectorLockstepTests {
    private static let restore: [UInt8] = [0x48, 0x0f, 0xae, 0x8e, 0x80, 1, 0, 0]
    private static let save: [UInt8] = [0x48, 0x0f, 0xae, 0x86, 0x80, 3, 0, 0]
    /// Distances of operands from RSI: aligned, not aligned, over the page's end, at its end.
    private static let distances: [Int32] = [0x80, 0x84, 0x91, 0xf78, 0xf7c, 0xf70]

    /// Zeros, an infinity, quiet and signalling NaNs, the smallest number.
    private static let special: [UInt64] = [
        0, 0x8000_0000_0000_0000, 0x7ff0_0000_0000_0000, 0x7ff8_0000_0000_0000,
        0x7ff4_0000_0000_0000, 1,
    ]
    /// Two of single precision: 1.5 and -3.
    private static let singles: UInt64 = 0xc040_0000_3fc0_0000

    /// A 64-bit pattern of which floating-point code makes something.
    private func number(_ generator: inout SeededGenerator) -> UInt64 {
        switch generator.next() % 8 {
        case 0: generator.next()
        case 1: Double(Int64(bitPattern: generator.next()) >> 40).bitPattern
        case 2: Self.special[Int(generator.next() % 6)]
        case 3: Self.singles &+ generator.next() & 0x00ff_0000_00ff_0000
        case 4: generator.next() & 0x00ff_00ff_00ff_00ff
        case 5: 0x0000_0001_0010_0000 &* (generator.next() & 7)
        default: Double.random(in: -1e6...1e6, using: &generator).bitPattern
        }
    }

    private func image(_ generator: inout SeededGenerator) -> FXImage {
        var image = FXImage()
        for index in 0..<16 {
            image[xmm: index] = SIMD2(number(&generator), number(&generator))
        }
        for index in 0..<8 where generator.next() & 3 != 0 {
            let exponent = 0x3ff0 + generator.next() % 32 | generator.next() & 0x8000
            image[st: index] = SIMD2(generator.next() | 1 << 63, exponent)
            image.tags |= 1 << UInt8(index)
        }
        image.fcw = 0x007f | UInt16(generator.next() % 16) << 8
        image.fsw = UInt16(generator.next() % 8) << 11
        image.mxcsr = 0x1f80 | UInt32(truncatingIfNeeded: generator.next()) & 0xe07f
        switch generator.next() % 8 {
        case 0: image.mxcsr &= ~(UInt32(1) << (7 + UInt32(generator.next() % 6)))
        case 1: image.fcw &= ~(UInt16(1) << UInt16(generator.next() % 6))
        default: break
        }
        return image
    }

    private func memoryOperand(_ reg: UInt8, _ generator: inout SeededGenerator) -> [UInt8] {
        let distance = Self.distances.randomElement(using: &generator) ?? 0x80
        return [0x86 | reg << 3]
            + (0..<4).map { UInt8(truncatingIfNeeded: distance >> ($0 * 8)) }
    }

    private func start(_ pair: EngineLockstepTests.Pair, _ generator: inout SeededGenerator) {
        let image = image(&generator).bytes
        let operands = (0..<512).map { _ in number(&generator) }
        let state = (0..<16).map { _ in number(&generator) }
        let flags = generator.next() & RFLAGS.arithmetic | 2
        for machine in pair.all {
            machine.boot()
            for (index, word) in operands.enumerated() {
                let place = BareMachine.data + 0x100 + UInt64(index) * 8
                machine.memory.store(word, at: MachineAddress(place))
            }
            machine.memory.write(image.span, at: MachineAddress(BareMachine.data + 0x200))
            for register in GeneralRegister.allCases where register != .rsp {
                machine.processor[register] = state[Int(register.rawValue)]
            }
            machine.processor[.rsi] = BareMachine.data + 0x80
            machine.processor.flags = flags
        }
    }

    /// Executes one instruction between FXRSTOR64 and FXSAVE64.
    private func check(
        _ code: [UInt8], _ pair: EngineLockstepTests.Pair, _ generator: inout SeededGenerator
    ) {
        start(pair, &generator)
        let exits = pair.all.map { $0.run(Self.restore + code + Self.save + [0xeb, 0], count: 4) }
        let hex = code.map { String($0, radix: 16) }.joined(separator: " ")
        #expect(exits[0] == exits[1], "\(hex)")
        #expect(pair.difference() == nil, "\(hex): \(pair.difference() ?? "")")
    }

    @Test(
        "each SSE and MMX opcode does the same under both engines, with any prefix and operand",
        arguments: [
            (1, 0x10...0x17), (1, 0x28...0x2f), (1, 0x50...0x7f), (1, 0xc2...0xc6),
            (1, 0xd0...0xff), (2, 0x00...0x41), (2, 0xf0...0xf1), (3, 0x08...0x63),
        ])
    func opcodes(map: Int, range: ClosedRange<Int>) throws {
        var generator = SeededGenerator(seed: UInt64(map * 1000 + range.lowerBound))
        let pair = try EngineLockstepTests.Pair()
        let prefixes: [[UInt8]] = [[], [0x66], [0xf3], [0xf2]]
        let maps: [[UInt8]] = [[0x0f], [0x0f, 0x38], [0x0f, 0x3a]]
        for opcode in range {
            for prefix in prefixes {
                for _ in 0..<10 {
                    var code = prefix
                    let isMemory = generator.next() & 1 == 0
                    if generator.next() & 1 == 0 {
                        code.append(0x40 | UInt8(generator.next() & (isMemory ? 0xe : 0xf)))
                    }
                    code += maps[map - 1]
                    code.append(UInt8(opcode))
                    let reg = UInt8(generator.next() & 7)
                    if isMemory {
                        code += memoryOperand(reg, &generator)
                    } else {
                        code.append(0xc0 | reg << 3 | UInt8(generator.next() & 7))
                    }
                    let hasImmediate =
                        map == 3 || map == 1 && [0x70, 0x71, 0x72, 0x73, 0xc2].contains(opcode)
                        || map == 1 && (0xc4...0xc6).contains(opcode)
                    if hasImmediate { code.append(UInt8(truncatingIfNeeded: generator.next())) }
                    check(code, pair, &generator)
                }
            }
        }
    }

    @Test(
        "each x87 opcode does the same under both engines",
        arguments: 0xd8...0xdf as ClosedRange<Int>)
    func x87(opcode: Int) throws {
        var generator = SeededGenerator(seed: UInt64(opcode))
        let pair = try EngineLockstepTests.Pair()
        for modRM in 0..<256 as Range<Int> where modRM >= 0xc0 || modRM & 7 == 6 {
            for _ in 0..<8 {
                var code = [UInt8(opcode)]
                if modRM >= 0xc0 {
                    code.append(UInt8(modRM))
                } else {
                    code += memoryOperand(UInt8(modRM >> 3 & 7), &generator)
                }
                check(code, pair, &generator)
            }
        }
    }

    /// Instructions that never fault where exceptions are masked.
    private func instruction(_ generator: inout SeededGenerator) -> [UInt8] {
        let reg = UInt8(generator.next() & 7)
        let registers: [UInt8] = [0xc0 | reg << 3 | UInt8(generator.next() & 7)]
        let prefixes: [[UInt8]] = [[], [0x66], [0xf3], [0xf2]]
        let prefix = prefixes[Int(generator.next() & 3)]
        let arithmetic: [UInt8] = [0x51, 0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f]
        switch generator.next() % 16 {
        case 0, 1, 2:
            return prefix + [0x0f, arithmetic[Int(generator.next() % 7)]] + registers
        case 3: return [0x66, 0x45, 0x0f, 0xfe] + registers  // paddd
        case 4: return [0xf3, 0x0f, 0x6f] + memoryOperand(reg, &generator)  // movdqu
        case 5: return [0xf3, 0x0f, 0x7f] + memoryOperand(reg, &generator)
        case 6: return [0x66, 0x0f, 0x2e] + registers  // ucomisd
        case 7: return [0xf2, 0x4c, 0x0f, 0x2d] + registers  // cvtsd2si r8…, xmm
        case 8: return [0x66, 0x44, 0x0f, 0xd7] + registers  // pmovmskb r8d…, xmm
        case 9: return [0x66, 0x0f, 0x3a, 0x63] + registers + [0x1a]  // pcmpistri
        case 10: return [0xd8 | UInt8(generator.next() & 4), 0xc1]  // fadd
        case 11: return [0xd9, 0xe8]  // fld1
        case 12: return [0xdd] + memoryOperand(0, &generator)  // fld m64
        case 13: return [0xdd] + memoryOperand(3, &generator)  // fstp m64
        case 14: return [0xdf, 0xf1]  // fcomip
        default:
            let others: [[UInt8]] = [
                [0x0f, 0xae] + memoryOperand(3, &generator),  // stmxcsr
                [0xd9] + memoryOperand(7, &generator),  // fnstcw
                [0xdf, 0xe0],  // fnstsw ax
                [0x0f, 0xa2],  // cpuid: a handler
            ]
            return others[Int(generator.next() & 3)]
        }
    }

    @Test("loops of vector and integer instructions end alike", arguments: 0..<60 as Range<UInt64>)
    func loops(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed &* 31 &+ 11)
        let pair = try EngineLockstepTests.Pair()
        start(pair, &generator)
        var body: [UInt8] = []
        for _ in 0..<14 {
            body += instruction(&generator)
            switch generator.next() % 6 {
            case 0: body += [0x74, 0x02, 0x01, 0xd8]  // jz over add eax, ebx
            case 1: body += [0x48, 0x01, 0x46, 0x7d]  // add [rsi+125], rax
            case 2: body += [0xeb, 0]
            default: break
            }
        }
        var code = Self.restore + body + Self.save
        // dec qword [data + 0x700]; jnz start; jmp .
        code += [0x48, 0xff, 0x0c, 0x25, 0, 7, 2, 0, 0x0f, 0x85]
        let back = UInt32(bitPattern: Int32(-(code.count + 4) + Self.restore.count))
        code += (0..<4).map { UInt8(truncatingIfNeeded: back >> UInt32($0 * 8)) } + [0xeb, 0xfe]
        for machine in pair.all {
            machine.memory.store(UInt64(6), at: MachineAddress(BareMachine.data + 0x700))
            _ = machine.run(code, count: 0)
        }
        for slice in [1, 9, 3, 60, 30, 7, 200] as [UInt64] {
            let exits = pair.all.map { machine in
                machine.processor.run(until: machine.processor.retired + slice)
            }
            #expect(exits[0] == exits[1])
            #expect(pair.difference() == nil, "after \(slice): \(pair.difference() ?? "")")
        }
    }

    @Test("what unmasks an exception in the middle of a block is heeded by what follows it")
    func unmasking() throws {
        for engine in Engine.allCases {
            let machine = try BareMachine(engine)
            machine.store([0x80, 0x1d, 0, 0], at: BareMachine.data)
            machine.processor[.rsi] = BareMachine.data
            // xorps xmm0, xmm0; mov eax, 1; cvtsi2ss xmm1, eax; ldmxcsr [rsi]; divss xmm1, xmm0
            let code: [UInt8] = [
                0x0f, 0x57, 0xc0, 0xb8, 1, 0, 0, 0, 0xf3, 0x0f, 0x2a, 0xc8, 0x0f, 0xae, 0x16, 0xf3,
                0x0f, 0x5e, 0xc8, 0xeb, 0xfe,
            ]
            machine.store(code, at: BareMachine.code)
            machine.processor.jump(to: BareMachine.code)
            // There is no IDT: #XM for the division by zero becomes a shutdown there.
            _ = machine.processor.run(until: 100)
            #expect(machine.processor.rip == BareMachine.code + 15)
            #expect(machine.processor.retired == 4)
        }
    }
}
