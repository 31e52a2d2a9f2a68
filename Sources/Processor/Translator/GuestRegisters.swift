import X86

/// Which host register holds which guest register while translated code runs.
///
/// Those that instructions name implicitly, and whose second bytes exist, are themselves; so most
/// encodings need no change. RSP is the host's stack, and RCX a scratch register since JRCXZ is the
/// only branch that asks no flag.
///
/// | host | holds |
/// |---|---|
/// | RAX RDX RBX RBP RSI RDI R8 R12 R13 | the guest's register of that name |
/// | R9, R14 | the guest's RCX, RSP |
/// | R15 | the address of the guest's state, plus 128 so that more is in reach of short displacements |
/// | RCX, R10, R11 | scratch |
/// | RSP | the host's stack, 16-byte aligned in a block |
/// | flags | the guest's CF, PF, AF, ZF, SF and OF |
///
/// The guest's R9, R10, R11, R14 and R15 stay in the state.
enum GuestRegisters {
    static let state: UInt8 = 15
    static let bias = 128
    /// The address of a memory operand, a jump's target, or a guest register that has no host one.
    static let first: UInt8 = 10
    /// An index, or a guest register that has no host one.
    static let second: UInt8 = 11
    static let scratch = HostRegister.rcx

    /// The host register that holds a guest register; nil for those in the state.
    static func host(_ guest: UInt8) -> UInt8? {
        switch guest & 15 {
        case 0, 2, 3, 5, 6, 7, 8, 12, 13: guest & 15
        case 1: 9
        case 4: 14
        default: nil
        }
    }

    static let stackPointer: UInt8 = 14
    static let counter: UInt8 = 9

    /// The operand at an offset in the state.
    static func at(_ offset: Int) -> HostOperand { .at(state, Int32(offset - bias)) }

    /// Element `index` (a register) of an array of quadwords at an offset from the state.
    static func at(_ offset: Int, index: UInt8) -> HostOperand {
        .memory(base: state, index: index, scale: 3, displacement: Int32(offset - bias))
    }

    static func guest(_ register: UInt8) -> HostOperand { at(Int(register) * 8) }
}
