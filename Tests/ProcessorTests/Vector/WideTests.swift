import MachineMemory
import Processor
import Testing
import X86

/// AVX, AVX2, FMA and F16C against the host's own processor: every instruction, its registers,
/// memory operands, immediates and flags.
@Suite(.enabled(if: HostVectors.hasAVX2)) struct WideTests {
    /// What an encoding allows.
    struct Options: OptionSet {
        var rawValue: UInt16
        /// VEX.vvvv is an operand.
        static let second = Options(rawValue: 1)
        static let immediate = Options(rawValue: 2)
        /// 128 bits only; 256 bits only.
        static let narrow = Options(rawValue: 4)
        static let wide = Options(rawValue: 8)
        static let registers = Options(rawValue: 16)
        static let memory = Options(rawValue: 32)
        static let noW = Options(rawValue: 64)
        static let onlyW = Options(rawValue: 128)
        /// RAX is the operand in r/m, or in reg.
        static let general = Options(rawValue: 256)
        static let generalReg = Options(rawValue: 512)
        /// VEX.vvvv is the destination of a shift by an immediate; reg is a part of the opcode.
        static let group = Options(rawValue: 1024)
    }

    struct Row: Sendable {
        var map: UInt8
        var prefixes: [UInt8]
        var opcodes: [UInt8]
        var options: Options
        init(_ map: UInt8, _ prefixes: [UInt8], _ opcodes: [UInt8], _ options: Options = []) {
            self.map = map
            self.prefixes = prefixes
            self.opcodes = opcodes
            self.options = options
        }
    }

    /// By map, mandatory prefix (1: 66, 2: F3, 3: F2) and opcode (SDM Vol. 2D, Appendix A).
    static let rows: [Row] = {
        let integer: [UInt8] =
            Array(0x60...0x6d) + [0x74, 0x75, 0x76] + Array(0xd1...0xd5) + Array(0xd8...0xe5)
            + Array(0xe8...0xef) + Array(0xf1...0xf6) + Array(0xf8...0xfe)
        let arithmetic: [UInt8] = [0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f]
        let fused = [0x90, 0xa0, 0xb0].flatMap { base in (6...15).map { UInt8(base + $0) } }
        return [
            Row(1, [1], integer, .second),
            Row(1, [0, 1], arithmetic + [0x14, 0x15, 0x54, 0x55, 0x56, 0x57], .second),
            Row(1, [2, 3], arithmetic + [0x51, 0x5a], [.second, .narrow]),
            Row(1, [0, 1], [0xc2, 0xc6], [.second, .immediate]),
            Row(1, [2, 3], [0xc2], [.second, .immediate, .narrow]),
            Row(1, [1, 3], [0x7c, 0x7d, 0xd0], .second),
            Row(1, [0, 1], [0x10, 0x11, 0x28, 0x29, 0x51, 0x5a, 0x5b]),
            Row(1, [2], [0x5b, 0x12, 0x16]), Row(1, [3], [0x12]),
            Row(1, [0], [0x52, 0x53]), Row(1, [1, 2, 3], [0xe6]),
            Row(1, [0, 1], [0x2e, 0x2f], .narrow),
            Row(1, [1, 2], [0x6f, 0x7f]), Row(1, [1, 2, 3], [0x70], .immediate),
            Row(1, [0, 1], [0x50], [.registers, .generalReg]),
            Row(1, [1], [0xd7], [.registers, .generalReg]),
            Row(1, [1], [0x6e, 0x7e], [.narrow, .general]),
            Row(1, [2], [0x7e], .narrow), Row(1, [1], [0xd6], .narrow),
            Row(1, [2, 3], [0x2a], [.second, .narrow, .general]),
            Row(1, [2, 3], [0x2c, 0x2d], [.narrow, .generalReg]),
            Row(1, [2, 3], [0x10, 0x11], [.second, .narrow, .registers]),
            Row(1, [2, 3], [0x10, 0x11], [.narrow, .memory]),
            Row(1, [0, 1], [0x12, 0x16], [.second, .narrow, .memory]),
            Row(1, [0, 1], [0x13, 0x17], [.narrow, .memory]),
            Row(1, [0], [0x12, 0x16], [.second, .narrow, .registers]),
            Row(1, [1], [0xe7], .memory), Row(1, [3], [0xf0], .memory),
            Row(1, [1], [0xc4], [.second, .immediate, .narrow, .general]),
            Row(1, [1], [0xc5], [.immediate, .narrow, .registers, .generalReg]),
            Row(1, [1], [0x71, 0x72, 0x73], .group),
            Row(
                2, [1], Array(0x00...0x0b) + [0x28, 0x29, 0x2b, 0x37] + Array(0x38...0x40), .second),
            Row(2, [1], [0x0c, 0x0d, 0x46], [.second, .noW]), Row(2, [1], [0x45, 0x47], .second),
            Row(2, [1], [0x16, 0x36], [.second, .noW, .wide]),
            Row(2, [1], fused.filter { $0 & 15 < 9 || $0 & 1 == 0 }, .second),
            Row(2, [1], fused.filter { $0 & 15 >= 9 && $0 & 1 != 0 }, [.second, .narrow]),
            Row(2, [1], [0x17, 0x1c, 0x1d, 0x1e] + Array(0x20...0x25) + Array(0x30...0x35)),
            Row(2, [1], [0x0e, 0x0f, 0x18, 0x58, 0x59, 0x78, 0x79, 0x13], .noW),
            Row(2, [1], [0x19], [.noW, .wide]), Row(2, [1], [0x1a, 0x5a], [.noW, .wide, .memory]),
            Row(2, [1], [0x41], .narrow), Row(2, [1], [0x2a], .memory),
            Row(3, [1], [0x08, 0x09], .immediate),
            Row(3, [1], [0x04, 0x05, 0x1d], [.immediate, .noW]),
            Row(3, [1], [0x0c, 0x0d, 0x0e, 0x0f, 0x40, 0x42], [.second, .immediate]),
            Row(3, [1], [0x0a, 0x0b, 0x41], [.second, .immediate, .narrow]),
            Row(3, [1], [0x02, 0x4a, 0x4b, 0x4c], [.second, .immediate, .noW]),
            Row(3, [1], [0x06, 0x46, 0x18, 0x38], [.second, .immediate, .noW, .wide]),
            Row(3, [1], [0x21], [.second, .immediate, .narrow]),
            Row(3, [1], [0x20, 0x22], [.second, .immediate, .narrow, .general]),
            Row(3, [1], [0x14, 0x15, 0x16, 0x17], [.immediate, .narrow, .general]),
            Row(3, [1], [0x19, 0x39], [.immediate, .noW, .wide]),
            Row(3, [1], [0x00, 0x01], [.immediate, .onlyW, .wide]),
            Row(3, [1], [0x60, 0x61, 0x62, 0x63], [.immediate, .narrow]),
            // Masked moves, and gathers from indices that are small.
            Row(2, [1], [0x2c, 0x2d, 0x2e, 0x2f], [.second, .memory, .noW]),
            Row(2, [1], [0x8c, 0x8e], [.second, .memory]),
        ]
    }()

    /// The registers' area: YMM0…YMM15, RAX, RCX, RDX, RFLAGS; and the memory operand's, 64 bytes.
    private static let registers: UInt64 = 0x21000
    private static let operand: UInt64 = 0x22000

    /// VMOVUPS between a YMM register and its place at [RBX].
    private static func move(_ opcode: UInt8, _ number: UInt8) -> [UInt8] {
        [0xc5, number < 8 ? 0xfc : 0x7c, opcode, 0x83 | (number & 7) << 3]
            + bytes(UInt32(number) * 32)
    }

    /// The instruction between loads and stores of everything; RBX and RSI name the areas.
    static func program(_ instruction: [UInt8]) -> [UInt8] {
        var code: [UInt8] = []
        for number in 0..<16 as Range<UInt8> { code += move(0x10, number) }
        code += [0x48, 0x8b, 0x83] + bytes(512 as UInt32)  // mov rax, [rbx+512]
        code += [0x48, 0x8b, 0x8b] + bytes(520 as UInt32)  // mov rcx
        code += [0x48, 0x8b, 0x93] + bytes(528 as UInt32)  // mov rdx
        code += [0x45, 0x31, 0xc0]  // xor r8d, r8d: flags
        code += instruction
        for number in 0..<16 as Range<UInt8> { code += move(0x11, number) }
        code += [0x48, 0x89, 0x83] + bytes(512 as UInt32)
        code += [0x48, 0x89, 0x8b] + bytes(520 as UInt32)
        code += [0x48, 0x89, 0x93] + bytes(528 as UInt32)
        code += [0x9c, 0x58, 0x25] + bytes(UInt32(RFLAGS.arithmetic))  // pushfq; pop rax; and eax
        code += [0x48, 0x89, 0x83] + bytes(536 as UInt32)
        return code
    }

    private static func encode(
        _ row: Row, _ prefix: UInt8, _ opcode: UInt8, _ choice: UInt64
    ) -> [UInt8] {
        let options = row.options
        let isMemory =
            options.contains(.memory)
            || choice & 3 == 0 && options.isDisjoint(with: [.registers, .group])
        var reg = UInt8(truncatingIfNeeded: choice >> 8) & 15
        var rm = UInt8(truncatingIfNeeded: choice >> 12) & 15
        let second =
            options.isDisjoint(with: [.second, .group])
            ? 0 : UInt8(truncatingIfNeeded: choice >> 16) & 15
        if options.contains(.generalReg) { reg = 0 }
        if options.contains(.general) { rm = 0 }
        if options.contains(.group) {
            let digits: [UInt8] = opcode == 0x73 ? [2, 3, 6, 7] : [2, 4, 6]
            reg = digits[Int(choice >> 8) % digits.count]
        }
        if isMemory { rm = 6 }
        let isLong =
            options.contains(.wide) || !options.contains(.narrow) && choice >> 20 & 1 != 0
        let hasW =
            options.contains(.onlyW) || !options.contains(.noW) && choice >> 21 & 1 != 0
        var code: [UInt8] = [
            0xc4, (reg < 8 ? 0x80 : 0) | 0x40 | (rm < 8 ? 0x20 : 0) | row.map,
            (hasW ? 0x80 : 0) | (~second & 15) << 3 | (isLong ? 4 : 0) | prefix, opcode,
            (isMemory ? 0 : 0xc0) | (reg & 7) << 3 | rm & 7,
        ]
        if !options.isDisjoint(with: [.immediate, .group]) {
            code.append(UInt8(truncatingIfNeeded: choice >> 24))
        }
        return code
    }

    /// A machine in which AVX is enabled.
    static func machine() throws -> BareMachine {
        let machine = try BareMachine(model: .penumbraV3)
        // mov rax, cr4; or eax, 40000h; mov cr4, rax; xor ecx, ecx; mov eax, 7; xor edx, edx;
        // xsetbv; hlt
        let exit = machine.run(
            [
                0x0f, 0x20, 0xe0, 0x0d, 0, 0, 4, 0, 0x0f, 0x22, 0xe0, 0x31, 0xc9, 0xb8, 7, 0, 0, 0,
                0x31, 0xd2, 0x0f, 0x01, 0xd1, 0xf4,
            ], count: 100)
        #expect(exit == .halted)
        return machine
    }

    /// Runs an instruction in the machine and on the host, from the same contents, and compares.
    private func compare(
        _ instruction: [UInt8], _ machine: BareMachine, _ host: ExecutableMemory,
        _ generator: inout SeededGenerator
    ) throws {
        let area = UnsafeMutablePointer<UInt64>.allocate(capacity: 80)
        defer { unsafe area.deallocate() }
        let aligned = unsafe UnsafeMutableRawPointer(area).alignedUp(toMultipleOf: 32)
        let words = unsafe aligned.assumingMemoryBound(to: UInt64.self)
        for index in 0..<76 {
            let choice = generator.next()
            // Numbers that conversions and comparisons make something of, beside random bits.
            let value: UInt64 =
                choice & 3 == 0
                ? [0, .max, 0x3ff0_0000_3f80_0000, 0x4000_0000_c000_0000][Int(choice >> 4) & 3]
                : generator.next()
            unsafe words[index] = value
            let address = index < 68 ? Self.registers + UInt64(index) * 8 : 0
            if index < 68 { machine.memory.store(value, at: MachineAddress(address)) }
        }
        for index in 0..<8 {
            let value = unsafe words[68 + index]
            machine.memory.store(value, at: MachineAddress(Self.operand + UInt64(index) * 8))
        }
        let program = Self.program(instruction)
        machine.processor[.rbx] = Self.registers
        machine.processor[.rsi] = Self.operand
        let hex = instruction.map { String($0, radix: 16) }.joined(separator: " ")
        #expect(machine.run(program + [0xf4], count: 1000) == .halted, "\(hex)")
        // The memory operand of the host must be aligned as the guest's.
        let operand = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
        defer { unsafe operand.deallocate() }
        unsafe operand.copyMemory(from: words + 68, byteCount: 64)
        host.removeAll()
        // push rbx; mov rbx, rdi; …; vzeroupper; pop rbx; ret
        let code = [0x53, 0x48, 0x89, 0xfb] + program + [0xc5, 0xf8, 0x77, 0x5b, 0xc3]
        let entry = try #require(host.append(code))
        typealias Function =
            @convention(c) (UnsafeMutableRawPointer, UnsafeMutableRawPointer) -> Void
        // The bytes above are a leaf function of this signature, in executable memory.
        unsafe unsafeBitCast(entry, to: Function.self)(aligned, operand)
        for index in 0..<68 {
            let value = machine.memory.load(
                UInt64.self, at: MachineAddress(Self.registers + UInt64(index) * 8))
            let expected = unsafe words[index]
            #expect(value == expected, "\(hex): quadword \(index)")
        }
        for index in 0..<8 {
            let value = machine.memory.load(
                UInt64.self, at: MachineAddress(Self.operand + UInt64(index) * 8))
            let expected = unsafe operand.load(fromByteOffset: index * 8, as: UInt64.self)
            #expect(value == expected, "\(hex): memory \(index)")
        }
    }

    @Test("AVX, AVX2, FMA and F16C instructions do what the host's processor does")
    func differential() throws {
        let machine = try Self.machine()
        let host = try #require(ExecutableMemory(capacity: 1 << 16))
        var generator = SeededGenerator(seed: 1)
        var executed = 0
        for row in Self.rows {
            for prefix in row.prefixes {
                for opcode in row.opcodes {
                    for _ in 0..<10 {
                        let code = Self.encode(row, prefix, opcode, generator.next())
                        try compare(code, machine, host, &generator)
                        executed += 1
                    }
                }
            }
        }
        #expect(executed > 3000)
    }

    @Test("gathers load the elements that the mask selects, and clear the mask")
    func gather() throws {
        let machine = try Self.machine()
        // Indices 3, 1, 2, 0 in YMM1 (vpgatherdd) and the mask's second element clear in YMM2.
        for index in 0..<8 as Range<UInt64> {
            let element = SystemMachine.data + 0x2000 + index * 4
            machine.memory.store(UInt32(index * 0x11), at: MachineAddress(element))
            let place = Self.registers + 32 + index * 4
            machine.memory.store(UInt32(7 - index), at: MachineAddress(place))
            machine.memory.store(
                index == 1 ? UInt32(0) : .max, at: MachineAddress(Self.registers + 64 + index * 4))
            machine.memory.store(UInt32(0x77), at: MachineAddress(Self.registers + index * 4))
        }
        machine.processor[.rbx] = Self.registers
        machine.processor[.rsi] = Self.operand
        // vpgatherdd ymm0, [rsi+ymm1*4], ymm2
        let code = Self.program([0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x8e])
        #expect(machine.run(code + [0xf4], count: 1000) == .halted)
        for index in 0..<8 as Range<UInt64> {
            let value = machine.memory.load(
                UInt32.self, at: MachineAddress(Self.registers + index * 4))
            #expect(value == (index == 1 ? 0x77 : UInt32((7 - index) * 0x11)))
            #expect(
                machine.memory.load(
                    UInt32.self, at: MachineAddress(Self.registers + 64 + index * 4)) == 0)
        }
    }

    @Test("AVX needs OSXSAVE, XCR0 and CR0.TS clear; the model needs AVX")
    func permission() throws {
        // vxorps ymm0, ymm0, ymm0; hlt
        let code: [UInt8] = [0xc5, 0xfc, 0x57, 0xc0, 0xf4]
        let machine = try SystemMachine(.long, model: .penumbraV3)
        machine.run(code)
        #expect(machine.haltedVector == 6)
        machine.run(ControlTests.moveToControl(4, CR4.osXSAVE | CR4.osFXSR | 0x20))
        machine.run(code)
        #expect(machine.haltedVector == 6)
        func enable(_ components: UInt8) -> [UInt8] {
            // xor ecx, ecx; mov eax, components; xor edx, edx; xsetbv; hlt
            [0x31, 0xc9, 0xb8, components, 0, 0, 0, 0x31, 0xd2, 0x0f, 0x01, 0xd1, 0xf4]
        }
        machine.run(enable(5))
        #expect(machine.haltedVector == 13)
        machine.run(enable(3))
        machine.run(code)
        #expect(machine.haltedVector == 6)
        machine.run(enable(7))
        machine.run(code)
        #expect(machine.haltedVector == nil)
        machine.run(ControlTests.moveToControl(0, 0x8001_0019))
        machine.run(code)
        #expect(machine.haltedVector == 7)
        let without = try SystemMachine(.long)
        without.run(ControlTests.moveToControl(4, CR4.osXSAVE | 0x20))
        without.run(enable(7))
        #expect(without.haltedVector == 13)
    }

    @Test("aligned moves fault on other addresses, and others do not")
    func alignment() throws {
        for (code, faults) in [
            // vmovaps ymm0, [rsi]; vmovups ymm0, [rsi]; vaddps ymm0, ymm0, [rsi];
            // vmovaps xmm0, [rsi]
            ([0xc5, 0xfc, 0x28, 0x06], true), ([0xc5, 0xfc, 0x10, 0x06], false),
            ([0xc5, 0xfc, 0x58, 0x06], false), ([0xc5, 0xf8, 0x28, 0x06], false),
        ] as [([UInt8], Bool)] {
            let machine = try Self.machine()
            machine.processor[.rsi] = Self.operand + 16
            // A fault without an IDT ends in shutdown.
            #expect(machine.run(code + [0xf4], count: 100) == (faults ? .tripleFault : .halted))
        }
    }

    @Test("XSAVE and XRSTOR keep the upper halves")
    func extendedState() throws {
        let machine = try Self.machine()
        for index in 0..<64 as Range<UInt64> {
            machine.memory.store(
                index &* 0x0101_0101, at: MachineAddress(Self.registers + index * 8))
        }
        machine.processor[.rbx] = Self.registers
        machine.processor[.rsi] = Self.operand
        // mov eax, 7; xor edx, edx; xsave [rsi]; vzeroall; xrstor [rsi]
        let code = Self.program([
            0xb8, 7, 0, 0, 0, 0x31, 0xd2, 0x0f, 0xae, 0x26, 0xc5, 0xfc, 0x77, 0x0f, 0xae, 0x2e,
        ])
        #expect(machine.run(code + [0xf4], count: 1000) == .halted)
        for index in 0..<64 as Range<UInt64> {
            let value = machine.memory.load(
                UInt64.self, at: MachineAddress(Self.registers + index * 8))
            #expect(value == index &* 0x0101_0101)
        }
        // The upper half of YMM1 stands behind the header.
        #expect(
            machine.memory.load(UInt64.self, at: MachineAddress(Self.operand + 592))
                == 6 * 0x0101_0101)
    }
}
