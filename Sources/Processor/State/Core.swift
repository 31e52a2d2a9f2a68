import X86

/// One processor's state as instruction handlers see it: a pointer with properties.
///
/// Handlers are C functions (so that calling one costs no reference counting), which take the
/// addresses of the state and of the op as integers and wrap them in `Core` and `OpRef`.
///
/// Safety: `Processor` allocates the state, and frees it only in its own `deinit`; a `Core` never
/// outlives the `run` that made it. Offsets come from `StateOffset` and from decoding alone.
@safe struct Core {
    let raw: UnsafeMutableRawPointer

    @inline(__always) init(_ address: UInt) {
        unsafe raw = UnsafeMutableRawPointer(bitPattern: address).unsafelyUnwrapped
    }

    /// The state itself.
    @inline(__always) var state: State {
        unsafeAddress { unsafe UnsafePointer(raw.assumingMemoryBound(to: State.self)) }
        nonmutating unsafeMutableAddress { unsafe raw.assumingMemoryBound(to: State.self) }
    }

    /// The state's address, for calling handlers.
    @inline(__always) var address: UInt { unsafe UInt(bitPattern: raw) }

    /// A register field by byte offset.
    @inline(__always)
    subscript<W: FixedWidthInteger>(_ offset: UInt16, as type: W.Type = W.self) -> W {
        get { unsafe raw.load(fromByteOffset: Int(offset), as: W.self) }
        nonmutating set {
            unsafe raw.storeBytes(of: newValue, toByteOffset: Int(offset), as: W.self)
        }
    }

    /// Writes a general register as an instruction does: a 32-bit result clears bits 63…32, an
    /// 8- or 16-bit result leaves the rest (SDM Vol. 1 §3.4.1.1).
    @inline(__always)
    func setRegister<W: FixedWidthInteger & UnsignedInteger>(_ offset: UInt16, _ value: W) {
        if W.bitWidth == 32 {
            self[offset, as: UInt64.self] = UInt64(truncatingIfNeeded: value)
        } else {
            self[offset, as: W.self] = value
        }
    }

    /// A whole general register by name.
    @inline(__always)
    subscript(_ register: GeneralRegister) -> UInt64 {
        get { self[UInt16(register.rawValue) * 8, as: UInt64.self] }
        nonmutating set { self[UInt16(register.rawValue) * 8, as: UInt64.self] = newValue }
    }

    @inline(__always)
    subscript(_ segment: SegmentRegister) -> Segment {
        get { state.segments[Int(segment.rawValue)] }
        nonmutating set { state.segments[Int(segment.rawValue)] = newValue }
    }

    /// The processor that this state belongs to, for what is not per-instruction work.
    @inline(__always) var processor: Processor { withProcessor { $0 } }

    /// Does something with the processor, without retaining it, as `processor` does: for what is
    /// done often.
    @inline(__always) func withProcessor<Result>(_ body: (Processor) -> Result) -> Result {
        // The reference is stored just behind the state, unowned; see Processor.init.
        unsafe Unmanaged<Processor>.fromOpaque(
            raw.load(fromByteOffset: Core.processorOffset, as: UnsafeRawPointer.self)
        )._withUnsafeGuaranteedRef(body)
    }

    /// The vector state, which lies behind the state too.
    @inline(__always) var vector: VectorBlock {
        VectorBlock(UInt64(address &+ UInt(Core.vectorOffset)))
    }

    /// Where the unowned reference to the processor lies.
    static var processorOffset: Int { (MemoryLayout<State>.size + 15) & ~15 }
    /// Where the vector state, the software TLB and the table of indirect jumps lie: generated code
    /// reaches them, and the registers, from one base.
    static var vectorOffset: Int { (processorOffset + 16 + 63) & ~63 }
    static var softwareTLBOffset: Int { vectorOffset + VectorBlock.byteCount }
    static var jumpTableOffset: Int { (softwareTLBOffset + SoftwareTLB.byteCount + 63) & ~63 }
    /// The bytes that a processor's state block takes.
    static var byteCount: Int { jumpTableOffset + JumpTable.byteCount }

    var is64: Bool { state.mode == .long64 }
    var isProtected: Bool { state.cr0 & CR0.protectionEnable != 0 }
    var isLongModeActive: Bool { state.efer & EFER.longModeActive != 0 }

    /// Whether an address is canonical in the present form of paging: its upper bits all equal bit
    /// 47, or with CR4.LA57 bit 56 (SDM Vol. 1 §3.3.7.1).
    @inline(__always) func isCanonical(_ address: UInt64) -> Bool {
        Self.isExtended(address, from: state.cr4 & CR4.fiveLevelPaging == 0 ? 48 : 57)
    }

    /// Whether an address may be held by a register for linear addresses (segment and table bases,
    /// MSRs) or named to INVLPG and INVPCID: canonical in the widest form that the model has, be
    /// it in use or not.
    func isStorable(_ address: UInt64) -> Bool {
        Self.isExtended(address, from: withProcessor { $0.storableBits })
    }

    /// Whether all bits of an address from `bits` - 1 up are equal.
    @inline(__always) private static func isExtended(_ address: UInt64, from bits: Int64) -> Bool {
        let shift = 64 &- bits
        return (Int64(bitPattern: address) &<< shift) &>> shift == Int64(bitPattern: address)
    }

    /// The guest virtual RIP (offset in CS) of the instruction that `op` holds.
    @inline(__always) func currentRIP(_ op: OpRef) -> UInt64 {
        maskRIP(state.registers[17] &+ UInt64(op.nextOffset) &- UInt64(op.length))
    }

    /// The offset in CS of the instruction that follows `op`.
    @inline(__always) func nextRIP(_ op: OpRef) -> UInt64 {
        maskRIP(state.registers[17] &+ UInt64(op.nextOffset))
    }

    /// Truncates an instruction pointer to what the code size allows.
    @inline(__always) func maskRIP(_ rip: UInt64) -> UInt64 {
        state.mode == .long64 ? rip : rip & 0xffff_ffff
    }

    /// Leaves the block after this instruction, because something that is looked at between
    /// blocks may have changed.
    @inline(__always) func leaveBlock() { state.blockEnd = 0 }

    // MARK: Events

    /// Makes the instruction fault with an exception.
    @inline(never)
    func raise(_ vector: ExceptionVector, error: UInt32 = 0) -> Status {
        state.pending = .exception
        state.pendingVector = vector.rawValue
        state.pendingError = error
        return .fault
    }

    /// #GP(error).
    @inline(never)
    func generalProtection(_ error: UInt32 = 0) -> Status {
        raise(.generalProtection, error: error)
    }

    /// #UD.
    @inline(never)
    func invalidOpcode() -> Status { raise(.invalidOpcode) }

    /// Leaves `run` with `exit` after this instruction, which retires.
    func exitAfter(_ exit: Exit) {
        state.pending = .trapExit
        state.pendingExit = exit
        leaveBlock()
    }

    /// Leaves `run` with `exit` before this instruction, which will be executed again.
    func exitBefore(_ exit: Exit) -> Status {
        state.pending = .faultExit
        state.pendingExit = exit
        return .fault
    }
}

/// What a handler returns.
struct Status: Equatable {
    var rawValue: Int32
    /// Retired; the next op follows.
    static let next = Status(rawValue: 0)
    /// Retired; RIP was set by the instruction.
    static let jump = Status(rawValue: 1)
    /// Not retired; `State.pending` says why. Architectural state is unchanged.
    static let fault = Status(rawValue: 2)
    /// Not retired, but state moved on (an iteration of a REP): the instruction is executed again
    /// after interrupts and the instruction limit have been looked at.
    static let again = Status(rawValue: 3)
}
