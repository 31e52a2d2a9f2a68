import CZydis

/// Every encoding of one code size that may be tried, by mnemonic.
struct Forms {
    /// One encoding, short of registers and addresses.
    struct Form {
        enum Space { case legacy, vex }
        var space: Space
        var map: UInt8
        /// 0: none, 1: 66, 2: F3, 3: F2; as VEX.pp has them.
        var prefix: UInt8
        var opcode: UInt8
        var hasModRM: Bool
        /// ModRM, of which the address is chosen anew in a memory form.
        var modRM: UInt8
        var isWide = false
        var isLong = false
        var immediate: Int
    }

    private(set) var byMnemonic: [[Form]] = []

    init(_ size: CodeSize) {
        var listing = Listing(size)
        var groups: [UInt32: [Form]] = [:]
        func consider(_ form: Form) {
            var form = form
            let bytes =
                form.bytes(rex: form.isWide && form.space == .legacy ? 0x48 : 0)
                + [UInt8](repeating: 0, count: 12)
            guard let facts = listing.facts(bytes), Self.isAllowed(facts) else { return }
            if facts.hasModRM != form.hasModRM { return }
            form.immediate = facts.immediate.bytes
            groups[facts.mnemonic.rawValue, default: []].append(form)
        }
        for map in 0..<4 as Range<UInt8> {
            for opcode in 0..<256 as Range<Int> {
                let opcode = UInt8(opcode)
                if map == 0 && Self.isPrefix(opcode, size) { continue }
                for prefix in 0..<4 as Range<UInt8> {
                    consider(
                        Form(
                            space: .legacy, map: map, prefix: prefix, opcode: opcode,
                            hasModRM: false, modRM: 0, immediate: 0))
                    for modRM in (0..<256).map({ UInt8($0) })
                    where modRM >= 0xc0 || modRM & 0xc7 == 0x05 {
                        consider(
                            Form(
                                space: .legacy, map: map, prefix: prefix, opcode: opcode,
                                hasModRM: true, modRM: modRM, immediate: 0))
                    }
                }
            }
        }
        for map in 1..<4 as Range<UInt8> {
            for opcode in 0..<256 as Range<Int> {
                for mix in 0..<16 as Range<UInt8> {
                    for modRM in [0xc1, 0xc9, 0xd1, 0xd9, 0xe1, 0xf1, 5, 13, 21, 29, 0x35]
                        as [UInt8]
                    {
                        consider(
                            Form(
                                space: .vex, map: map, prefix: mix & 3, opcode: UInt8(opcode),
                                hasModRM: true, modRM: modRM, isWide: mix & 4 != 0,
                                isLong: mix & 8 != 0, immediate: 0))
                    }
                }
            }
        }
        byMnemonic = groups.sorted { $0.key < $1.key }.map(\.value)
    }

    private static func isPrefix(_ opcode: UInt8, _ size: CodeSize) -> Bool {
        switch opcode {
        case 0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64...0x67, 0xf0, 0xf2, 0xf3, 0xc4, 0xc5, 0x62, 0x8f:
            opcode != 0x62 || size == .bits64
        case 0x40...0x4f: size == .bits64
        default: false
        }
    }

    private static let extensions: Set<UInt32> = Set(
        [
            ZYDIS_ISA_EXT_BASE, ZYDIS_ISA_EXT_LONGMODE, ZYDIS_ISA_EXT_X87, ZYDIS_ISA_EXT_MMX,
            ZYDIS_ISA_EXT_SSE, ZYDIS_ISA_EXT_SSE2, ZYDIS_ISA_EXT_SSE3, ZYDIS_ISA_EXT_SSSE3,
            ZYDIS_ISA_EXT_SSE4, ZYDIS_ISA_EXT_AVX, ZYDIS_ISA_EXT_AVX2, ZYDIS_ISA_EXT_AVX2GATHER,
            ZYDIS_ISA_EXT_FMA, ZYDIS_ISA_EXT_F16C, ZYDIS_ISA_EXT_BMI1, ZYDIS_ISA_EXT_BMI2,
            ZYDIS_ISA_EXT_LZCNT, ZYDIS_ISA_EXT_MOVBE, ZYDIS_ISA_EXT_CLFSH, ZYDIS_ISA_EXT_PAUSE,
        ].map(\.rawValue))
    /// What enters the system, or leaves what the host lets a process do: never executed. What
    /// returns or jumps by a register could run in a circle.
    private static let categories: Set<UInt32> = Set(
        [
            ZYDIS_CATEGORY_SYSTEM, ZYDIS_CATEGORY_SYSCALL, ZYDIS_CATEGORY_SYSRET,
            ZYDIS_CATEGORY_INTERRUPT, ZYDIS_CATEGORY_IO, ZYDIS_CATEGORY_IOSTRINGOP,
            ZYDIS_CATEGORY_SEGOP, ZYDIS_CATEGORY_RET, ZYDIS_CATEGORY_XSAVE,
            ZYDIS_CATEGORY_XSAVEOPT, ZYDIS_CATEGORY_AES, ZYDIS_CATEGORY_PCLMULQDQ,
        ].map(\.rawValue))
    /// What differs between processors: the addresses of the last x87 instruction, CPUID, selectors
    /// of the host's tables.
    private static let mnemonics: Set<UInt32> = Set(
        [
            ZYDIS_MNEMONIC_CPUID, ZYDIS_MNEMONIC_FNSAVE, ZYDIS_MNEMONIC_FNSTENV,
            ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXSAVE64, ZYDIS_MNEMONIC_LAR,
            ZYDIS_MNEMONIC_LSL, ZYDIS_MNEMONIC_VERR, ZYDIS_MNEMONIC_VERW, ZYDIS_MNEMONIC_SIDT,
            ZYDIS_MNEMONIC_SGDT, ZYDIS_MNEMONIC_SLDT, ZYDIS_MNEMONIC_STR, ZYDIS_MNEMONIC_SMSW,
            ZYDIS_MNEMONIC_INT, ZYDIS_MNEMONIC_INT1, ZYDIS_MNEMONIC_INT3, ZYDIS_MNEMONIC_INTO,
            ZYDIS_MNEMONIC_RDTSC, ZYDIS_MNEMONIC_RDTSCP, ZYDIS_MNEMONIC_RDPMC,
            ZYDIS_MNEMONIC_XGETBV, ZYDIS_MNEMONIC_POPF, ZYDIS_MNEMONIC_POPFD,
            ZYDIS_MNEMONIC_POPFQ, ZYDIS_MNEMONIC_CALL, ZYDIS_MNEMONIC_JMP, ZYDIS_MNEMONIC_LSS,
            ZYDIS_MNEMONIC_LFS, ZYDIS_MNEMONIC_LGS, ZYDIS_MNEMONIC_LDS, ZYDIS_MNEMONIC_LES,
            ZYDIS_MNEMONIC_HLT, ZYDIS_MNEMONIC_ARPL,
        ].map(\.rawValue))

    static func isAllowed(_ facts: Listing.Facts) -> Bool {
        extensions.contains(facts.isaExtension.rawValue)
            && !categories.contains(facts.category.rawValue)
            && !mnemonics.contains(facts.mnemonic.rawValue)
    }

    /// ENTER, of whose frame some processors leave a part in memory before a fault.
    static func isEnter(_ facts: Listing.Facts) -> Bool {
        facts.mnemonic == ZYDIS_MNEMONIC_ENTER
    }

    /// POPA, which on AMD's processors leaves in registers what was read before a fault.
    static func isPopAll(_ facts: Listing.Facts) -> Bool {
        facts.mnemonic == ZYDIS_MNEMONIC_POPA || facts.mnemonic == ZYDIS_MNEMONIC_POPAD
    }

    /// Whether the model is known to raise #GP where a stack address is not canonical.
    static func isKnownStackFault(_ facts: Listing.Facts) -> Bool {
        switch facts.mnemonic {
        case ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64, ZYDIS_MNEMONIC_VMASKMOVPS,
            ZYDIS_MNEMONIC_VMASKMOVPD, ZYDIS_MNEMONIC_VPMASKMOVD, ZYDIS_MNEMONIC_VPMASKMOVQ:
            true
        default: false
        }
    }

    static func isMaskedMove(_ facts: Listing.Facts) -> Bool {
        switch facts.mnemonic {
        case ZYDIS_MNEMONIC_MASKMOVQ, ZYDIS_MNEMONIC_MASKMOVDQU, ZYDIS_MNEMONIC_VMASKMOVDQU: true
        default: false
        }
    }

    /// Whether of several missing bytes any may be the one that CR2 names.
    static func touchesInAnyOrder(_ facts: Listing.Facts) -> Bool {
        switch facts.mnemonic {
        case ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64, ZYDIS_MNEMONIC_FRSTOR,
            ZYDIS_MNEMONIC_FLDENV, ZYDIS_MNEMONIC_ENTER:
            true
        default: false
        }
    }

    /// What processors differ in, where each is right: REP before LOOPcc, VEX.W of
    /// VPINSRD and VPEXTRD outside 64-bit code (ignored by Intel's, #UD on AMD's), the prefetches'
    /// register form (#UD on AMD's).
    static func isPortable(_ bytes: [UInt8], _ facts: Listing.Facts, _ size: CodeSize) -> Bool {
        switch facts.mnemonic {
        case ZYDIS_MNEMONIC_LOOPE, ZYDIS_MNEMONIC_LOOPNE, ZYDIS_MNEMONIC_LOOP:
            !facts.hasRepeat
        case ZYDIS_MNEMONIC_VPINSRD, ZYDIS_MNEMONIC_VPEXTRD: size == .bits64
        case ZYDIS_MNEMONIC_NOP: !(facts.hasModRM && !facts.hasMemory)
        // Flags of an unmasked stack fault are as before on Intel's, and set on AMD's.
        case ZYDIS_MNEMONIC_FCOMI, ZYDIS_MNEMONIC_FCOMIP, ZYDIS_MNEMONIC_FUCOMI,
            ZYDIS_MNEMONIC_FUCOMIP:
            false
        default: true
        }
    }
}

extension Forms.Form {
    /// Prefix, opcode and ModRM, without an address or immediate.
    func bytes(rex: UInt8, vvvv: UInt8 = 0, extra: [UInt8] = []) -> [UInt8] {
        let prefixes: [[UInt8]] = [[], [0x66], [0xf3], [0xf2]]
        let maps: [[UInt8]] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]]
        let tail = hasModRM ? [opcode, modRM] : [opcode]
        switch space {
        case .legacy:
            return extra + prefixes[Int(prefix & 3)] + (rex != 0 ? [rex] : [])
                + maps[Int(map & 3)] + tail
        case .vex:
            let long: UInt8 = isLong ? 4 : 0
            return extra + [
                0xc4, (~rex & 7) << 5 | map,
                (isWide ? 0x80 : 0) | (~vvvv & 15) << 3 | long | prefix,
            ] + tail
        }
    }
}
