import X86

/// The software TLB: what makes a memory access a handful of host instructions.
///
/// Banks of direct-mapped entries, one for each right with which memory is accessed: supervisor
/// with EFLAGS.AC clear, supervisor with AC set (SMAP lets user pages through), user. A fourth bank
/// stays empty: with it every access of alignment-checked user code takes the slow path.
/// It is always a subset of the modelled TLB and is invisible in every count.
///
/// A bank is three arrays of quadwords, so that generated code reaches all three by one index:
/// ```
///  0            read tags: the negated address of the page if reads hit
///  8 × 4096     write tags: the same for writes, where nothing else is due (tracing, D, code)
///  16 × 4096    addends: host address minus guest virtual address
/// ```
/// An access hits if its last byte's address plus the tag is below 4096. A tag that nothing may hit
/// is that of a page which belongs to an entry half the bank away.
///
/// Safety: the banks lie at a fixed distance behind the processor's state and live as long.
@safe struct SoftwareTLB {
    static let entriesPerBank = 4096
    static let bankCount = 4
    static let supervisor = 0
    static let supervisorAC = 1
    static let user = 2
    static let userChecked = 3

    /// Offsets in a bank, and the size of one.
    static let readTags = 0
    static let writeTags = 8 * entriesPerBank
    static let addends = 16 * entriesPerBank
    static let bankBytes = 24 * entriesPerBank
    /// Words of a bit for each entry.
    private static let words = bankCount * entriesPerBank / 64
    /// The memory that it takes: the banks, and behind them a bit for each entry that was filled,
    /// and one for each that is not global.
    static let byteCount = bankCount * bankBytes + 2 * 8 * words

    private let raw: UnsafeMutableRawPointer

    /// - Parameter memory: `byteCount` bytes, 8-byte aligned.
    init(at memory: UnsafeMutableRawPointer) {
        unsafe raw = memory
        removeAll()
    }

    /// The address of a bank.
    func bank(_ number: Int) -> UInt { unsafe UInt(bitPattern: raw + number * Self.bankBytes) }

    /// One entry, by the address of its read tag.
    @safe struct Entry {
        private let pointer: UnsafeMutablePointer<UInt64>

        @inline(__always) init(_ bank: UInt, _ index: UInt) {
            unsafe pointer =
                UnsafeMutablePointer<UInt64>(bitPattern: bank &+ index &* 8)
                .unsafelyUnwrapped
        }

        @inline(__always) var readTag: UInt64 {
            get { unsafe pointer.pointee }
            nonmutating set { unsafe pointer.pointee = newValue }
        }
        @inline(__always) var writeTag: UInt64 {
            get { unsafe pointer[SoftwareTLB.entriesPerBank] }
            nonmutating set { unsafe pointer[SoftwareTLB.entriesPerBank] = newValue }
        }
        @inline(__always) var addend: UInt64 {
            get { unsafe pointer[2 * SoftwareTLB.entriesPerBank] }
            nonmutating set { unsafe pointer[2 * SoftwareTLB.entriesPerBank] = newValue }
        }
    }

    @inline(__always)
    private static func index(_ address: UInt64) -> UInt {
        UInt(truncatingIfNeeded: (address >> 12) & UInt64(entriesPerBank - 1))
    }

    @inline(__always)
    static func entry(_ bank: UInt, _ address: UInt64) -> Entry { Entry(bank, index(address)) }

    /// Whether a tag lets an access of `size` bytes at `address` through.
    @inline(__always)
    static func hits(_ tag: UInt64, _ address: UInt64, _ size: UInt64) -> Bool {
        address &+ (size &- 1) &+ tag < pageSize
    }

    /// The tag that nothing hits in the entry of `address`.
    static func invalidTag(_ address: UInt64) -> UInt64 {
        0 &- UInt64((index(address) ^ UInt(entriesPerBank / 2)) << 12)
    }

    /// Enters a page: `nil` for a kind of access that takes the slow path.
    func fill(
        _ bank: UInt, page: UInt64, read: Bool, write: Bool, isGlobal: Bool, addend: UInt64
    ) {
        let entry = Self.entry(bank, page)
        entry.addend = addend
        entry.readTag = read ? 0 &- page : Self.invalidTag(page)
        entry.writeTag = write ? 0 &- page : Self.invalidTag(page)
        let number = unsafe (bank &- UInt(bitPattern: raw)) / UInt(Self.bankBytes)
        let bit = number &* UInt(Self.entriesPerBank) &+ Self.index(page)
        let mask = UInt64(1) << UInt64(bit & 63)
        let word = Int(bit >> 6)
        unsafe filled[word] |= mask
        let others = unsafe filled[Self.words + word] & ~mask
        unsafe filled[Self.words + word] = isGlobal ? others : others | mask
    }

    /// Drops the entries of the page at `address` in every bank.
    func invalidate(_ address: UInt64) {
        let page = 0 &- (address & ~0xfff)
        for number in 0..<Self.bankCount {
            let entry = Self.entry(bank(number), address)
            if entry.readTag == page { entry.readTag = Self.invalidTag(address) }
            if entry.writeTag == page { entry.writeTag = Self.invalidTag(address) }
        }
    }

    /// Drops the entries of every page in `span` (a power of two) bytes around `address`.
    func invalidate(_ address: UInt64, span: UInt64) {
        if span == pageSize { return invalidate(address) }
        let mask = ~(span - 1)
        forEachFilled { entry, index in
            let invalid = Self.invalidTag(index << 12)
            if ((0 &- entry.readTag) ^ address) & mask == 0 { entry.readTag = invalid }
            if ((0 &- entry.writeTag) ^ address) & mask == 0 { entry.writeTag = invalid }
        }
    }

    /// Makes writes to one host frame take the slow path.
    func forbidWrites(hostFrame: UInt64) {
        forEachFilled { entry, index in
            if entry.addend &- entry.writeTag == hostFrame {
                entry.writeTag = Self.invalidTag(index << 12)
            }
        }
    }

    /// Drops everything, in time for what there is.
    func empty() {
        forEachFilled { entry, index in
            let invalid = Self.invalidTag(index << 12)
            entry.readTag = invalid
            entry.writeTag = invalid
        }
        for word in 0..<2 * Self.words { unsafe filled[word] = 0 }
    }

    /// Drops everything but global pages.
    func emptyLocal() {
        for word in 0..<Self.words {
            let local = unsafe filled[Self.words + word]
            if local == 0 { continue }
            forEach(local, word) { entry, index in
                let invalid = Self.invalidTag(index << 12)
                entry.readTag = invalid
                entry.writeTag = invalid
            }
            unsafe filled[word] &= ~local
            unsafe filled[Self.words + word] = 0
        }
    }

    /// Sets every entry, whatever the memory holds.
    private func removeAll() {
        unsafe raw.initializeMemory(as: UInt8.self, repeating: 0, count: Self.byteCount)
        for number in 0..<Self.bankCount {
            for index in 0..<UInt(Self.entriesPerBank) {
                let entry = Entry(bank(number), index)
                entry.readTag = Self.invalidTag(UInt64(index) << 12)
                entry.writeTag = entry.readTag
            }
        }
    }

    private var filled: UnsafeMutablePointer<UInt64> {
        unsafe (raw + Self.bankCount * Self.bankBytes).assumingMemoryBound(to: UInt64.self)
    }

    @inline(__always)
    private func forEachFilled(_ body: (Entry, UInt64) -> Void) {
        for word in 0..<Self.words { forEach(unsafe filled[word], word, body) }
    }

    /// The entries whose bits are set in a word of their bits.
    @inline(__always)
    private func forEach(_ bits: UInt64, _ word: Int, _ body: (Entry, UInt64) -> Void) {
        var bits = bits
        while bits != 0 {
            let number = word * 64 + bits.trailingZeroBitCount
            let index = number % Self.entriesPerBank
            body(Entry(bank(number / Self.entriesPerBank), UInt(index)), UInt64(index))
            bits &= bits &- 1
        }
    }
}
