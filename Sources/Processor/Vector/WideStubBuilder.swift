/// Generates the host code that executes one AVX instruction on the guest's vector state.
///
/// Stubs are called as `StubBuilder`'s are, and return what those return. The lower halves of YMM
/// registers lie in the image of FXSAVE, the upper ones behind it.
struct WideStubBuilder {
    private var code: [UInt8] = []

    /// What the stub has to provide for.
    struct Plan {
        /// The re-encoded instruction, its memory operand at [RDI], its general register RAX.
        var instruction: [UInt8] = []
        /// The vector registers that it reads or writes, and those that it writes.
        var loads: [UInt8] = []
        var stores: [UInt8] = []
        /// The general register that RAX stands for.
        var input: UInt8?
        var output: UInt8?
        /// VPCMPESTRx reads EAX and EDX.
        var readsLengths = false
        /// VPCMPxSTRI writes ECX.
        var writesIndex = false
        var writesFlags = false
        var usesMXCSR = false
    }

    static func build(_ plan: Plan) -> [UInt8] {
        var builder = WideStubBuilder()
        builder.make(plan)
        return builder.code
    }

    private mutating func make(_ plan: Plan) {
        if plan.usesMXCSR {
            multimediaControl(3, VectorBlock.hostMXCSR)
            multimediaControl(2, VectorBlock.workingMXCSR)
        }
        for number in plan.loads {
            move(0x28, number)
            half(0x18, number, source: number)
        }
        if plan.writesFlags { emit(0x31, 0xc0) }  // xor eax, eax
        if let input = plan.input { emit(0x48, 0x8b, 0x46, input &* 8) }  // mov rax, [rsi+8n]
        if plan.readsLengths {
            emit(0x48, 0x8b, 0x06)  // mov rax, [rsi]
            emit(0x48, 0x8b, 0x56, 16)  // mov rdx, [rsi+16]
        }
        code += plan.instruction
        if plan.writesFlags {
            emit(0x9c, 0x58, 0x48, 0x89, 0x47, UInt8(VectorBlock.flags))  // pushfq; pop rax; mov
        }
        var jump: Int?
        if plan.usesMXCSR {
            // The index that the instruction left in RCX is kept in RDX.
            if plan.writesIndex { emit(0x48, 0x89, 0xca) }
            multimediaControl(3, VectorBlock.resultMXCSR)
            multimediaControl(2, VectorBlock.hostMXCSR)
            emit(0x8b, 0x4f, UInt8(VectorBlock.resultMXCSR))  // mov ecx, [result]
            emit(0x83, 0xe1, 0x3f)  // and ecx, 3fh
            emit(0x85, 0x4f, UInt8(VectorBlock.unmaskedFlags))  // test [unmasked], ecx
            emit(0x0f, 0x85, 0, 0, 0, 0)  // jnz
            jump = code.count
            emit(0x09, 0x8f)  // or [mxcsr], ecx
            emit32(UInt32(VectorBlock.image) + 24)
            if plan.writesIndex { emit(0x48, 0x89, 0xd1) }
        }
        for number in plan.stores {
            move(0x29, number)
            half(0x19, number, source: 0)
        }
        if let output = plan.output { emit(0x48, 0x89, 0x46, output &* 8) }  // mov [rsi+8n], rax
        if plan.writesIndex { emit(0x48, 0x89, 0x4e, 8) }  // mov [rsi+8], rcx
        emit(0xc5, 0xf8, 0x77, 0x31, 0xc0, 0xc3)  // vzeroupper; xor eax, eax; ret
        if let jump {
            code[jump - 4] = UInt8(truncatingIfNeeded: code.count - jump)
            code[jump - 3] = UInt8(truncatingIfNeeded: (code.count - jump) >> 8)
            emit(0xc5, 0xf8, 0x77, 0x89, 0xc8, 0xc3)  // vzeroupper; mov eax, ecx; ret
        }
    }

    /// VMOVAPS between an XMM register and its place: 28h loads, 29h stores.
    private mutating func move(_ opcode: UInt8, _ number: UInt8) {
        code += VEX(map: 1, last: 0x78, reg: number).bytes
        emit(opcode, 0x87 | (number & 7) << 3)
        emit32(UInt32(VectorBlock.xmm(number)))
    }

    /// VINSERTF128 (18h) and VEXTRACTF128 (19h) of the upper half.
    private mutating func half(_ opcode: UInt8, _ number: UInt8, source: UInt8) {
        // L is 1, the mandatory prefix 66.
        code += VEX(map: 3, last: (~source & 15) << 3 | 4 | 1, reg: number).bytes
        emit(opcode, 0x87 | (number & 7) << 3)
        emit32(UInt32(VectorBlock.upper(number)))
        emit(1)
    }

    /// LDMXCSR (2) and STMXCSR (3) of a slot.
    private mutating func multimediaControl(_ operation: UInt8, _ slot: UInt16) {
        emit(0x0f, 0xae, 0x47 | operation << 3, UInt8(truncatingIfNeeded: slot))
    }

    private mutating func emit(_ bytes: UInt8...) { code += bytes }

    private mutating func emit32(_ value: UInt32) {
        for byte in 0..<4 { code.append(UInt8(truncatingIfNeeded: value >> UInt32(8 * byte))) }
    }
}
