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
        guard address <= memory.arenaBytes &- 8 else { return .max }
        return unsafe base.load(fromByteOffset: Int(address & ~7), as: UInt64.self)
    }

    /// Writes the shadow entry at a machine address inside the pool.
    @inline(__always)
    func store(_ value: UInt64, at address: UInt64) {
        guard address <= memory.arenaBytes &- 8 else { return }
        unsafe base.storeBytes(of: value, toByteOffset: Int(address & ~7), as: UInt64.self)
    }

    /// The machine address of entry `index` of the guest table in a guest frame.
    @inline(__always)
    func guestEntryAddress(_ frame: UInt64, _ index: Int) -> UInt64 {
        (firstGuestFrame &+ frame) << 12 &+ UInt64(index) &* 8
    }

    /// Entry `index` of the guest table in a guest frame; all ones where there is no RAM.
    @inline(__always)
    func guestEntry(_ frame: UInt64, _ index: Int) -> UInt64 {
        isRAM(frame) ? load(guestEntryAddress(frame, index)) : .max
    }
}
