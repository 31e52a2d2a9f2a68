/// Generates the host code that executes one guest instruction on the guest's vector state.
///
/// Stubs are leaf functions of two arguments: RDI, the `VectorBlock`; RSI, the `State`, whose
/// general registers come first. They use RAX, RCX, RDX and vector registers, all of them the
/// caller's to save, and leave MXCSR and the x87 control word as they were. They return 0, or the
/// SIMD exception flags if one of them is unmasked, having written no state.
struct StubBuilder {
    private(set) var code: [UInt8] = []

    /// What the stub has to provide for.
    struct Plan {
        /// The re-encoded instruction, its memory operand at [RDI], its general register RAX.
        var instruction: [UInt8] = []
        /// The vector registers that it reads or writes, and those that it writes.
        var loads: [UInt8] = []
        var stores: [UInt8] = []
        /// An AVX instruction: these registers are whole YMM registers.
        var isWide = false
        /// The general register that RAX stands for.
        var input: UInt8?
        var output: UInt8?
        /// PCMPESTRx and VPCMPESTRx read EAX and EDX.
        var readsLengths = false
        /// PCMPxSTRI and VPCMPxSTRI write ECX.
        var writesIndex = false
        var readsFlags = false
        var writesFlags = false
        var usesMXCSR = false
        /// x87 or MMX registers take part: the whole state is loaded and saved.
        var usesX87 = false
    }

    static func build(_ plan: Plan) -> [UInt8] {
        var builder = StubBuilder()
        if plan.usesX87 {
            builder.wholeState(plan)
        } else {
            builder.namedRegisters(plan)
        }
        return builder.code
    }

    /// SSE or AVX alone: the registers that the instruction names are loaded and stored.
    private mutating func namedRegisters(_ plan: Plan) {
        if plan.usesMXCSR {
            stmxcsr(VectorBlock.hostMXCSR)
            ldmxcsr(VectorBlock.workingMXCSR)
        }
        for number in plan.loads {
            if plan.isWide { loadWide(number) } else { moveXMM(0x28, number) }
        }
        run(plan)
        var jump: Int?
        if plan.usesMXCSR {
            stmxcsr(VectorBlock.resultMXCSR)
            ldmxcsr(VectorBlock.hostMXCSR)
            jump = testExceptions()
            orExceptions()
        }
        for number in plan.stores {
            if plan.isWide { storeWide(number) } else { moveXMM(0x29, number) }
        }
        storeGeneral(plan)
        if plan.isWide { clearUpper() }
        returnZero()
        if let jump {
            patch(jump)
            if plan.isWide { clearUpper() }
            returnExceptions()
        }
    }

    /// x87 and MMX: FXRSTOR, the instruction, FXSAVE. An unmasked x87 exception becomes pending
    /// in the saved FSW and never reaches the host: neither FXSAVE nor FNINIT looks at it.
    private mutating func wholeState(_ plan: Plan) {
        emit(0xd9, 0x7f, slot(VectorBlock.hostFCW))  // fnstcw
        stmxcsr(VectorBlock.hostMXCSR)
        emit(0x48, 0x0f, 0xae, 0x8f)  // fxrstor64
        emit32(UInt32(VectorBlock.image))
        if plan.usesMXCSR { ldmxcsr(VectorBlock.workingMXCSR) }
        run(plan)
        var jump: Int?
        if plan.usesMXCSR {
            stmxcsr(VectorBlock.resultMXCSR)
            // Back to the guest's own, so that FXSAVE leaves it in the image.
            emit(0x0f, 0xae, 0x97)  // ldmxcsr
            emit32(UInt32(VectorBlock.image) + 24)
            jump = testExceptions()
        }
        storeGeneral(plan)
        emit(0x48, 0x0f, 0xae, 0x87)  // fxsave64
        emit32(UInt32(VectorBlock.image))
        if plan.usesMXCSR { orExceptions() }
        emit(0x31, 0xc0)  // xor eax, eax: FOP, FIP and FDP stay zero
        emit(0x66, 0x89, 0x87)
        emit32(UInt32(VectorBlock.image) + 6)
        emit(0x48, 0x89, 0x87)
        emit32(UInt32(VectorBlock.image) + 8)
        emit(0x48, 0x89, 0x87)
        emit32(UInt32(VectorBlock.image) + 16)
        emit(0xc7, 0x87)  // MXCSR_MASK is the guest's, not the host's
        emit32(UInt32(VectorBlock.image) + 28)
        emit32(VectorBlock.mxcsrMask)
        restoreHost()
        returnZero()
        if let jump {
            patch(jump)
            restoreHost()
            returnExceptions()
        }
    }

    /// The instruction, between what it needs in general registers and flags and what it leaves.
    private mutating func run(_ plan: Plan) {
        if plan.readsFlags {
            emit(0xff, 0x77, slot(VectorBlock.flags), 0x9d)  // push [flags]; popfq
        } else if plan.writesFlags {
            emit(0x31, 0xc0)  // xor eax, eax: defined flags where the instruction leaves some
        }
        if let input = plan.input { emit(0x48, 0x8b, 0x46, input &* 8) }  // mov rax, [rsi+8n]
        if plan.readsLengths {
            emit(0x48, 0x8b, 0x06)  // mov rax, [rsi]
            emit(0x48, 0x8b, 0x56, 16)  // mov rdx, [rsi+16]
        }
        code += plan.instruction
        if plan.writesFlags {
            emit(0x9c, 0x58, 0x48, 0x89, 0x47, slot(VectorBlock.flags))  // pushfq; pop rax; mov
        }
    }

    private mutating func storeGeneral(_ plan: Plan) {
        if let output = plan.output { emit(0x48, 0x89, 0x46, output &* 8) }  // mov [rsi+8n], rax
        if plan.writesIndex { emit(0x48, 0x89, 0x4e, 8) }  // mov [rsi+8], rcx
    }

    /// ECX := the new exception flags; jumps if one is unmasked. Keeps RAX.
    /// - Returns: where the jump's distance lies.
    private mutating func testExceptions() -> Int {
        emit(0x8b, 0x4f, slot(VectorBlock.resultMXCSR))  // mov ecx, [result]
        emit(0x83, 0xe1, 0x3f)  // and ecx, 3fh
        emit(0x85, 0x4f, slot(VectorBlock.unmaskedFlags))  // test [unmasked], ecx
        emit(0x0f, 0x85)  // jnz
        emit32(0)
        return code.count - 4
    }

    private mutating func orExceptions() {
        emit(0x09, 0x8f)  // or [mxcsr], ecx
        emit32(UInt32(VectorBlock.image) + 24)
    }

    private mutating func returnExceptions() { emit(0x89, 0xc8, 0xc3) }  // mov eax, ecx; ret

    /// Makes the jump whose 4-byte distance is at `place` lead here.
    private mutating func patch(_ place: Int) {
        let distance = UInt32(code.count - place - 4)
        for byte in 0..<4 {
            code[place + byte] = UInt8(truncatingIfNeeded: distance >> UInt32(8 * byte))
        }
    }

    private mutating func restoreHost() {
        emit(0xdb, 0xe3)  // fninit: no exception pending, all registers empty
        emit(0xd9, 0x6f, slot(VectorBlock.hostFCW))  // fldcw
        ldmxcsr(VectorBlock.hostMXCSR)
    }

    private mutating func returnZero() { emit(0x31, 0xc0, 0xc3) }

    private mutating func stmxcsr(_ offset: UInt16) { emit(0x0f, 0xae, 0x5f, slot(offset)) }
    private mutating func ldmxcsr(_ offset: UInt16) { emit(0x0f, 0xae, 0x57, slot(offset)) }

    /// MOVAPS between an XMM register and its place in the image: 28h loads, 29h stores.
    private mutating func moveXMM(_ opcode: UInt8, _ number: UInt8) {
        if number > 7 { emit(0x44) }
        emit(0x0f, opcode, 0x87 | (number & 7) << 3)
        emit32(UInt32(VectorBlock.xmm(number)))
    }

    /// A slot's offset as an 8-bit displacement: slots lie below 128.
    private func slot(_ offset: UInt16) -> UInt8 { UInt8(truncatingIfNeeded: offset) }

    mutating func append(_ bytes: some Sequence<UInt8>) { code += bytes }

    mutating func emit(_ bytes: UInt8...) { code += bytes }

    mutating func emit32(_ value: UInt32) {
        for byte in 0..<4 { code.append(UInt8(truncatingIfNeeded: value >> UInt32(8 * byte))) }
    }
}
