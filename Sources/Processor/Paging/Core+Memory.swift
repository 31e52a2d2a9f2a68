import X86

/// Memory accesses by linear address: the fast path. The slow path is `Processor+Access.swift`.
///
/// Every access returns nil or false when it could not be made; `State.pending` then says what
/// the instruction leaves to be done, and the handler returns `.fault` without having changed
/// architectural state.
extension Core {
    /// Reads little-endian from a linear address with the current rights.
    @inline(__always)
    func read<W: FixedWidthInteger & UnsignedInteger>(_ type: W.Type, linear address: UInt64) -> W?
    {
        let size = UInt64(MemoryLayout<W>.size)
        let entry = SoftwareTLB.entry(state.bank, address)
        if SoftwareTLB.hits(entry.readTag, address, size) {
            return unsafe host(address &+ entry.addend)
                .loadUnaligned(as: W.self)
        }
        guard
            let value = withProcessor({
                $0.readSlowly(address, size: Int(size), supervisor: false)
            })
        else { return nil }
        return W(truncatingIfNeeded: value)
    }

    /// Writes little-endian to a linear address with the current rights.
    @inline(__always)
    func write<W: FixedWidthInteger & UnsignedInteger>(_ value: W, linear address: UInt64) -> Bool {
        let size = UInt64(MemoryLayout<W>.size)
        let entry = SoftwareTLB.entry(state.bank, address)
        if SoftwareTLB.hits(entry.writeTag, address, size) {
            unsafe host(address &+ entry.addend).storeBytes(of: value, as: W.self)
            return true
        }
        return withProcessor {
            $0.writeSlowly(
                address, UInt64(truncatingIfNeeded: value), size: Int(size), supervisor: false)
        }
    }

    /// Replaces the value at a linear address by `body` of it, or leaves it where `body` gives nil.
    /// It needs write rights from the start, and counts as a write even where nothing changes.
    @inline(__always)
    func update<W: FixedWidthInteger & UnsignedInteger>(
        linear address: UInt64, _ body: (W) -> W
    ) -> Bool {
        let size = UInt64(MemoryLayout<W>.size)
        let entry = SoftwareTLB.entry(state.bank, address)
        if SoftwareTLB.hits(entry.writeTag, address, size) {
            let pointer = unsafe host(address &+ entry.addend)
            unsafe pointer.storeBytes(of: body(pointer.loadUnaligned(as: W.self)), as: W.self)
            return true
        }
        return withProcessor { processor in
            guard processor.probe(address, size: Int(size), write: true),
                let old = processor.readSlowly(address, size: Int(size), supervisor: false)
            else { return false }
            return processor.writeSlowly(
                address, UInt64(truncatingIfNeeded: body(W(truncatingIfNeeded: old))),
                size: Int(size), supervisor: false)
        }
    }

    /// Reads with supervisor rights whatever the CPL: descriptor tables and the TSS
    /// (SDM Vol. 3A §4.6, implicit supervisor-mode accesses).
    func readSystem<W: FixedWidthInteger & UnsignedInteger>(_ type: W.Type, linear address: UInt64)
        -> W?
    {
        let address = is64 || isLongModeActive ? address : address & 0xffff_ffff
        // Explicit accesses of the supervisor with AC clear have the same rights.
        let entry = SoftwareTLB.entry(state.supervisorBank, address)
        if SoftwareTLB.hits(entry.readTag, address, UInt64(MemoryLayout<W>.size)) {
            return unsafe host(address &+ entry.addend).loadUnaligned(as: W.self)
        }
        guard
            let value = withProcessor({
                $0.readSlowly(address, size: MemoryLayout<W>.size, supervisor: true)
            })
        else { return nil }
        return W(truncatingIfNeeded: value)
    }

    /// Writes with supervisor rights whatever the CPL.
    func writeSystem<W: FixedWidthInteger & UnsignedInteger>(_ value: W, linear address: UInt64)
        -> Bool
    {
        let address = is64 || isLongModeActive ? address : address & 0xffff_ffff
        let entry = SoftwareTLB.entry(state.supervisorBank, address)
        if SoftwareTLB.hits(entry.writeTag, address, UInt64(MemoryLayout<W>.size)) {
            unsafe host(address &+ entry.addend).storeBytes(of: value, as: W.self)
            return true
        }
        return withProcessor {
            $0.writeSlowly(
                address, UInt64(truncatingIfNeeded: value), size: MemoryLayout<W>.size,
                supervisor: true)
        }
    }

    /// A host address from a matching software-TLB entry.
    @inline(__always)
    func host(_ address: UInt64) -> UnsafeMutableRawPointer {
        // The tag matched, so address lies in a live page of the arena, which is never unmapped.
        unsafe UnsafeMutableRawPointer(bitPattern: UInt(truncatingIfNeeded: address))
            .unsafelyUnwrapped
    }

    /// Whether explicit accesses must be aligned (SDM Vol. 3A §6.15, #AC).
    @inline(__always)
    var checksAlignment: Bool {
        state.systemFlags & RFLAGS.alignmentCheck != 0 && state.cr0 & CR0.alignmentMask != 0
            && state.cpl == 3
    }

    /// Chooses the software-TLB bank for the current CPL and EFLAGS.AC. To be called after either
    /// changed.
    @inline(__always)
    func selectBank() {
        let number =
            state.cpl == 3
            ? (checksAlignment ? SoftwareTLB.userChecked : SoftwareTLB.user)
            : state.systemFlags & RFLAGS.alignmentCheck != 0
                ? SoftwareTLB.supervisorAC : SoftwareTLB.supervisor
        state.bank = state.supervisorBank &+ UInt(number) &* UInt(SoftwareTLB.bankBytes)
    }
}
