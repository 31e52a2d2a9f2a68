import MachineMemory
import X86

/// Paging entries in machine memory, read and written by the hypervisor, and what lies where.
///
/// The one file of the module that holds a pointer into machine memory: hidden faults and drains
/// read several entries each.
@safe struct TableMemory {
    let memory: MachineMemory
    // Invariant: `memory` keeps the mapping alive and unmoved, and it spans `arenaBytes`.
    private let base: UnsafeMutableRawPointer
    private let arenaBytes: UInt64
    /// The frames of guest RAM below the hole for devices: `0..<lowFrames`.
    let lowFrames: UInt64
    /// The frames of guest RAM above it.
    let highFrames: Range<UInt64>
    /// All guest frames that may have memory, the hole included, are below this.
    let frameLimit: UInt64
    /// The machine frame of guest frame 0.
    let firstGuestFrame: UInt64

    init(_ memory: MachineMemory) {
        self.memory = memory
        unsafe base = memory.base
        arenaBytes = memory.arenaBytes
        lowFrames = memory.lowGuestBytes / pageSize
        let high = MachineMemory.highStart / pageSize
        highFrames = high..<high + memory.highGuestBytes / pageSize
        frameLimit = highFrames.isEmpty ? lowFrames : highFrames.upperBound
        firstGuestFrame = memory.guestBase / pageSize
    }

    /// Whether guest RAM answers in the guest frame.
    @inline(__always)
    func isRAM(_ frame: UInt64) -> Bool { frame < lowFrames || highFrames.contains(frame) }

    /// Whether guest RAM answers in all, or in none, of the frames: then one large page may stand
    /// for them.
    func isUniform(_ frames: Range<UInt64>) -> Bool {
        let low = frames.clamped(to: 0..<lowFrames)
        let high = frames.clamped(to: highFrames)
        let inside = (low.isEmpty ? 0 : low.count) + (high.isEmpty ? 0 : high.count)
        return inside == 0 || inside == frames.count
    }

    /// The entry at a machine address; all ones where no memory answers, as a bus that floats high
    /// would give: present, with reserved bits set.
    @inline(__always)
    func load(_ address: UInt64) -> UInt64 {
        guard address <= arenaBytes &- 8 else { return .max }
        return unsafe base.load(fromByteOffset: Int(address & ~7), as: UInt64.self)
    }

    /// Writes the shadow entry at a machine address inside the pool.
    @inline(__always)
    func store(_ value: UInt64, at address: UInt64) {
        guard address <= arenaBytes &- 8 else { return }
        unsafe base.storeBytes(of: value, toByteOffset: Int(address & ~7), as: UInt64.self)
    }

    /// The machine address of a quadword of a guest table.
    @inline(__always)
    private func quadwordAddress(_ frame: UInt64, _ quadword: Int) -> UInt64 {
        (firstGuestFrame &+ frame) << 12 &+ UInt64(quadword & 511) &* 8
    }

    /// Entry `index` of the guest table in a guest frame, which has 512 entries or, 2-level, 1024
    /// of 4 bytes; all ones where there is no RAM.
    @inline(__always)
    func guestEntry(_ frame: UInt64, _ index: Int, _ form: PagingForm) -> PagingEntry {
        if form != .twoLevel {
            return PagingEntry(isRAM(frame) ? load(quadwordAddress(frame, index)) : .max)
        }
        let quadword = isRAM(frame) ? load(quadwordAddress(frame, index >> 1)) : .max
        return PagingEntry(quadword >> (UInt64(index & 1) &* 32) & 0xffff_ffff)
    }

    /// Replaces a guest entry, by a compare-and-swap of the entry's width.
    /// - Returns: false where it is not `old` any more, or there is no RAM.
    func swapGuestEntry(
        _ frame: UInt64, _ index: Int, _ form: PagingForm, _ old: PagingEntry, _ new: PagingEntry
    ) -> Bool {
        guard isRAM(frame) else { return false }
        if form != .twoLevel {
            return memory.compareAndSwap(
                at: MachineAddress(quadwordAddress(frame, index)), expected: old.rawValue,
                desired: new.rawValue)
        }
        let address = quadwordAddress(frame, index >> 1) | UInt64(index & 1) &* 4
        return memory.compareAndSwap(
            at: MachineAddress(address), expected: UInt32(truncatingIfNeeded: old.rawValue),
            desired: UInt32(truncatingIfNeeded: new.rawValue))
    }
}
