import X86

/// Where translated code finds the translation of a jump's target: direct-mapped by virtual RIP,
/// one table for each bank of the software TLB, so for each right with which code runs.
///
/// It holds nothing that the block cache's own lookups do not hold, and is emptied with them.
/// ```
///  0            tags: negated RIPs
///  8 × 16384    host addresses of the translations
/// ```
/// Safety: as for `SoftwareTLB`.
@safe struct JumpTable {
    static let entries = 16384
    static let tableCount = 3
    /// Offsets in a table, and the size of one.
    static let tags = 0
    static let hosts = 8 * entries
    static let tableBytes = 16 * entries
    /// Behind the tables are a bit for each entry that is filled, and one for each of code in global
    /// pages.
    static let byteCount = tableCount * tableBytes + 2 * tableCount * entries / 8
    /// Picks an index from RIP + RIP rotated right by 12.
    static let mask = UInt64(entries - 1)

    private let raw: UnsafeMutableRawPointer

    /// - Parameter memory: `byteCount` bytes, 8-byte aligned.
    init(at memory: UnsafeMutableRawPointer) {
        unsafe raw = memory
        unsafe raw.initializeMemory(as: UInt8.self, repeating: 0, count: Self.byteCount)
        for slot in 0..<Self.tableCount * Self.entries { invalidate(slot) }
    }

    private static func index(_ rip: UInt64) -> Int {
        Int(truncatingIfNeeded: (rip &+ (rip >> 12 | rip << 52)) & mask)
    }

    /// The host address of the translation of the code at `rip`; 0 where it is not known.
    func find(_ rip: UInt64, bank: Int) -> UInt {
        let index = Self.index(rip)
        let table = unsafe (raw + bank * Self.tableBytes).assumingMemoryBound(to: UInt64.self)
        guard unsafe table[index] == 0 &- rip else { return 0 }
        return unsafe UInt(truncatingIfNeeded: table[Self.entries + index])
    }

    /// Enters the translation of the code at `rip`.
    func remember(_ rip: UInt64, bank: Int, host: UInt, isGlobal: Bool) {
        let index = Self.index(rip)
        let table = unsafe (raw + bank * Self.tableBytes).assumingMemoryBound(to: UInt64.self)
        unsafe table[index] = 0 &- rip
        unsafe table[Self.entries + index] = UInt64(host)
        let slot = bank * Self.entries + index
        let bit = UInt64(1) << UInt64(slot & 63)
        unsafe filled[slot >> 6] |= bit
        if isGlobal {
            unsafe globals[slot >> 6] |= bit
        } else {
            unsafe globals[slot >> 6] &= ~bit
        }
    }

    /// Forgets everything, or everything but code in global pages, in time for what goes.
    func empty(keepingGlobals: Bool) {
        for word in 0..<Self.tableCount * Self.entries / 64 {
            let kept = keepingGlobals ? unsafe globals[word] : 0
            var bits = unsafe filled[word] & ~kept
            if bits == 0 { continue }
            unsafe filled[word] &= kept
            while bits != 0 {
                invalidate(word * 64 + bits.trailingZeroBitCount)
                bits &= bits &- 1
            }
        }
    }

    /// Sets a tag that nothing matches: that of a RIP which belongs elsewhere.
    private func invalidate(_ slot: Int) {
        let bank = slot / Self.entries
        let table = unsafe (raw + bank * Self.tableBytes).assumingMemoryBound(to: UInt64.self)
        unsafe table[slot % Self.entries] = slot % Self.entries == 0 ? .max : 0
    }

    private var filled: UnsafeMutablePointer<UInt64> {
        unsafe (raw + Self.tableCount * Self.tableBytes).assumingMemoryBound(to: UInt64.self)
    }

    private var globals: UnsafeMutablePointer<UInt64> {
        unsafe filled + Self.tableCount * Self.entries / 64
    }
}
