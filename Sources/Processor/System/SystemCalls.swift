import X86

/// SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, and the FS and GS base instructions
/// (SDM Vol. 3A §5.8.7, §5.8.8; Vol. 2B).
enum SystemCalls {
    /// Flat segments: what these instructions load without reading a descriptor.
    private static func flat(_ selector: UInt16, code: Bool, level: UInt8, long: Bool) -> Segment {
        var attributes: UInt16 =
            Segment.granular | Segment.present | Segment.codeOrData | Segment.accessed
            | Segment.writable | UInt16(level) << 5
        if code { attributes |= Segment.code }
        attributes |= long ? Segment.long : Segment.big
        return Segment(base: 0, limit: .max, selector: selector, attributes: attributes)
    }

    private static func enter(
        _ core: Core, code: UInt16, stack: UInt16, level: UInt8, long: Bool, rip: UInt64
    ) {
        core[.cs] = flat(code, code: true, level: level, long: long)
        core[.ss] = flat(stack, code: false, level: level, long: false)
        core.state.cpl = level
        core.state.rip = rip
    }

    static let systemCall: Handler = {
        plain($0, $1) { core, op in
            guard core.is64, core.state.efer & EFER.systemCallEnable != 0 else {
                return core.invalidOpcode()
            }
            core[.rcx] = core.nextRIP(op)
            core[.r11] = core.flags & ~RFLAGS.resume
            let selector = UInt16(truncatingIfNeeded: core.state.star >> 32) & 0xfffc
            enter(
                core, code: selector, stack: selector &+ 8, level: 0, long: true,
                rip: core.state.longSTAR)
            core.setFlags(core.flags & ~(core.state.systemCallFlagMask | RFLAGS.resume))
            core.updateMode()
            stepByNewFlag(core)
            return .jump
        }
    }

    static let systemReturn: Handler = {
        plain($0, $1) { core, op in
            guard core.is64, core.state.efer & EFER.systemCallEnable != 0 else {
                return core.invalidOpcode()
            }
            guard core.state.cpl == 0 else { return core.generalProtection() }
            let base = UInt16(truncatingIfNeeded: core.state.star >> 48)
            let isLong = op.has(OpPrefix.rexW)
            if isLong {
                guard core.isCanonical(core[.rcx]) else {
                    return core.generalProtection()
                }
            }
            enter(
                core, code: (isLong ? base &+ 16 : base) | 3, stack: base &+ 8 | 3, level: 3,
                long: isLong, rip: isLong ? core[.rcx] : core[.rcx] & 0xffff_ffff)
            core.setFlags(core[.r11] & 0x3c_7fd7)
            core.updateMode()
            stepByNewFlag(core)
            return .jump
        }
    }

    /// SYSCALL and SYSRET trap by the TF that they leave, not by the one they found.
    private static func stepByNewFlag(_ core: Core) {
        core.state.stepRule = .none
        if core.state.systemFlags & RFLAGS.trap != 0 {
            core.state.debugConditions |= DebugStatus.singleStep
        }
    }

    static let systemEnter: Handler = {
        plain($0, $1) { core, _ in
            let selector = UInt16(truncatingIfNeeded: core.state.sysenterCS) & 0xfffc
            guard core.isProtected, selector != 0 else { return core.generalProtection() }
            let isLong = core.isLongModeActive
            core.setFlags(core.flags & ~(RFLAGS.virtual8086 | RFLAGS.interruptEnable))
            enter(
                core, code: selector, stack: selector &+ 8, level: 0, long: isLong,
                rip: isLong ? core.state.sysenterEIP : core.state.sysenterEIP & 0xffff_ffff)
            core[.rsp] = isLong ? core.state.sysenterESP : core.state.sysenterESP & 0xffff_ffff
            core.updateMode()
            return .jump
        }
    }

    static let systemExit: Handler = {
        plain($0, $1) { core, op in
            let selector = UInt16(truncatingIfNeeded: core.state.sysenterCS) & 0xfffc
            guard core.isProtected, selector != 0, core.state.cpl == 0 else {
                return core.generalProtection()
            }
            let isLong = op.has(OpPrefix.rexW)
            let rip = isLong ? core[.rdx] : core[.rdx] & 0xffff_ffff
            let rsp = isLong ? core[.rcx] : core[.rcx] & 0xffff_ffff
            guard core.isCanonical(rip), core.isCanonical(rsp)
            else { return core.generalProtection() }
            enter(
                core, code: selector &+ (isLong ? 32 : 16) | 3,
                stack: selector &+ (isLong ? 40 : 24) | 3, level: 3, long: isLong, rip: rip)
            core[.rsp] = rsp
            core.updateMode()
            return .jump
        }
    }

    static let swapGS: Handler = {
        plain($0, $1) { core, _ in
            guard core.is64 else { return core.invalidOpcode() }
            guard core.state.cpl == 0 else { return core.generalProtection() }
            let old = core[.gs].base
            core[.gs].base = core.state.kernelGSBase
            core.state.kernelGSBase = old
            return .next
        }
    }

    // MARK: RDFSBASE and the like. `Op.code` is the segment register's number.

    private static func register(_ op: OpRef) -> SegmentRegister { op.code == 4 ? .fs : .gs }

    private static func permitsBases(_ core: Core) -> Bool {
        core.is64 && core.state.cr4 & CR4.fsGSBaseEnable != 0
    }

    static let readBase: Handler = {
        plain($0, $1) { core, op in
            guard permitsBases(core) else { return core.invalidOpcode() }
            let base = core[register(op)].base
            core[op.a] = op.width == 8 ? base : base & 0xffff_ffff
            return .next
        }
    }

    static let writeBase: Handler = {
        plain($0, $1) { core, op in
            guard permitsBases(core) else { return core.invalidOpcode() }
            let value: UInt64 = core[op.a]
            let base = op.width == 8 ? value : value & 0xffff_ffff
            guard core.isStorable(base) else { return core.generalProtection() }
            core[register(op)].base = base
            return .next
        }
    }
}
