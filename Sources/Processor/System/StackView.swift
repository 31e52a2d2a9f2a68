import X86

/// A stack that is being written or read before it becomes the current one, or before the stack
/// pointer moves: nothing of the processor's state changes.
struct StackView {
    let core: Core
    let segment: Segment
    var pointer: UInt64
    /// Which bits of the pointer count: its width is the stack's.
    let mask: UInt64
    /// Whether accesses are made with supervisor rights whatever the CPL is still.
    let isSupervisor: Bool
    /// The error code of #SS for an access beyond the segment.
    let error: UInt32

    /// The current stack.
    init(_ core: Core, error: UInt32 = 0) {
        self.core = core
        segment = core[.ss]
        pointer = core[.rsp]
        mask = core.stackMask
        isSupervisor = false
        self.error = error
    }

    /// The stack of a more privileged level, which is about to be entered.
    init(_ core: Core, _ segment: Segment, _ pointer: UInt64, error: UInt32) {
        self.core = core
        self.segment = segment
        self.pointer = pointer
        mask = segment.has(Segment.big) ? 0xffff_ffff : 0xffff
        isSupervisor = true
        self.error = error
    }

    /// A 64-bit stack.
    init(_ core: Core, wide pointer: UInt64, isSupervisor: Bool, error: UInt32) {
        self.core = core
        segment = Segment.null(0)
        self.pointer = pointer
        mask = .max
        self.isSupervisor = isSupervisor
        self.error = error
    }

    /// Pushes the low `bytes` (2, 4, 8) of a value.
    mutating func push(_ value: UInt64, _ bytes: UInt8) -> Bool {
        let target = (pointer &- UInt64(bytes)) & mask
        guard let address = address(target, UInt64(bytes), write: true) else { return false }
        let done: Bool
        switch bytes {
        case 2: done = write(UInt16(truncatingIfNeeded: value), address)
        case 4: done = write(UInt32(truncatingIfNeeded: value), address)
        default: done = write(value, address)
        }
        guard done else { return refine() }
        pointer = pointer & ~mask | target
        return true
    }

    /// Pops `bytes` (2, 4, 8), zero-extended.
    mutating func pop(_ bytes: UInt8) -> UInt64? {
        let source = pointer & mask
        guard let address = address(source, UInt64(bytes), write: false) else { return nil }
        let value: UInt64?
        switch bytes {
        case 2: value = read(UInt16.self, address).map { UInt64($0) }
        case 4: value = read(UInt32.self, address).map { UInt64($0) }
        default: value = read(UInt64.self, address)
        }
        guard let value else {
            _ = refine()
            return nil
        }
        skip(UInt64(bytes))
        return value
    }

    /// Moves the pointer up.
    mutating func skip(_ bytes: UInt64) {
        pointer = pointer & ~mask | (pointer &+ bytes) & mask
    }

    private func write<W: Word>(_ value: W, _ address: UInt64) -> Bool {
        isSupervisor
            ? core.writeSystem(value, linear: address) : core.write(value, linear: address)
    }

    private func read<W: Word>(_ type: W.Type, _ address: UInt64) -> W? {
        isSupervisor
            ? core.readSystem(W.self, linear: address) : core.read(W.self, linear: address)
    }

    /// The linear address of `bytes` at an offset, limit checked (SDM Vol. 3A §5.3).
    private func address(_ offset: UInt64, _ bytes: UInt64, write: Bool) -> UInt64? {
        if mask == .max { return offset }
        let last = offset &+ bytes &- 1
        let isValid: Bool
        if !segment.has(Segment.code) && segment.has(Segment.conforming) {
            isValid = offset > UInt64(segment.limit) && last <= mask
        } else {
            isValid = last <= UInt64(segment.limit)
        }
        guard isValid else {
            _ = core.raise(.stackFault, error: error)
            return nil
        }
        return (segment.base &+ offset) & 0xffff_ffff
    }

    /// A non-canonical stack address is a stack fault.
    private func refine() -> Bool {
        if core.state.pendingNonCanonical {
            core.state.pendingNonCanonical = false
            _ = core.raise(.stackFault, error: error)
        }
        return false
    }
}
