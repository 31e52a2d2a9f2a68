import X86

/// Privilege and mode: what follows from CR0, EFER, CS and EFLAGS.VM.
extension Core {
    /// Recomputes `State.mode` after CR0.PE, EFER.LMA, CS or EFLAGS.VM changed, chooses the
    /// software-TLB bank, and leaves the block, whose ops were decoded for the old mode.
    func updateMode() {
        let code = self[.cs]
        if !isProtected {
            state.mode = .real16
            state.cpl = 0
        } else if state.systemFlags & RFLAGS.virtual8086 != 0 {
            state.mode = .virtual8086
            state.cpl = 3
        } else if isLongModeActive && code.has(Segment.long) {
            state.mode = .long64
        } else {
            state.mode = code.has(Segment.big) ? .protected32 : .protected16
        }
        selectBank()
        leaveBlock()
    }

    /// Whether the processor is in virtual-8086 mode.
    var isVirtual8086: Bool { state.mode == .virtual8086 }

    /// Whether segment registers hold paragraphs, not selectors.
    var usesParagraphs: Bool { state.mode == .real16 || state.mode == .virtual8086 }

    /// The current privilege level as the low bits of a selector.
    var privilegeBits: UInt16 { UInt16(state.cpl) }

    /// Loads CS from a checked descriptor at privilege `level`, and RIP; sets CPL and the mode.
    func enterCode(_ descriptor: Descriptor, _ selector: UInt16, level: UInt8, rip: UInt64) {
        self[.cs] = descriptor.segment(selector & ~3 | UInt16(level))
        state.cpl = level
        state.rip = rip
        updateMode()
    }

    /// Loads a segment register as real-address and virtual-8086 mode do (SDM Vol. 3B §20.1.1,
    /// §20.2.1).
    func loadParagraph(_ register: SegmentRegister, _ value: UInt16) {
        var segment = self[register]
        segment.selector = value
        segment.base = UInt64(value) << 4
        if isVirtual8086 {
            segment.limit = 0xffff
            segment.attributes = 0xf3
        }
        self[register] = segment
    }

    /// Sets or clears ZF alone.
    func setZeroFlag(_ zero: Bool) {
        setArithmeticFlags(arithmeticFlags & ~RFLAGS.zero | (zero ? RFLAGS.zero : 0))
    }

    /// Truncates to an operand size of 2, 4 or 8 bytes.
    @inline(__always)
    static func truncate(_ value: UInt64, _ width: UInt8) -> UInt64 {
        switch width {
        case 2: value & 0xffff
        case 4: value & 0xffff_ffff
        default: value
        }
    }
}
