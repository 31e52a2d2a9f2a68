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
    static let entries = 1 << 14
    static let tableCount = 3
    /// Offsets in a table, and the size of one.
    static let tags = 0
    static let hosts = 8 * entries
    static let tableBytes = 16 * entries
    static let byteCount = tableCount * tableBytes + tableCount * (entries / 8 + 8)
    /// Picks an index from RIP + RIP rotated right by 12.
    static let mask = UInt64(entries - 1)

    private let raw: UnsafeMutableRawPointer

    /// - Parameter memory: `byteCount` bytes, 8-byte aligned.
    init(at memory: UnsafeMutableRawPointer) {
        unsafe raw = memory
        unsafe raw.initializeMemory(as: UInt8.self, repeating: 0, count: Self.byteCount)
        for slot in 0..<Self.tableCount * Self.entries { invalidate(slot) }
    }

    /// Enters the translation of the code at `rip`.
    func remember(_ rip: UInt64, bank: Int, host: UInt) {
        if rip >> 63 == 0 { unsafe hasLowerHalf[bank] = 1 }
        let index = Int(truncatingIfNeeded: (rip &+ (rip >> 12 | rip << 52)) & Self.mask)
        let table = unsafe (raw + bank * Self.tableBytes).assumingMemoryBound(to: UInt64.self)
        unsafe table[index] = 0 &- rip
        unsafe table[Self.entries + index] = UInt64(host)
        let slot = bank * Self.entries + index
        unsafe filled[slot >> 6] |= 1 << UInt64(slot & 63)
    }

    /// Forgets everything, in time for what there is.
    func empty() { empty(0..<Self.tableCount) }

    /// Forgets what lies in the lower half of the address space, and all user code.
    func emptyLowerHalf() {
        for bank in 0..<Self.tableCount
        where unsafe bank == SoftwareTLB.user || hasLowerHalf[bank] != 0 {
            empty(bank..<bank + 1)
        }
    }

    private func empty(_ banks: Range<Int>) {
        for bank in banks { unsafe hasLowerHalf[bank] = 0 }
        let words = Self.entries / 64
        for word in banks.lowerBound * words..<banks.upperBound * words {
            var bits = unsafe filled[word]
            if bits == 0 { continue }
            while bits != 0 {
                invalidate(word * 64 + bits.trailingZeroBitCount)
                bits &= bits &- 1
            }
            unsafe filled[word] = 0
        }
    }

    /// Sets a tag that nothing matches: that of a RIP which belongs elsewhere.
    private func invalidate(_ slot: Int) {
        let bank = slot / Self.entries
        let table = unsafe (raw + bank * Self.tableBytes).assumingMemoryBound(to: UInt64.self)
        unsafe table[slot % Self.entries] = slot % Self.entries == 0 ? .max : 0
    }

    /// One word for each table.
    private var hasLowerHalf: UnsafeMutablePointer<UInt64> {
        unsafe filled + Self.tableCount * Self.entries / 64
    }

    private var filled: UnsafeMutablePointer<UInt64> {
        unsafe (raw + Self.tableCount * Self.tableBytes).assumingMemoryBound(to: UInt64.self)
    }
}
