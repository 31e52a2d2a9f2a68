import CZydis

/// Which instructions of a block leave flags that something may see.
enum FlagUse {
    /// Going backwards: at the end of the block everything is seen, and before an instruction that
    /// may fault too. It is not before one that sets all six without looking at them.
    static func seen(_ instructions: [Instruction]) -> [Bool] {
        var seen = [Bool](repeating: true, count: instructions.count)
        var live = true
        for index in instructions.indices.reversed() {
            seen[index] = live
            live = before(instructions[index], live)
        }
        return seen
    }

    private static func before(_ i: Instruction, _ live: Bool) -> Bool {
        for index in 0..<i.operandCount where i[index].isMemory {
            // LEA alone names memory without touching it.
            if i.mnemonic != ZYDIS_MNEMONIC_LEA { return true }
        }
        if VectorSelection.residence(i) != .none, !i.touchesFlags { return live }
        switch i.mnemonic {
        case ZYDIS_MNEMONIC_ADD, ZYDIS_MNEMONIC_SUB, ZYDIS_MNEMONIC_CMP, ZYDIS_MNEMONIC_AND,
            ZYDIS_MNEMONIC_OR, ZYDIS_MNEMONIC_XOR, ZYDIS_MNEMONIC_TEST, ZYDIS_MNEMONIC_NEG,
            ZYDIS_MNEMONIC_IMUL, ZYDIS_MNEMONIC_MUL:
            return false
        case ZYDIS_MNEMONIC_MOV, ZYDIS_MNEMONIC_MOVZX, ZYDIS_MNEMONIC_MOVSX, ZYDIS_MNEMONIC_MOVSXD,
            ZYDIS_MNEMONIC_LEA, ZYDIS_MNEMONIC_NOT, ZYDIS_MNEMONIC_CDQE, ZYDIS_MNEMONIC_CDQ,
            ZYDIS_MNEMONIC_CQO, ZYDIS_MNEMONIC_CWDE, ZYDIS_MNEMONIC_NOP, ZYDIS_MNEMONIC_BSWAP:
            // Moves of segment and control registers are no moves.
            for index in 0..<i.operandCount {
                if case .register(let register, _) = i[index], !RegisterOffset.isGeneral(register) {
                    return true
                }
            }
            return live
        default: return true
        }
    }
}
