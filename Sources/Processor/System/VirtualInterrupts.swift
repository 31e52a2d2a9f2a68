import X86

/// The extensions of virtual-8086 mode (CR4.VME) and protected-mode virtual interrupts (CR4.PVI):
/// code that may not change IF changes VIF in its place, and INT n of virtual-8086 code may stay
/// within it (SDM Vol. 3B §20.3, §20.4).
///
/// VIP says that the monitor keeps an interrupt for the code: what would set VIF then raises
/// #GP(0), and so does an instruction that finds both set.
enum VirtualInterrupts {
    /// Whether code of this mode has them. They are for CPL 3 with IOPL below 3 alone, but for
    /// `redirects`.
    static func areEnabled(_ core: Core) -> Bool {
        let bit =
            core.isVirtual8086 ? CR4.virtual8086Extensions : CR4.protectedVirtualInterrupts
        return core.state.cpl == 3 && core.state.cr4 & bit != 0
    }

    /// CLI that IOPL forbids.
    static func clear(_ core: Core) -> Status {
        guard areEnabled(core) else { return core.generalProtection() }
        core.state.systemFlags &= ~RFLAGS.virtualInterrupt
        return .next
    }

    /// STI that IOPL forbids.
    static func set(_ core: Core) -> Status {
        guard areEnabled(core), core.state.systemFlags & RFLAGS.virtualInterruptPending == 0
        else { return core.generalProtection() }
        core.state.systemFlags |= RFLAGS.virtualInterrupt
        return .next
    }

    // MARK: Virtual-8086 mode with IOPL below 3

    /// Whether PUSHF, POPF and IRET of this operand size work on VIF: those of 16 bits with VME.
    static func serve(_ core: Core, _ width: UInt8) -> Bool { width == 2 && areEnabled(core) }

    /// What PUSHF and INT n push: VIF in IF's place, and an IOPL that looks permissive.
    static func image(_ core: Core) -> UInt64 {
        let isSet = core.state.systemFlags & RFLAGS.virtualInterrupt != 0
        return core.flags & ~RFLAGS.interruptEnable | RFLAGS.ioPrivilegeLevel
            | (isSet ? RFLAGS.interruptEnable : 0)
    }

    /// Loads the flags that POPF or IRET have popped, IF into VIF; false, with nothing changed,
    /// where that is the monitor's affair: TF, or an interrupt that waits.
    static func load(_ core: Core, _ image: UInt64) -> Bool {
        let isSet = image & RFLAGS.interruptEnable != 0
        guard image & RFLAGS.trap == 0,
            !isSet || core.state.systemFlags & RFLAGS.virtualInterruptPending == 0
        else { return false }
        let kept =
            ~0xffff | RFLAGS.interruptEnable | RFLAGS.ioPrivilegeLevel
        let flags = core.flags & kept | image & ~kept
        core.setFlags(
            flags & ~(RFLAGS.virtualInterrupt | RFLAGS.resume)
                | (isSet ? RFLAGS.virtualInterrupt : 0))
        return true
    }

    // MARK: INT n

    /// Whether the redirection bitmap, the 32 bytes before the I/O permission bitmap, leaves a
    /// vector to the 8086 program: its bit is clear. Nil after a fault.
    static func redirects(_ core: Core, _ vector: UInt8) -> Bool? {
        let task = core.state.taskRegister
        guard task.type & 8 != 0, task.limit >= 103 else {
            _ = core.generalProtection()
            return nil
        }
        guard let map = core.readSystem(UInt16.self, linear: task.base &+ 102) else { return nil }
        let offset = UInt64(map) &- 32 &+ UInt64(vector >> 3)
        guard offset <= UInt64(task.limit) else {
            _ = core.generalProtection()
            return nil
        }
        guard let bits = core.readSystem(UInt8.self, linear: task.base &+ offset) else {
            return nil
        }
        return bits >> (vector & 7) & 1 == 0
    }

    /// Enters the 8086 program's own handler by the vector table at linear address 0.
    static func redirect(_ core: Core, _ vector: UInt8, returnRIP: UInt64) -> Status {
        let hasFlag = core.ioPrivilegeLevel == 3
        var stack = StackView(core)
        guard let entry = core.read(UInt32.self, linear: UInt64(vector) &* 4),
            stack.push(hasFlag ? core.flags : image(core), 2),
            stack.push(UInt64(core[.cs].selector), 2), stack.push(returnRIP, 2)
        else { return .fault }
        core.setStackPointer(stack.pointer)
        core.loadParagraph(.cs, UInt16(truncatingIfNeeded: entry >> 16))
        core.state.rip = UInt64(entry & 0xffff)
        let interrupts = hasFlag ? RFLAGS.interruptEnable : RFLAGS.virtualInterrupt
        core.setSystemFlags(core.state.systemFlags & ~(RFLAGS.trap | interrupts))
        core.state.stepRule = .none
        core.leaveBlock()
        return .jump
    }

    /// To be called where code of CPL 3 is entered with new flags: #GP(0) at its first instruction
    /// where VIF and VIP are both set.
    static func check(_ core: Core) {
        let both = RFLAGS.virtualInterrupt | RFLAGS.virtualInterruptPending
        guard core.state.systemFlags & both == both, areEnabled(core),
            core.state.pending == .none
        else { return }
        _ = core.generalProtection()
    }
}
