import CZydis
import Processor
import Testing

/// The assembler's encodings against Zydis's decoder.
@Suite struct AssemblerTests {
    /// What Zydis makes of one instruction.
    private struct Decoded {
        var mnemonic: ZydisMnemonic
        var operands: [ZydisDecodedOperand]

        /// The second operand's immediate.
        var immediate: UInt64 { unsafe operands[1].imm.value.u }
    }

    private func decode(_ code: [UInt8]) throws -> Decoded {
        var decoder = ZydisDecoder()
        unsafe ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
        var instruction = unsafe ZydisDecodedInstruction()
        var operands = [ZydisDecodedOperand](
            repeating: ZydisDecodedOperand(), count: Int(ZYDIS_MAX_OPERAND_COUNT))
        let status = unsafe ZydisDecoderDecodeFull(
            &decoder, code, ZyanUSize(code.count), &instruction, &operands)
        try #require(status & 0x8000_0000 == 0, "\(code)")
        let length = unsafe Int(instruction.length)
        try #require(length == code.count, "\(code)")
        return unsafe Decoded(mnemonic: instruction.mnemonic, operands: operands)
    }

    private func register(_ number: UInt8, _ first: ZydisRegister = ZYDIS_REGISTER_RAX)
        -> ZydisRegister
    {
        ZydisRegister(rawValue: first.rawValue + UInt32(number))
    }

    @Test("moves and LEA name the registers, scales and displacements that were asked for")
    func memoryOperands() throws {
        var count = 0
        for reg in 0..<16 as Range<UInt8> {
            for base in 0..<16 as Range<UInt8> {
                for index in [nil, 0, 5, 9, 12, 13, 15] as [UInt8?] {
                    for displacement in [0, 8, -128, 128, -70000] as [Int32] {
                        for scale in 0..<(index == nil ? 1 : 4) as Range<UInt8> {
                            var assembler = Assembler()
                            let operand = HostOperand.memory(
                                base: base, index: index, scale: scale, displacement: displacement)
                            let wide = count % 2 == 0
                            let encoding = [
                                HostEncoding.moveToRegister, .moveFromRegister, .loadAddress,
                            ][count % 3]
                            assembler.instruction(encoding, reg, operand, wide: wide)
                            let decoded = try decode(assembler.code)
                            let place = count % 3 == 1 ? 1 : 0
                            let named = decoded.operands[place]
                            let memory = decoded.operands[1 - place]
                            #expect(
                                named.reg.value
                                    == register(
                                        reg, wide ? ZYDIS_REGISTER_RAX : ZYDIS_REGISTER_EAX))
                            #expect(memory.mem.base == register(base))
                            #expect(
                                memory.mem.index
                                    == (index.map { register($0) } ?? ZYDIS_REGISTER_NONE))
                            #expect(index == nil || memory.mem.scale == 1 << scale)
                            #expect(memory.mem.disp.value == Int64(displacement))
                            count += 1
                        }
                    }
                }
            }
        }
        #expect(count > 20000)
    }

    @Test("PEXT, RORX and constants name what was asked for")
    func others() throws {
        for a in 0..<16 as Range<UInt8> {
            for b in 0..<16 as Range<UInt8> {
                var assembler = Assembler()
                assembler.extract(a, b, mask: .at(15, 104))
                var decoded = try decode(assembler.code)
                #expect(decoded.mnemonic == ZYDIS_MNEMONIC_PEXT)
                #expect(decoded.operands[0].reg.value == register(a))
                #expect(decoded.operands[1].reg.value == register(b))
                #expect(decoded.operands[2].mem.base == ZYDIS_REGISTER_R15)
                #expect(decoded.operands[2].mem.disp.value == 104)
                assembler = Assembler()
                assembler.rotate(a, b, by: 12)
                decoded = try decode(assembler.code)
                #expect(decoded.mnemonic == ZYDIS_MNEMONIC_RORX)
                #expect(decoded.operands[0].reg.value == register(a))
                #expect(decoded.operands[1].reg.value == register(b))
            }
            for value in [0, 1, 0xffff_ffff, 0xffff_ffff_8000_0000, 1 << 40] as [UInt64] {
                var assembler = Assembler()
                assembler.constant(a, value)
                let decoded = try decode(assembler.code)
                #expect(decoded.mnemonic == ZYDIS_MNEMONIC_MOV)
                // Zydis shows the immediate of a 32-bit MOV sign-extended.
                let mask = decoded.operands[0].size == 32 ? UInt64(UInt32.max) : .max
                #expect(decoded.immediate & mask == value)
            }
        }
    }

    @Test("the second byte of a register and what needs REX exclude each other")
    func highBytes() throws {
        let move = HostEncoding(opcode: 0x8a, byteReg: true, byteRM: true)
        var assembler = Assembler()
        let mixed = assembler.instruction(
            move, HostRegister.highByte, .register(9), wide: false)
        #expect(!mixed)
        #expect(assembler.code.isEmpty)
        let plain = assembler.instruction(
            move, HostRegister.highByte | 3, .register(2), wide: false)
        #expect(plain)
        var decoded = try decode(assembler.code)
        #expect(decoded.operands[0].reg.value == ZYDIS_REGISTER_BH)
        #expect(decoded.operands[1].reg.value == ZYDIS_REGISTER_DL)
        assembler = Assembler()
        assembler.instruction(move, 6, .register(14), wide: false)
        decoded = try decode(assembler.code)
        #expect(decoded.operands[0].reg.value == ZYDIS_REGISTER_SIL)
    }
}
