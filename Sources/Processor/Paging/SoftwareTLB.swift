import X86

/// The software TLB: what makes a memory access a handful of host instructions.
///
/// Banks of direct-mapped entries, one for each right with which memory is accessed: supervisor
/// with EFLAGS.AC clear, supervisor with AC set (SMAP lets user pages through), user. A fourth bank
/// stays empty: with it every access of alignment-checked user code takes the slow path.
/// An entry's tags hold the page's address with the generation in the low 12 bits; a tag of a
/// former generation never matches. It is always a subset of the modelled TLB and is invisible in
/// every count.
@safe struct SoftwareTLB {
    /// One entry: 32 bytes.
    struct Entry {
        /// The page and generation if reads hit; 0 (generation 0 is never used) otherwise.
        var readTag: UInt64 = 0
        /// The same for writes: only where nothing else is due at a write (tracing, D, code).
        var writeTag: UInt64 = 0
        /// Host address minus guest virtual address.
        var addend: UInt64 = 0
        var unused: UInt64 = 0
    }

    static let entriesPerBank: UInt64 = 1024
    static let bankCount = 4
    static let supervisor = 0
    static let supervisorAC = 1
    static let user = 2
    static let userChecked = 3

    private let entries: UnsafeMutablePointer<Entry>

    init() {
        let count = Int(Self.entriesPerBank) * Self.bankCount
        unsafe entries = .allocate(capacity: count)
        unsafe entries.initialize(repeating: Entry(), count: count)
    }

    func deallocate() { unsafe entries.deallocate() }

    /// The address of a bank's first entry.
    func bank(_ number: Int) -> UInt {
        unsafe UInt(bitPattern: entries + number * Int(Self.entriesPerBank))
    }

    @inline(__always)
    static func entry(_ bank: UInt, _ address: UInt64) -> UnsafeMutablePointer<Entry> {
        let index = UInt(truncatingIfNeeded: (address >> 12) & (entriesPerBank - 1))
        return unsafe UnsafeMutablePointer<Entry>(bitPattern: bank &+ index &* 32).unsafelyUnwrapped
    }

    /// Drops the entries of the page at `address` in every bank.
    func invalidate(_ address: UInt64) {
        let page = address & ~0xfff
        for number in 0..<Self.bankCount {
            let entry = unsafe Self.entry(bank(number), page)
            if unsafe entry.pointee.readTag & ~0xfff == page { unsafe entry.pointee.readTag = 0 }
            if unsafe entry.pointee.writeTag & ~0xfff == page { unsafe entry.pointee.writeTag = 0 }
        }
    }

    /// Drops the entries of every page in `span` (a power of two) bytes around `address`.
    func invalidate(_ address: UInt64, span: UInt64) {
        if span == pageSize { return invalidate(address) }
        let mask = ~(span - 1)
        for index in 0..<Int(Self.entriesPerBank) * Self.bankCount {
            if unsafe (entries[index].readTag ^ address) & mask == 0 {
                unsafe entries[index].readTag = 0
            }
            if unsafe (entries[index].writeTag ^ address) & mask == 0 {
                unsafe entries[index].writeTag = 0
            }
        }
    }

    /// Makes writes to one host frame take the slow path.
    func forbidWrites(hostFrame: UInt64) {
        for index in 0..<Int(Self.entriesPerBank) * Self.bankCount {
            let tag = unsafe entries[index].writeTag
            if tag != 0, unsafe (tag & ~0xfff) &+ entries[index].addend == hostFrame {
                unsafe entries[index].writeTag = 0
            }
        }
    }

    /// Drops everything.
    func removeAll() {
        let count = Int(Self.entriesPerBank) * Self.bankCount
        unsafe entries.update(repeating: Entry(), count: count)
    }
}
