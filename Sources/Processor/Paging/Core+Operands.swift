import X86

/// Memory operands: effective addresses, segmentation, and typed access to operands.
extension Core {
    /// The offset that a memory operand names, before segmentation: what LEA computes.
    @inline(__always)
    func effectiveAddress(_ op: OpRef) -> UInt64 {
        let sum =
            self[op.base, as: UInt64.self]
            &+ (self[op.index, as: UInt64.self] &<< UInt64(op.scale)) &+ op.displacement
        if op.addressing & (OpAddressing.address16 | OpAddressing.address32) == 0 { return sum }
        return op.addressing & OpAddressing.address16 != 0 ? sum & 0xffff : sum & 0xffff_ffff
    }

    /// The linear address of a memory operand of `size` bytes; nil after raising #GP or #SS.
    @inline(__always)
    func linearAddress(_ op: OpRef, size: UInt64, write: Bool) -> UInt64? {
        if op.addressing == 0 {
            return self[op.base, as: UInt64.self]
                &+ (self[op.index, as: UInt64.self] &<< UInt64(op.scale)) &+ op.displacement
                &+ self[op.segmentBase, as: UInt64.self]
        }
        let offset = effectiveAddress(op)
        if op.addressing & OpAddressing.checked == 0 {
            return offset &+ self[op.segmentBase, as: UInt64.self]
        }
        return linearAddress(op.segment, offset, size: size, write: write)
    }

    /// The linear address of `offset` in a segment, limit and type checked outside 64-bit mode
    /// (SDM Vol. 3A §5.3); nil after raising #GP(0) or, for SS, #SS(0).
    @inline(__always)
    func linearAddress(_ register: SegmentRegister, _ offset: UInt64, size: UInt64, write: Bool)
        -> UInt64?
    {
        if state.mode == .long64 {
            return register.rawValue >= SegmentRegister.fs.rawValue
                ? offset &+ self[register].base : offset
        }
        return checkedLinearAddress(register, offset, size: size, write: write)
    }

    @inline(never)
    private func checkedLinearAddress(
        _ register: SegmentRegister, _ offset: UInt64, size: UInt64, write: Bool
    ) -> UInt64? {
        let segment = self[register]
        let last = offset &+ size &- 1
        var isValid = last >= offset
        if isProtected && state.mode != .virtual8086 {
            // A null selector has no attributes at all.
            if !segment.has(Segment.present) { isValid = false }
            if segment.has(Segment.code) {
                if write || !segment.has(Segment.writable) { isValid = false }
            } else if write && !segment.has(Segment.writable) {
                isValid = false
            }
        }
        if !segment.has(Segment.code) && segment.has(Segment.conforming) {
            let top: UInt64 = segment.has(Segment.big) ? 0xffff_ffff : 0xffff
            if offset <= UInt64(segment.limit) || last > top { isValid = false }
        } else if last > UInt64(segment.limit) {
            isValid = false
        }
        guard isValid else {
            _ = raise(register == .ss ? .stackFault : .generalProtection)
            return nil
        }
        return (segment.base &+ offset) & 0xffff_ffff
    }

    /// Reads the memory operand.
    @inline(__always)
    func readMemory<W: FixedWidthInteger & UnsignedInteger>(_ type: W.Type, _ op: OpRef) -> W? {
        guard
            let address = linearAddress(op, size: UInt64(MemoryLayout<W>.size), write: false)
        else { return nil }
        return read(W.self, linear: address)
    }

    /// Writes the memory operand.
    @inline(__always)
    func writeMemory<W: FixedWidthInteger & UnsignedInteger>(_ value: W, _ op: OpRef) -> Bool {
        guard
            let address = linearAddress(op, size: UInt64(MemoryLayout<W>.size), write: true)
        else { return false }
        return write(value, linear: address)
    }

    /// Replaces the memory operand by `body` of it.
    @inline(__always)
    func updateMemory<W: FixedWidthInteger & UnsignedInteger>(_ op: OpRef, _ body: (W) -> W) -> Bool
    {
        guard
            let address = linearAddress(op, size: UInt64(MemoryLayout<W>.size), write: true)
        else { return false }
        return update(linear: address, body)
    }

    // MARK: Operands of either kind, for handlers that serve both

    /// Reads the destination operand (register or memory).
    @inline(__always)
    func readDestination<W: FixedWidthInteger & UnsignedInteger>(_ type: W.Type, _ op: OpRef) -> W?
    {
        op.destination == .memory ? readMemory(W.self, op) : self[op.a, as: W.self]
    }

    /// Writes the destination operand (register or memory).
    @inline(__always)
    func writeDestination<W: FixedWidthInteger & UnsignedInteger>(_ value: W, _ op: OpRef) -> Bool {
        if op.destination == .memory { return writeMemory(value, op) }
        setRegister(op.a, value)
        return true
    }

    /// Replaces the destination operand (register or memory) by `body` of it.
    @inline(__always)
    func updateDestination<W: FixedWidthInteger & UnsignedInteger>(
        _ op: OpRef, _ body: (W) -> W
    ) -> Bool {
        if op.destination == .memory { return updateMemory(op, body) }
        setRegister(op.a, body(self[op.a, as: W.self]))
        return true
    }

    /// Reads the source operand (register, memory or immediate).
    @inline(__always)
    func readSource<W: FixedWidthInteger & UnsignedInteger>(_ type: W.Type, _ op: OpRef) -> W? {
        switch op.source {
        case .register: self[op.b, as: W.self]
        case .memory: readMemory(W.self, op)
        case .immediate, .none: W(truncatingIfNeeded: op.immediate)
        }
    }
}
