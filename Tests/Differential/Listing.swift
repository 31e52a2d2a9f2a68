import CZydis

/// Zydis for one code size: what an instruction is, and how it is written.
@safe package struct Listing {
    private var decoder = ZydisDecoder()
    private var formatter = ZydisFormatter()

    /// What the generator asks of an instruction.
    struct Facts {
        var length = 0
        var mnemonic = ZYDIS_MNEMONIC_INVALID
        var category = ZYDIS_CATEGORY_INVALID
        var isaExtension = ZYDIS_ISA_EXT_INVALID
        var isLegacy = true
        var tested: UInt64 = 0
        var modified: UInt64 = 0
        var undefined: UInt64 = 0
        var hasModRM = false
        /// Where ModRM, SIB, displacement and immediate lie.
        var modRM = 0
        var displacement = (offset: 0, bytes: 0)
        var immediate = (offset: 0, bytes: 0)
        var isRelative = false
        var hasOperandPrefix = false
        var hasRepeat = false
        var operandWidth = 0
        /// A memory operand's registers by number, nil where there is none; 16 is RIP.
        var base: Int?
        var index: Int?
        var scale: UInt64 = 1
        var offset: UInt64 = 0
        var hasMemory = false
        var addressWidth = 64
        /// Whether FS or GS is the segment.
        var isBased = false
    }

    package init(_ size: CodeSize) {
        switch size {
        case .bits64:
            unsafe ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
        case .bits32:
            unsafe ZydisDecoderInit(
                &decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32)
        }
        for absent in [
            ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_WBNOINVD,
            ZYDIS_DECODER_MODE_CLDEMOTE,
        ] {
            unsafe ZydisDecoderEnableMode(&decoder, absent, 0)
        }
        unsafe ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)
    }

    /// The instruction at the start of `bytes`; nil where there is none.
    mutating func facts(_ bytes: [UInt8]) -> Facts? {
        var raw = unsafe ZydisDecodedInstruction()
        return unsafe withUnsafeTemporaryAllocation(
            of: ZydisDecodedOperand.self, capacity: Int(ZYDIS_MAX_OPERAND_COUNT)
        ) { operands in
            let status = unsafe ZydisDecoderDecodeFull(
                &decoder, bytes, ZyanUSize(bytes.count), &raw, operands.baseAddress)
            guard status & 0x8000_0000 == 0 else { return nil }
            var facts = Facts()
            unsafe facts.length = Int(raw.length)
            unsafe facts.mnemonic = raw.mnemonic
            unsafe facts.category = raw.meta.category
            unsafe facts.isaExtension = raw.meta.isa_ext
            unsafe facts.isLegacy = raw.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY
            if let flags = unsafe raw.cpu_flags {
                unsafe facts.tested = UInt64(flags.pointee.tested)
                unsafe facts.modified = UInt64(
                    flags.pointee.modified | flags.pointee.set_0 | flags.pointee.set_1)
                unsafe facts.undefined = UInt64(flags.pointee.undefined)
            }
            unsafe facts.hasModRM = raw.attributes & 1 != 0
            unsafe facts.modRM = Int(raw.raw.modrm.offset)
            unsafe facts.displacement = (Int(raw.raw.disp.offset), Int(raw.raw.disp.size) / 8)
            unsafe facts.immediate = (Int(raw.raw.imm.0.offset), Int(raw.raw.imm.0.size) / 8)
            unsafe facts.isRelative = raw.raw.imm.0.is_relative != 0
            unsafe facts.operandWidth = Int(raw.operand_width)
            unsafe facts.addressWidth = Int(raw.address_width)
            for index in 0..<Int(facts.length) {
                let byte = bytes[index]
                if byte == 0x66 { facts.hasOperandPrefix = true }
                if byte == 0xf2 || byte == 0xf3 { facts.hasRepeat = true }
                guard
                    [0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65].contains(
                        byte)
                else { break }
            }
            for index in 0..<Int(unsafe raw.operand_count) {
                let operand = unsafe operands[index]
                guard operand.type == ZYDIS_OPERAND_TYPE_MEMORY, !facts.hasMemory else { continue }
                facts.hasMemory = true
                facts.base = Self.number(operand.mem.base)
                facts.index = Self.number(operand.mem.index)
                facts.scale = UInt64(operand.mem.scale)
                facts.offset = UInt64(bitPattern: operand.mem.disp.value)
                facts.isBased =
                    operand.mem.segment == ZYDIS_REGISTER_FS
                    || operand.mem.segment == ZYDIS_REGISTER_GS
            }
            return facts
        }
    }

    private static func number(_ register: ZydisRegister) -> Int? {
        switch ZydisRegisterGetClass(register) {
        case ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64:
            Int(ZydisRegisterGetId(register))
        case ZYDIS_REGCLASS_IP: 16
        default: nil
        }
    }

    /// The instruction in Intel's notation.
    package mutating func text(_ bytes: [UInt8], at address: UInt64) -> String {
        var raw = unsafe ZydisDecodedInstruction()
        return unsafe withUnsafeTemporaryAllocation(
            of: ZydisDecodedOperand.self, capacity: Int(ZYDIS_MAX_OPERAND_COUNT)
        ) { operands in
            let status = unsafe ZydisDecoderDecodeFull(
                &decoder, bytes, ZyanUSize(bytes.count), &raw, operands.baseAddress)
            guard status & 0x8000_0000 == 0 else { return "?" }
            return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
                guard let start = buffer.baseAddress else { return "?" }
                unsafe start.initialize(repeating: 0, count: 256)
                unsafe ZydisFormatterFormatInstruction(
                    &formatter, &raw, operands.baseAddress, raw.operand_count_visible, start, 256,
                    address, nil)
                return unsafe String(cString: start)
            }
        }
    }

    /// Bytes as hexadecimal digits.
    package static func hex(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
    }
}
