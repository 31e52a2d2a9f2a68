import MachineMemory
import X86

/// Up to some elements of plain memory within one page.
///
/// Safety: `Core.plainSpan` alone makes one; its bytes lie in one page of the arena, which is never
/// unmapped, and it does not outlive the instruction.
@safe struct PlainSpan {
    let pointer: UnsafeMutableRawPointer
    let count: UInt64

    /// The element at an index below `count`.
    @inline(__always)
    func element<W: Word>(_ index: UInt64, as type: W.Type = W.self) -> W {
        unsafe pointer.loadUnaligned(
            fromByteOffset: Int(truncatingIfNeeded: index) &* (W.bitWidth / 8), as: W.self)
    }

    /// Sets all elements.
    func fill<W: Word>(_ value: W) {
        let size = W.bitWidth / 8
        let bytes = Int(truncatingIfNeeded: count) &* size
        let byte = UInt8(truncatingIfNeeded: value)
        if value == W(truncatingIfNeeded: UInt64(byte) &* 0x0101_0101_0101_0101) {
            unsafe pointer.initializeMemory(as: UInt8.self, repeating: byte, count: bytes)
        } else {
            unsafe pointer.storeBytes(of: value, as: W.self)
            propagate(size, bytes, from: size)
        }
    }

    /// Copies what lies `distance` (more than 0) bytes before each byte to it, in ascending order,
    /// from byte `first` up to byte `bytes`, none of which is beyond the last element.
    func propagate(_ distance: Int, _ bytes: Int, from first: Int = 0) {
        var done = first
        var step = distance
        while done < bytes {
            let part = min(step, bytes &- done)
            unsafe (pointer + done).copyMemory(from: pointer + done - step, byteCount: part)
            done &+= part
            // What was copied repeats what it was copied from.
            step &+= part
        }
    }
}

extension Core {
    /// The elements of `size` bytes from `offset` in a segment that lie in one page of plain
    /// memory, at most `limit`; nil where there are none or the access faults.
    func plainSpan(
        _ segment: SegmentRegister, _ offset: UInt64, _ size: UInt64, _ limit: UInt64, _ op: OpRef,
        write: Bool
    ) -> PlainSpan? {
        // Outside 64-bit mode limits and wrapping are looked at element by element.
        guard state.mode == .long64, op.sourceWidth == 8,
            let address = linearAddress(segment, offset, size: size, write: write)
        else { return nil }
        let count = min(limit, (pageSize - address & 0xfff) / size)
        guard count > 1 else { return nil }
        let entry = SoftwareTLB.entry(state.bank, address)
        if SoftwareTLB.hits(write ? entry.writeTag : entry.readTag, address, 1) {
            return unsafe PlainSpan(pointer: host(address &+ entry.addend), count: count)
        }
        guard
            let pointer = unsafe withProcessor({ unsafe $0.hostPointer(address, write: write) })
        else { return nil }
        return unsafe PlainSpan(pointer: pointer, count: count)
    }
}
