import X86

/// Instructions on the flags that are not arithmetic results, and HLT.
enum FlagInstructions {
    static let clearInterrupts: Handler = {
        plain($0, $1) { core, _ in
            guard permitsInterruptFlag(core) else { return VirtualInterrupts.clear(core) }
            core.state.systemFlags &= ~RFLAGS.interruptEnable
            return .next
        }
    }

    /// STI: interrupts wait for one more instruction (SDM Vol. 2B, STI).
    static let setInterrupts: Handler = {
        plain($0, $1) { core, op in
            guard permitsInterruptFlag(core) else { return VirtualInterrupts.set(core) }
            let changes = core.state.systemFlags & RFLAGS.interruptEnable == 0
            core.state.systemFlags |= RFLAGS.interruptEnable
            // Where nothing waits, and the next instruction follows in the block, nothing can come
            // between the two: the shadow is that one's to find, should it exit.
            if core.hasFollower(op), !core.processor.hasWaitingInterrupt {
                core.state.shadowedOp = changes ? core.followingOp : 0
                return .next
            }
            if changes { core.state.interruptShadow = true }
            core.leaveBlock()
            return .next
        }
    }

    /// `Op.code` of an STI that another instruction follows in its block.
    static let hasFollower: UInt16 = 1

    private static func permitsInterruptFlag(_ core: Core) -> Bool {
        !core.isProtected || core.state.cpl <= core.ioPrivilegeLevel
    }

    /// PUSHF, PUSHFD, PUSHFQ.
    static let push: Handler = {
        plain($0, $1) { core, op in
            var image = core.flags & ~(RFLAGS.virtual8086 | RFLAGS.resume)
            if core.isVirtual8086 && core.ioPrivilegeLevel < 3 {
                guard VirtualInterrupts.serve(core, op.width) else {
                    return core.generalProtection()
                }
                image = VirtualInterrupts.image(core)
            }
            var stack = StackView(core)
            guard stack.push(image, op.width) else { return .fault }
            core.setStackPointer(stack.pointer)
            return .next
        }
    }

    /// POPF, POPFD, POPFQ (SDM Vol. 2B, POPF, Table 4-21).
    static let pop: Handler = {
        plain($0, $1) { core, op in
            let isVirtual = core.isVirtual8086 && core.ioPrivilegeLevel < 3
            if isVirtual, !VirtualInterrupts.serve(core, op.width) {
                return core.generalProtection()
            }
            var stack = StackView(core)
            guard let image = stack.pop(op.width) else { return .fault }
            if isVirtual {
                guard VirtualInterrupts.load(core, image) else { return core.generalProtection() }
                core.setStackPointer(stack.pointer)
                return .next
            }
            var kept =
                RFLAGS.virtual8086 | RFLAGS.virtualInterrupt | RFLAGS.virtualInterruptPending
            if core.isProtected {
                if core.state.cpl > 0 { kept |= RFLAGS.ioPrivilegeLevel }
                if core.state.cpl > core.ioPrivilegeLevel { kept |= RFLAGS.interruptEnable }
            }
            if op.width == 2 { kept |= ~0xffff }
            core.setStackPointer(stack.pointer)
            core.setFlags((core.flags & kept | image & ~kept) & ~RFLAGS.resume)
            return .next
        }
    }

    /// CLAC and STAC (code 0, 1).
    static let accessFlag: Handler = {
        plain($0, $1) { core, op in
            guard core.withProcessor({ $0.model.has(.smap) }), core.state.cpl == 0 else {
                return core.invalidOpcode()
            }
            let flags = core.state.systemFlags
            if op.code == 1 {
                core.state.systemFlags |= RFLAGS.alignmentCheck
            } else {
                core.state.systemFlags &= ~RFLAGS.alignmentCheck
            }
            if core.state.systemFlags != flags {
                core.selectBank()
                // Translated code asks one bank of the software TLB.
                core.leaveBlock()
            }
            return .next
        }
    }

    static let halt: Handler = {
        plain($0, $1) { core, _ in
            guard core.state.cpl == 0 else { return core.generalProtection() }
            core.state.isHalted = true
            core.leaveBlock()
            return .next
        }
    }
}

extension Core {
    /// Whether the op of an STI is followed by another one that is executed before anything is
    /// looked at.
    fileprivate func hasFollower(_ op: OpRef) -> Bool {
        op.code == FlagInstructions.hasFollower
            && state.blockEnd > followingOp
    }

    /// The address of the op behind the running one.
    fileprivate var followingOp: UInt { state.currentOp &+ UInt(MemoryLayout<Op>.stride) }

    /// An exit before an instruction leaves it in the shadow of the STI before it.
    @inline(__always)
    func restoreShadow() {
        if state.currentOp == state.shadowedOp, state.pending == .faultExit {
            state.interruptShadow = true
        }
    }
}

/// INT n, INT3, INT1, INTO, BOUND (SDM Vol. 2A).
enum SoftwareInterrupts {
    static let interrupt: Handler = {
        plain($0, $1) { core, op in
            let vector = UInt8(truncatingIfNeeded: op.immediate)
            if VirtualInterrupts.areEnabled(core), core.isVirtual8086 {
                guard let isRedirected = VirtualInterrupts.redirects(core, vector) else {
                    return .fault
                }
                if isRedirected {
                    return VirtualInterrupts.redirect(core, vector, returnRIP: core.nextRIP(op))
                }
            }
            return deliver(core, op, vector, .softwareInterrupt)
        }
    }

    static let breakpoint: Handler = {
        plain($0, $1) { core, op in
            deliver(core, op, ExceptionVector.breakpoint.rawValue, .softwareException)
        }
    }

    /// INT1 ("ICEBP"): without a check of the gate's DPL.
    static let debugTrap: Handler = {
        plain($0, $1) { core, op in
            deliver(core, op, ExceptionVector.debug.rawValue, .privilegedException)
        }
    }

    static let overflow: Handler = {
        plain($0, $1) { core, op in
            core.overflowFlag
                ? deliver(core, op, ExceptionVector.overflow.rawValue, .softwareException)
                : .next
        }
    }

    /// Enters the handler with the next instruction's address. What goes wrong on the way is a
    /// fault of this instruction.
    private static func deliver(
        _ core: Core, _ op: OpRef, _ vector: UInt8, _ kind: Event.Kind
    ) -> Status {
        let event = Event(vector: vector, kind: kind, returnRIP: core.nextRIP(op))
        guard core.deliver(event) else { return .fault }
        core.processor.statistics.exceptions += 1
        return .jump
    }

    /// BOUND: #BR where the index is below the first or above the second bound, signed.
    static let bound: Handler = {
        plain($0, $1) { core, op in
            let size = UInt64(op.width)
            guard let address = core.linearAddress(op, size: size &* 2, write: false) else {
                return .fault
            }
            let index: Int32
            let lower: Int32
            let upper: Int32
            if op.width == 2 {
                guard let low = core.read(UInt16.self, linear: address),
                    let high = core.read(UInt16.self, linear: address &+ 2)
                else { return .fault }
                index = Int32(Int16(bitPattern: core[op.a]))
                lower = Int32(Int16(bitPattern: low))
                upper = Int32(Int16(bitPattern: high))
            } else {
                guard let low = core.read(UInt32.self, linear: address),
                    let high = core.read(UInt32.self, linear: address &+ 4)
                else { return .fault }
                index = Int32(bitPattern: core[op.a])
                lower = Int32(bitPattern: low)
                upper = Int32(bitPattern: high)
            }
            return index < lower || index > upper ? core.raise(.boundRange) : .next
        }
    }
}
