import CZydis
import X86

/// Which flags a sequence leaves undefined, by Zydis's tables and what they cannot say.
enum FlagFlow {
    private static let shifts: Set<UInt32> = Set(
        [
            ZYDIS_MNEMONIC_SHL, ZYDIS_MNEMONIC_SHR, ZYDIS_MNEMONIC_SAR, ZYDIS_MNEMONIC_ROL,
            ZYDIS_MNEMONIC_ROR, ZYDIS_MNEMONIC_RCL, ZYDIS_MNEMONIC_RCR, ZYDIS_MNEMONIC_SHLD,
            ZYDIS_MNEMONIC_SHRD,
        ].map(\.rawValue))
    private static let readers: Set<UInt32> = Set(
        [
            ZYDIS_MNEMONIC_PUSHF, ZYDIS_MNEMONIC_PUSHFD, ZYDIS_MNEMONIC_PUSHFQ,
            ZYDIS_MNEMONIC_LAHF, ZYDIS_MNEMONIC_SALC, ZYDIS_MNEMONIC_RCL, ZYDIS_MNEMONIC_RCR,
        ].map(\.rawValue))

    /// The undefined flags after each instruction, if no instruction looks at one; otherwise nil.
    /// An encoding that Zydis does not know ends the sequence.
    static func undefined(_ code: [[UInt8]], _ listing: inout Listing) -> [UInt64]? {
        var flags: UInt64 = 0
        var hasJump = false
        var list: [UInt64] = []
        for bytes in code {
            if let facts = listing.facts(bytes) {
                if facts.tested & flags != 0 { return nil }
                if flags != 0 && readers.contains(facts.mnemonic.rawValue) { return nil }
                let isShift = shifts.contains(facts.mnemonic.rawValue)
                if !hasJump && !isShift && !facts.hasRepeat { flags &= ~facts.modified }
                flags |= facts.undefined & RFLAGS.arithmetic
                if isShift { flags |= RFLAGS.overflow | RFLAGS.adjust }
                if isShift && facts.operandWidth < 32 { flags |= RFLAGS.carry }
                hasJump = hasJump || facts.isRelative
            }
            list.append(flags)
        }
        return list
    }
}
