import CZydis
import X86

/// What of the guest's vector state translated code has in the host's own registers.
enum VectorResidence: UInt8, Comparable {
    case none
    /// XMM registers and MXCSR.
    case xmm
    /// The x87 registers with their control and status too.
    case x87

    static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// The guest's vector registers in the host's.
///
/// *Problem.* Moving registers between the state and the host around each instruction costs more
/// than most instructions.
///
/// *Approach.* The first block that uses XMM registers brings all sixteen, and MXCSR, into the
/// host's; they stay there over all that follows, until translated code is left or Swift is called,
/// before which they are put back. A block that uses x87 instructions brings those registers as
/// well, by FXRSTOR. Each such block asks once, by a word in the state, whether they are there.
///
/// They are brought only where no instruction of the kind can fault for reasons of CR0, CR4 or
/// unmasked exceptions; otherwise the block is the interpreter's (`Core.permits`). What changes
/// these reasons leaves the block.
enum VectorTransfer {
    private static let cr0Bits = UInt8(truncatingIfNeeded: CR0.emulation | CR0.taskSwitched)

    static func bringXMM(_ a: inout Assembler) {
        check(&a, x87: false) { a in
            multimediaControl(&a, 3, VectorBlock.hostMXCSR)
            takeXMM(&a)
        }
    }

    static func bringX87(_ a: inout Assembler) {
        check(&a, x87: true) { a in
            a.instruction(HostEncoding(opcode: 0x83), 7, StateField.xmmAbsent)  // cmp …, 0
            a.bytes(0)
            let absent = a.jump(if: 5)
            // FXRSTOR takes everything from the state.
            putXMM(&a)
            let both = a.jump()
            a.bind(absent)
            multimediaControl(&a, 3, VectorBlock.hostMXCSR)
            a.bind(both)
            // fnstcw
            a.instruction(
                HostEncoding(opcode: 0xd9), 7, StateField.vector(VectorBlock.hostFCW), wide: false)
            takeX87(&a)
            clear(&a, StateField.x87Absent)
        }
    }

    /// Puts what is in host registers back; RAX is lost.
    static func put(_ a: inout Assembler) {
        let hasNoX87 = skipUnlessX87(&a)
        putX87(&a)
        let done = a.jump()
        a.bind(hasNoX87)
        putXMM(&a)
        a.bind(done)
        multimediaControl(&a, 2, VectorBlock.hostMXCSR)
        a.bytes(0xc3)
    }

    /// The reverse.
    static func take(_ a: inout Assembler) {
        let hasNoX87 = skipUnlessX87(&a)
        takeX87(&a)
        a.bytes(0xc3)
        a.bind(hasNoX87)
        takeXMM(&a)
        a.bytes(0xc3)
    }

    private static func skipUnlessX87(_ a: inout Assembler) -> Int {
        a.instruction(HostEncoding(opcode: 0x83), 7, StateField.x87Absent)  // cmp …, 0
        a.bytes(0)
        return a.jump(if: 5)
    }

    /// Does `bring` if that is permitted, with flags and RAX saved in R10 and R11. RCX is then 0.
    private static func check(
        _ a: inout Assembler, x87: Bool, _ bring: (inout Assembler) -> Void
    ) {
        let rax = HostRegister.rax
        let rcx = HostRegister.rcx
        a.move(GuestRegisters.first, rax)
        a.saveFlags()
        a.move(GuestRegisters.second, rax)
        // The reasons against it, in ECX.
        let load = HostEncoding.moveToRegister
        let or = HostEncoding(opcode: 0x0b)
        a.instruction(load, rcx, StateField.cr0, wide: false)
        a.bytes(0x83, 0xe1, cr0Bits)  // and ecx, …
        a.instruction(load, rax, StateField.cr4, wide: false)
        a.bytes(0xf7, 0xd0, 0x25)  // not eax; and eax, …
        a.imm32(Int32(truncatingIfNeeded: CR4.osFXSR))
        a.instruction(or, rcx, .register(rax), wide: false)
        a.instruction(or, rcx, StateField.vector(VectorBlock.unmaskedFlags), wide: false)
        if x87 {
            a.instruction(load, rax, StateField.vector(VectorBlock.image), wide: false)
            a.bytes(0xf7, 0xd0)  // not eax
            a.bytes(0x83, 0xe0, UInt8(truncatingIfNeeded: X87Status.exceptions))  // and eax, …
            a.instruction(or, rcx, .register(rax), wide: false)
        }
        a.bytes(0x85, 0xc9)  // test ecx, ecx
        let refused = a.jump(if: 5)
        bring(&a)
        clear(&a, StateField.xmmAbsent)
        a.bind(refused)
        a.move(rax, GuestRegisters.second)
        a.restoreFlags()
        a.move(rax, GuestRegisters.first)
        a.bytes(0xc3)
    }

    private static func clear(_ a: inout Assembler, _ field: HostOperand) {
        a.instruction(.moveImmediate, 0, field)
        a.imm32(0)
    }

    /// LDMXCSR (2) or STMXCSR (3).
    private static func multimediaControl(_ a: inout Assembler, _ which: UInt8, _ offset: UInt16) {
        a.instruction(
            HostEncoding(map: 1, opcode: 0xae), which, StateField.vector(offset), wide: false)
    }

    private static func takeXMM(_ a: inout Assembler) {
        moveAll(&a, 0x28)
        multimediaControl(&a, 2, VectorBlock.image + 24)
    }

    private static func putXMM(_ a: inout Assembler) {
        moveAll(&a, 0x29)
        multimediaControl(&a, 3, VectorBlock.image + 24)
    }

    /// MOVAPS of all registers.
    private static func moveAll(_ a: inout Assembler, _ opcode: UInt8) {
        for number in 0..<16 as Range<UInt8> {
            a.instruction(
                HostEncoding(map: 1, opcode: opcode), number,
                StateField.vector(VectorBlock.xmm(number)), wide: false)
        }
    }

    /// FXRSTOR64, XMM registers and MXCSR included.
    private static func takeX87(_ a: inout Assembler) {
        a.instruction(
            HostEncoding(map: 1, opcode: 0xae), 1, StateField.vector(VectorBlock.image))
    }

    /// FXSAVE64, and what it must not tell; the host's x87 state is as a C function expects it.
    private static func putX87(_ a: inout Assembler) {
        a.instruction(
            HostEncoding(map: 1, opcode: 0xae), 0, StateField.vector(VectorBlock.image))
        let fop = HostEncoding.moveImmediate
        a.instruction(
            fop, 0, StateField.vector(VectorBlock.image + 6), wide: false, narrow: true)
        a.bytes(0, 0)
        clear(&a, StateField.vector(VectorBlock.image + 8))
        clear(&a, StateField.vector(VectorBlock.image + 16))
        a.instruction(fop, 0, StateField.vector(VectorBlock.image + 28), wide: false)
        a.imm32(Int32(truncatingIfNeeded: VectorBlock.mxcsrMask))
        a.bytes(0xdb, 0xe3)  // fninit
        a.instruction(
            HostEncoding(opcode: 0xd9), 5, StateField.vector(VectorBlock.hostFCW), wide: false)
    }
}

extension Core {
    /// Whether translated code may have this part of the vector state in host registers: none of
    /// its instructions can fault but for its memory operand. `VectorTransfer` asks the same.
    @inline(__always)
    func permits(_ vectors: VectorResidence) -> Bool {
        if vectors == .none { return true }
        let block = vector
        let unmasked: UInt32 = block[VectorBlock.unmaskedFlags]
        return state.cr0 & (CR0.emulation | CR0.taskSwitched) == 0 && state.cr4 & CR4.osFXSR != 0
            && unmasked == 0
            && (vectors == .xmm || block.fcw & X87Status.exceptions == X87Status.exceptions)
    }

    /// To be called where MXCSR or the x87 control word changed: what unmasks an exception leaves
    /// the block.
    func masksChanged(_ block: VectorBlock) {
        let unmasked: UInt32 = block[VectorBlock.unmaskedFlags]
        if unmasked != 0 || block.fcw & X87Status.exceptions != X87Status.exceptions {
            leaveBlock()
        }
    }
}
