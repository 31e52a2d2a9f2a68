import X86

/// The stack: its address size is SS.B's outside 64-bit mode (SDM Vol. 1 §6.2.3).
extension Core {
    /// The mask that stack-pointer arithmetic keeps.
    @inline(__always)
    var stackMask: UInt64 {
        if state.mode == .long64 { return .max }
        return self[.ss].has(Segment.big) ? 0xffff_ffff : 0xffff
    }

    /// Sets the stack pointer in the width that the stack has.
    @inline(__always)
    func setStackPointer(_ value: UInt64) {
        let mask = stackMask
        self[.rsp] = mask == 0xffff ? (self[.rsp] & ~0xffff) | (value & 0xffff) : value & mask
    }

    /// Pushes a value of `W`'s size; nothing changes where it fails.
    @inline(__always)
    func push<W: FixedWidthInteger & UnsignedInteger>(_ value: W) -> Bool {
        let size = UInt64(MemoryLayout<W>.size)
        if state.mode == .long64 {
            let pointer = self[.rsp] &- size
            guard write(value, linear: pointer) else { return stackAccessFailed() }
            self[.rsp] = pointer
            return true
        }
        let pointer = (self[.rsp] &- size) & stackMask
        guard let address = linearAddress(.ss, pointer, size: size, write: true),
            write(value, linear: address)
        else { return stackAccessFailed() }
        setStackPointer(pointer)
        return true
    }

    /// The value at the stack pointer plus `offset` bytes; the pointer does not move.
    @inline(__always)
    func peek<W: FixedWidthInteger & UnsignedInteger>(_ type: W.Type, offset: UInt64 = 0) -> W? {
        let pointer = (self[.rsp] &+ offset) & stackMask
        guard
            let address = linearAddress(
                .ss, pointer, size: UInt64(MemoryLayout<W>.size), write: false),
            let value = read(W.self, linear: address)
        else {
            _ = stackAccessFailed()
            return nil
        }
        return value
    }

    /// Moves the stack pointer up past what was peeked.
    @inline(__always)
    func dropFromStack(_ bytes: UInt64) { setStackPointer(self[.rsp] &+ bytes) }

    /// A non-canonical stack address raises #SS(0), not #GP(0) (SDM Vol. 1 §3.3.7.1).
    @inline(never)
    func stackAccessFailed() -> Bool {
        if state.pending == .exception,
            state.pendingVector == ExceptionVector.generalProtection.rawValue
        {
            state.pendingVector = ExceptionVector.stackFault.rawValue
        }
        return false
    }
}
