import CZydis
import X86

/// A decoded instruction in Penumbra's terms: what Zydis found, with the C unions resolved.
struct Instruction {
    var mnemonic: ZydisMnemonic
    /// The extension of the architecture that it came with.
    var isaSet: ZydisISASet
    /// In bytes, 1…15.
    var length: UInt8
    /// The effective operand size in bytes: 1, 2, 4, 8.
    var operandBytes: UInt8
    /// The effective address size in bytes: 2, 4, 8.
    var addressBytes: UInt8
    /// `OpPrefix` bits.
    var prefixes: UInt8
    /// The operands that the assembler syntax shows, explicit and implicit.
    var operands: InlineArray<5, Operand>
    var operandCount: Int
    var bytes: InlineArray<15, UInt8>
    var encoding: Encoding
    /// Whether it reads or writes any of CF, PF, AF, ZF, SF, OF.
    var touchesFlags = false

    /// Where the parts of the encoding lie, for re-encoding; offsets in bytes from the start.
    struct Encoding {
        var opcode: UInt8 = 0
        /// 0: the one-byte map, 1: 0F, 2: 0F 38, 3: 0F 3A (others: not legacy).
        var map: UInt8 = 0
        /// Whether the instruction is in the legacy encoding space (no VEX, EVEX, XOP, 3DNow).
        var isLegacy = true
        var hasREX = false
        var rexOffset: UInt8 = 0
        var hasModRM = false
        var modRMOffset: UInt8 = 0
        var mod: UInt8 = 0
        /// The 3-bit fields without their REX extension.
        var reg: UInt8 = 0
        var rm: UInt8 = 0
        var hasSIB = false
        var displacementBytes: UInt8 = 0
        var immediateBytes: UInt8 = 0
        var immediateOffset: UInt8 = 0
        /// Whether it is 64-bit code.
        var is64 = false
    }

    /// The segment of an operand that ModRM does not name: DS, or the last override. In 64-bit code
    /// only FS and GS override anything (SDM Vol. 1 §3.4.4).
    var implicitSegment: UInt8 {
        var segment = SegmentRegister.ds
        for index in 0..<Int(length) {
            switch bytes[index % 15] {
            case 0x26: if !encoding.is64 { segment = .es }
            case 0x2e: if !encoding.is64 { segment = .cs }
            case 0x36: if !encoding.is64 { segment = .ss }
            case 0x3e: if !encoding.is64 { segment = .ds }
            case 0x64: segment = .fs
            case 0x65: segment = .gs
            case 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x40...0x4f: continue
            default: return segment.rawValue
            }
        }
        return segment.rawValue
    }

    /// The reg field with its extension by REX.
    var reg: UInt8 { encoding.reg | (rex & 4) << 1 }
    /// The rm field with its extension by REX, of a register.
    var rm: UInt8 { encoding.rm | (rex & 1) << 3 }
    /// REX; 0 where there is none.
    var rex: UInt8 { encoding.hasREX ? bytes[Int(encoding.rexOffset) % 15] : 0 }

    subscript(_ index: Int) -> Operand { index < operandCount ? operands[index] : .none }
}

/// One operand of an instruction.
enum Operand {
    case none
    case register(ZydisRegister, bytes: UInt16)
    case memory(MemoryOperand)
    /// Sign-extended as the instruction does; `relative`: to the next instruction.
    case immediate(UInt64, relative: Bool)
    case pointer(segment: UInt16, offset: UInt32)

    var isMemory: Bool { if case .memory = self { true } else { false } }
    var isRegister: Bool { if case .register = self { true } else { false } }
    /// The size in bytes of a register or memory operand; 0 of others.
    var bytes: UInt16 {
        switch self {
        case .register(_, let bytes): bytes
        case .memory(let memory): memory.bytes
        default: 0
        }
    }
    /// The register, or `ZYDIS_REGISTER_NONE`.
    var register: ZydisRegister {
        if case .register(let register, _) = self { register } else { ZYDIS_REGISTER_NONE }
    }
}

struct MemoryOperand {
    var bytes: UInt16
    var segment: ZydisRegister
    var base: ZydisRegister
    var index: ZydisRegister
    /// log2 of the scale, 0…3.
    var scale: UInt8
    /// Sign-extended.
    var displacement: UInt64
}

/// Zydis, for one code size.
@safe struct InstructionDecoder {
    private var decoder = ZydisDecoder()

    init(_ mode: CodeMode, _ model: ProcessorModel) {
        switch mode {
        case .real16, .virtual8086:
            unsafe ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16)
        case .protected16:
            unsafe ZydisDecoderInit(
                &decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16)
        case .protected32:
            unsafe ZydisDecoderInit(
                &decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32)
        case .long64:
            unsafe ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)
        }
        // What the model does not offer decodes as processors without it decode it: as NOPs, BSF
        // and BSR.
        for absent in [
            ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_WBNOINVD,
            ZYDIS_DECODER_MODE_CLDEMOTE,
        ] {
            unsafe ZydisDecoderEnableMode(&decoder, absent, 0)
        }
        if !model.has(.lzcnt) {
            unsafe ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_LZCNT, 0)
        }
        if !model.has(.bmi1) {
            unsafe ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_TZCNT, 0)
        }
    }

    /// Decodes the instruction at the start of `bytes`.
    mutating func decode(_ bytes: Span<UInt8>) -> Result {
        var raw = unsafe ZydisDecodedInstruction()
        return unsafe withUnsafeTemporaryAllocation(
            of: ZydisDecodedOperand.self, capacity: Int(ZYDIS_MAX_OPERAND_COUNT)
        ) { operands in
            let status = unsafe bytes.withUnsafeBytes {
                unsafe ZydisDecoderDecodeFull(
                    &decoder, $0.baseAddress, ZyanUSize($0.count), &raw, operands.baseAddress)
            }
            // Zyan status codes: bit 31 marks failure (Zycore/Status.h).
            if status & 0x8000_0000 != 0 {
                return switch status {
                case Self.noMoreData: .truncated
                case Self.tooLong: .tooLong
                default: .invalid
                }
            }
            if unsafe raw.mnemonic == ZYDIS_MNEMONIC_PAUSE && raw.raw.rex.B != 0 {
                // With REX.B, F3 90 is XCHG of R8 with RAX (SDM Vol. 2B, XCHG); F3 means nothing.
                var others: [UInt8] = []
                for index in bytes.indices {
                    others.append(bytes[index] == 0xf3 ? 0x3e : bytes[index])
                }
                return decode(others.span)
            }
            return unsafe .instruction(Self.convert(&raw, UnsafeBufferPointer(operands), bytes))
        }
    }

    enum Result {
        case instruction(Instruction)
        /// More bytes are needed.
        case truncated
        /// No instruction starts with these bytes.
        case invalid
        /// The instruction would be longer than 15 bytes.
        case tooLong
    }

    /// ZYDIS_STATUS_NO_MORE_DATA: module 2, code 0, with the error bit (Zydis/Status.h).
    private static let noMoreData: UInt32 = 0x8000_0000 | 2 << 20
    /// ZYDIS_STATUS_INSTRUCTION_TOO_LONG: code 2.
    private static let tooLong: UInt32 = noMoreData | 2

    private static func convert(
        _ raw: inout ZydisDecodedInstruction, _ operands: UnsafeBufferPointer<ZydisDecodedOperand>,
        _ bytes: Span<UInt8>
    ) -> Instruction {
        var encoding = Instruction.Encoding()
        unsafe encoding.opcode = raw.opcode
        unsafe encoding.map = UInt8(truncatingIfNeeded: raw.opcode_map.rawValue)
        unsafe encoding.isLegacy = raw.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY
        let attributes = unsafe raw.attributes
        encoding.hasREX = attributes & (1 << 2) != 0
        unsafe encoding.rexOffset = raw.raw.rex.offset
        encoding.hasModRM = attributes & (1 << 0) != 0
        unsafe encoding.modRMOffset = raw.raw.modrm.offset
        unsafe encoding.mod = raw.raw.modrm.mod
        unsafe encoding.reg = raw.raw.modrm.reg
        unsafe encoding.rm = raw.raw.modrm.rm
        encoding.hasSIB = attributes & (1 << 1) != 0
        unsafe encoding.displacementBytes = raw.raw.disp.size / 8
        unsafe encoding.immediateBytes = (raw.raw.imm.0.size + raw.raw.imm.1.size) / 8
        unsafe encoding.immediateOffset = raw.raw.imm.0.offset
        unsafe encoding.is64 = raw.machine_mode == ZYDIS_MACHINE_MODE_LONG_64
        var instruction = unsafe Instruction(
            mnemonic: raw.mnemonic, isaSet: raw.meta.isa_set, length: raw.length,
            operandBytes: raw.operand_width / 8, addressBytes: raw.address_width / 8, prefixes: 0,
            operands: InlineArray(repeating: .none),
            operandCount: min(Int(raw.operand_count_visible), 5),
            bytes: InlineArray(repeating: 0), encoding: encoding)
        if let flags = unsafe raw.cpu_flags?.pointee {
            let any =
                flags.tested | flags.modified | flags.set_0 | flags.set_1 | flags.undefined
            instruction.touchesFlags = UInt64(any) & RFLAGS.arithmetic != 0
        }
        for index in 0..<Int(instruction.length) where index < bytes.count {
            instruction.bytes[index] = bytes[index]
        }
        for index in 0..<Int(unsafe raw.raw.prefix_count) {
            switch instruction.bytes[index % 15] {
            case 0xf0: instruction.prefixes |= OpPrefix.lock
            case 0xf3:
                instruction.prefixes = instruction.prefixes & ~OpPrefix.repne | OpPrefix.rep
            case 0xf2:
                instruction.prefixes = instruction.prefixes & ~OpPrefix.rep | OpPrefix.repne
            case 0x66: instruction.prefixes |= OpPrefix.operandSize
            default: break
            }
        }
        if encoding.hasREX {
            instruction.prefixes |= OpPrefix.rex
            if unsafe raw.raw.rex.W != 0 { instruction.prefixes |= OpPrefix.rexW }
        }
        for index in 0..<instruction.operandCount {
            instruction.operands[index] = unsafe convert(operands[index])
            // Whatever REX.B or VEX.B is, this SIB means a displacement without a base (SDM Vol. 2A
            // Table 2-5); Zydis 4.0 takes it for R13D where addresses have 32 bits.
            if unsafe encoding.hasSIB && encoding.mod == 0 && raw.raw.sib.base == 5,
                case .memory(var memory) = instruction.operands[index]
            {
                memory.base = ZYDIS_REGISTER_NONE
                unsafe memory.displacement = UInt64(bitPattern: raw.raw.disp.value)
                instruction.operands[index] = .memory(memory)
            }
        }
        return instruction
    }

    private static func convert(_ operand: ZydisDecodedOperand) -> Operand {
        let bytes = operand.size / 8
        switch operand.type {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            return .register(operand.reg.value, bytes: bytes)
        case ZYDIS_OPERAND_TYPE_MEMORY:
            let memory = operand.mem
            return .memory(
                MemoryOperand(
                    bytes: bytes, segment: memory.segment, base: memory.base, index: memory.index,
                    scale: UInt8(memory.scale == 0 ? 0 : memory.scale.trailingZeroBitCount),
                    displacement: UInt64(bitPattern: memory.disp.value)))
        case ZYDIS_OPERAND_TYPE_IMMEDIATE:
            return .immediate(
                unsafe operand.imm.value.u, relative: operand.imm.is_relative != 0)
        case ZYDIS_OPERAND_TYPE_POINTER:
            return .pointer(
                segment: operand.ptr.segment, offset: operand.ptr.offset)
        default: return .none
        }
    }
}
