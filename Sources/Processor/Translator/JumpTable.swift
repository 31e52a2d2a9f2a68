import X86

/// Where translated code finds the translation of a jump's target: direct-mapped by virtual RIP,
/// one table for each bank of the software TLB, so for each right with which code runs.
///
/// *Problem.* What is found holds while the modelled TLB has the page, and a hypervisor that keeps
/// shadow tables has the TLB emptied often. To find hundreds of targets anew each time costs more
/// than all else about it.
///
/// *Approach.* A target is found by two look-ups: its own, and that of its page, which says whether
/// the page was looked up in the modelled TLB since that was emptied. To empty the tables is to say
/// so of each page; when the first target in a page is found again, and lies in the same frame, all
/// of them are. Where a page is in another frame now, its targets are searched for and go.
/// ```
///  0             three tables: tags, the negated RIPs; then host addresses of the translations
///  pages         a quadword for each page of code: 0 while it may be used
///  …             whose page that is; a bit for each tag that is set, and for each page in use
/// ```
/// Safety: as for `SoftwareTLB`.
@safe struct JumpTable {
    static let entries = 1 << 14
    static let tableCount = 3
    /// Offsets in a table, and the size of one.
    static let tags = 0
    static let hosts = 8 * entries
    static let tableBytes = 16 * entries
    /// Picks an index from RIP + RIP rotated right by 12.
    static let mask = UInt64(entries - 1)

    /// Pages of each half of the address space that are told apart.
    private static let pagesPerHalf = 1 << 12
    private static let pageCount = 2 * pagesPerHalf
    /// Picks a page's index from RIP.
    static let pageMask = UInt64(pagesPerHalf - 1) << 12 | 1 << 63
    /// Where the pages' quadwords lie.
    static let pages = tableCount * tableBytes
    private static let owners = pages + 8 * pageCount
    private static let filled = owners + MemoryLayout<Owner>.stride * pageCount
    private static let used = filled + tableCount * entries / 8
    static let byteCount = used + pageCount / 8

    private let raw: UnsafeMutableRawPointer

    /// The page whose targets are in the tables, of all that share an index.
    private struct Owner: Equatable {
        /// The page's number, shifted left by 1, and whether user code is meant; `.max`: none.
        var name = UInt64.max
        /// The machine frame in which its code lies.
        var frame: UInt64 = 0
    }

    /// - Parameter memory: `byteCount` bytes, 8-byte aligned.
    init(at memory: UnsafeMutableRawPointer) {
        unsafe raw = memory
        removeAll()
    }

    /// Enters the translation of the code at `rip`. The modelled TLB has its page.
    /// - Parameter frame: the machine frame of the code.
    func remember(_ rip: UInt64, bank: Int, host: UInt, frame: UInt64) {
        let page = Self.page(rip)
        let isUser: UInt64 = bank == SoftwareTLB.user ? 1 : 0
        let owner = Owner(name: (rip >> 12) << 1 | isUser, frame: frame)
        let former = unsafe owners[page]
        if former != owner {
            if former.name != .max { forget(former.name >> 1) }
            unsafe owners[page] = owner
        }
        unsafe words(Self.pages)[page] = 0
        unsafe words(Self.used)[page >> 6] |= 1 << UInt64(page & 63)
        let index = Self.index(rip)
        let table = unsafe words(bank * Self.tableBytes)
        unsafe table[index] = 0 &- rip
        unsafe table[Self.entries + index] = UInt64(host)
        let slot = bank * Self.entries + index
        unsafe words(Self.filled)[slot >> 6] |= 1 << UInt64(slot & 63)
    }

    /// Forgets everything, until pages are looked up again.
    func empty() { empty(0..<Self.pageCount) }

    /// The same for the lower half of the address space.
    func emptyLowerHalf() { empty(0..<Self.pagesPerHalf) }

    private func empty(_ range: Range<Int>) {
        for word in range.lowerBound >> 6..<range.upperBound >> 6 {
            var bits = unsafe words(Self.used)[word]
            if bits == 0 { continue }
            while bits != 0 {
                unsafe words(Self.pages)[(word << 6) | bits.trailingZeroBitCount] = 1
                bits &= bits &- 1
            }
            unsafe words(Self.used)[word] = 0
        }
    }

    /// Forgets everything for good: the translations are no more.
    func removeAll() {
        unsafe raw.initializeMemory(as: UInt8.self, repeating: 0, count: Self.byteCount)
        for slot in 0..<Self.tableCount * Self.entries { invalidate(slot) }
        for page in 0..<Self.pageCount {
            unsafe words(Self.pages)[page] = 1
            unsafe owners[page] = Owner()
        }
    }

    /// Forgets the targets in a page, for good. They lie at most a page's size apart in the tables.
    private func forget(_ number: UInt64) {
        let first = Int(truncatingIfNeeded: Self.index(number << 12)) >> 6
        let wordCount = Self.entries >> 6
        for bank in 0..<Self.tableCount {
            for distance in 0...Int(pageSize) >> 6 {
                let word = bank * wordCount + (first + distance) & (wordCount - 1)
                var bits = unsafe words(Self.filled)[word]
                while bits != 0 {
                    let slot = word << 6 | bits.trailingZeroBitCount
                    let tag = unsafe words(slot / Self.entries * Self.tableBytes)[
                        slot % Self.entries]
                    if (0 &- tag) >> 12 == number {
                        invalidate(slot)
                        unsafe words(Self.filled)[word] &= ~(bits & (0 &- bits))
                    }
                    bits &= bits &- 1
                }
            }
        }
    }

    /// Sets a tag that nothing matches: that of a RIP which belongs elsewhere.
    private func invalidate(_ slot: Int) {
        let table = unsafe words(slot / Self.entries * Self.tableBytes)
        unsafe table[slot % Self.entries] = slot % Self.entries == 0 ? .max : 0
    }

    private static func index(_ rip: UInt64) -> Int {
        Int(truncatingIfNeeded: (rip &+ (rip >> 12 | rip << 52)) & mask)
    }

    private static func page(_ rip: UInt64) -> Int {
        Int(truncatingIfNeeded: rip >> 12) & (pagesPerHalf - 1)
            + Int(truncatingIfNeeded: rip >> 63) * pagesPerHalf
    }

    private var owners: UnsafeMutablePointer<Owner> {
        unsafe (raw + Self.owners).assumingMemoryBound(to: Owner.self)
    }

    private func words(_ offset: Int) -> UnsafeMutablePointer<UInt64> {
        unsafe (raw + offset).assumingMemoryBound(to: UInt64.self)
    }
}
