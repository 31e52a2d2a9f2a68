import X86

extension Processor {
    /// A 64-bit digest of all architectural registers, vector state included: FNV-1a over 8-byte
    /// words, for comparing runs.
    ///
    /// Not in it are the time-stamp counter, which the platform keeps, and what the interpreter
    /// holds beside the architecture.
    public var registerDigest: UInt64 {
        var digest = WordDigest()
        for register in GeneralRegister.allCases { digest.add(core[register]) }
        digest.add(core.state.rip)
        digest.add(core.flags)
        for register in SegmentRegister.allCases { digest.add(core[register]) }
        digest.add(core.state.ldtr)
        digest.add(core.state.taskRegister)
        for table in [core.state.gdtr, core.state.idtr] {
            digest.add(table.base)
            digest.add(UInt64(table.limit))
        }
        addControl(&digest)
        addModelSpecific(&digest)
        var word: UInt64 = 0
        for (index, byte) in vector.image.enumerated() {
            word |= UInt64(byte) << UInt64(index % 8 * 8)
            if index % 8 == 7 {
                digest.add(word)
                word = 0
            }
        }
        digest.add(word)
        if model.has(.avx) {
            for number in UInt8(0)..<16 {
                digest.add(vector.block[VectorBlock.upper(number)])
                digest.add(vector.block[VectorBlock.upper(number) + 8])
            }
        }
        return digest.value
    }

    private func addControl(_ digest: inout WordDigest) {
        let core = core
        digest.add(core.state.cr0)
        digest.add(core.state.cr2)
        digest.add(core.state.cr3)
        digest.add(core.state.cr4)
        digest.add(core.state.efer)
        // They mean nothing in other forms, and keep what they had.
        if pagingRules?.form == .pae {
            for number in 0..<4 { digest.add(core.state.pointers[number]) }
        }
        digest.add(core.state.xcr0)
        if core.state.keyRights != 0 { digest.add(UInt64(core.state.keyRights)) }
        for number in 0..<4 { digest.add(core.state.debugAddresses[number]) }
        digest.add(core.state.dr6)
        digest.add(core.state.dr7)
        digest.add(UInt64(core.state.cpl))
        digest.add(core.state.interruptShadow ? 1 : 0)
        digest.add(core.state.nmiBlocked ? 1 : 0)
        digest.add((core.state.isHalted ? 1 : 0) | (core.state.waitsForStartup ? 2 : 0))
    }

    private func addModelSpecific(_ digest: inout WordDigest) {
        let core = core
        for value in [
            core.state.star, core.state.longSTAR, core.state.compatibilitySTAR,
            core.state.systemCallFlagMask, core.state.kernelGSBase, core.state.sysenterCS,
            core.state.sysenterESP, core.state.sysenterEIP, core.state.pat, core.state.tscAux,
            core.state.tscOffset, core.state.tscAdjust, core.state.miscEnable,
            core.state.speculationControl, core.state.randomState,
        ] {
            digest.add(value)
        }
        if core.state.debugControl != 0 { digest.add(core.state.debugControl) }
        for change in core.state.typeRanges.changes {
            digest.add(change.place)
            digest.add(change.value)
        }
    }
}

/// FNV-1a over 64-bit words, with a shift that carries high bits down.
private struct WordDigest {
    var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func add(_ word: UInt64) {
        value = (value ^ word) &* 0x0000_0100_0000_01b3
        value ^= value >> 29
    }

    mutating func add(_ segment: Segment) {
        add(segment.base)
        add(
            UInt64(segment.limit) | UInt64(segment.selector) << 32
                | UInt64(segment.attributes) << 48)
    }
}
