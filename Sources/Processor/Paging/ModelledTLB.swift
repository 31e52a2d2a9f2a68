import X86

/// The translation cache of the modelled hardware: the one whose misses are counted.
///
/// Set-associative with first-in-first-out replacement, so that hits in the software TLB, which it
/// does not see, cannot change what it holds. Translations of 4 KiB pages and of large pages have
/// arrays of their own. Entries are tagged with their PCID; global ones match in every PCID
/// (SDM Vol. 3A §4.10.2).
final class ModelledTLB {
    /// Sizes, each a power of two.
    struct Geometry: Equatable, Sendable {
        var smallSets = 128
        var smallWays = 12
        var largeSets = 32
        var largeWays = 8
    }

    private let small: SetAssociativeArray
    private let large: SetAssociativeArray
    /// How many large entries are valid, so that a machine without them never looks.
    private var hasLarge = false
    /// Whether it may hold parts of guest pages that are larger: an address then does not find all
    /// that belongs to its page.
    var hasFragments = false

    init(_ geometry: Geometry = Geometry()) {
        small = SetAssociativeArray(sets: geometry.smallSets, ways: geometry.smallWays)
        large = SetAssociativeArray(sets: geometry.largeSets, ways: geometry.largeWays)
    }

    /// The translation of `address` in `pcid`, if cached.
    @inline(__always)
    func lookup(_ address: UInt64, pcid: UInt16) -> Translation? {
        if let found = small.lookup(address >> 12, pcid, .table) { return found }
        guard hasLarge else { return nil }
        return large.lookup(address >> 21, pcid, .directory)
            ?? large.lookup(address >> 30, pcid, .directoryPointer)
    }

    /// Caches a translation.
    /// - Returns: the page and the span in bytes of the translation that had to go, if any.
    func insert(_ address: UInt64, pcid: UInt16, _ translation: Translation)
        -> (page: UInt64, span: UInt64)?
    {
        let key = address >> translation.level.shift
        if translation.level == .table { return small.insert(key, pcid, translation) }
        hasLarge = true
        return large.insert(key, pcid, translation)
    }

    /// Drops the translations of the page at `address` that INVLPG covers: those of `pcid`, and
    /// global ones. With `pcid` nil, those of every PCID.
    func invalidate(_ address: UInt64, pcid: UInt16?, global: Bool = true) -> Bool {
        small.invalidate(address >> 12, pcid, .table, global)
        guard hasLarge else { return false }
        let directory = large.invalidate(address >> 21, pcid, .directory, global)
        let pointer = large.invalidate(address >> 30, pcid, .directoryPointer, global)
        return directory || pointer
    }

    /// Drops the translation of the 2 MiB at `address`, as `invalidate`.
    func invalidateHalf(_ address: UInt64, pcid: UInt16?, global: Bool) -> Bool {
        hasLarge && large.invalidate(address >> 21, pcid, .directory, global)
    }

    /// Drops all translations of a PCID (nil: of all), global ones only if asked.
    func invalidateAll(pcid: UInt16?, global: Bool) {
        small.invalidateAll(pcid, global)
        if hasLarge { large.invalidateAll(pcid, global) }
        if pcid == nil && global {
            hasLarge = false
            hasFragments = false
        }
    }
}

/// What a walk found: the page, and the rights that all levels grant together.
struct Translation: Equatable {
    /// Machine address of the page's first byte.
    var base: UInt64
    var level: PageLevel
    /// `TranslationBits`.
    var bits: UInt8

    @inline(__always) func has(_ bit: UInt8) -> Bool { bits & bit != 0 }
}

enum TranslationBits {
    static let writable: UInt8 = 1
    static let user: UInt8 = 2
    static let executeDisable: UInt8 = 4
    static let dirty: UInt8 = 8
    static let global: UInt8 = 16
    static let traced: UInt8 = 32
}

/// One set-associative array. Its storage is plain memory: a lookup touches no reference count.
///
/// Safety: every index is a set number, masked, times `ways`, plus a way below `ways`.
@safe private final class SetAssociativeArray {
    struct Entry {
        var key: UInt64 = .max
        var pcid: UInt16 = 0
        var translation = Translation(base: 0, level: .table, bits: 0)
        /// The value of `epochs` for the entry's kind when it was made.
        var epoch: UInt32 = 0
    }

    private let ways: Int
    private let setMask: UInt64
    private let count: Int
    private let entries: UnsafeMutablePointer<Entry>
    /// The way to replace next, one a set.
    private let next: UnsafeMutablePointer<UInt8>
    /// Raised to drop all non-global entries, or all, at once.
    private var epoch: UInt32 = 1
    private var globalEpoch: UInt32 = 1

    init(sets: Int, ways: Int) {
        self.ways = ways
        setMask = UInt64(sets - 1)
        count = sets * ways
        unsafe entries = .allocate(capacity: count)
        unsafe entries.initialize(repeating: Entry(), count: count)
        unsafe next = .allocate(capacity: sets)
        unsafe next.initialize(repeating: 0, count: sets)
    }

    deinit {
        unsafe entries.deallocate()
        unsafe next.deallocate()
    }

    @inline(__always)
    private func isValid(_ entry: Entry) -> Bool {
        entry.epoch == (entry.translation.has(TranslationBits.global) ? globalEpoch : epoch)
    }

    @inline(__always)
    private func find(_ key: UInt64, _ pcid: UInt16, _ level: PageLevel) -> Int? {
        let first = Int(key & setMask) * ways
        for index in first..<first + ways where unsafe entries[index].key == key {
            let entry = unsafe entries[index]
            if entry.translation.level == level, isValid(entry),
                entry.pcid == pcid || entry.translation.has(TranslationBits.global)
            {
                return index
            }
        }
        return nil
    }

    @inline(__always)
    func lookup(_ key: UInt64, _ pcid: UInt16, _ level: PageLevel) -> Translation? {
        guard let index = find(key, pcid, level) else { return nil }
        return unsafe entries[index].translation
    }

    func insert(_ key: UInt64, _ pcid: UInt16, _ translation: Translation)
        -> (page: UInt64, span: UInt64)?
    {
        let global = translation.has(TranslationBits.global)
        let entry = Entry(
            key: key, pcid: pcid, translation: translation, epoch: global ? globalEpoch : epoch)
        if let index = find(key, pcid, translation.level) {
            unsafe entries[index] = entry
            return nil
        }
        let set = Int(key & setMask)
        let way = Int(unsafe next[set])
        unsafe next[set] = UInt8(way + 1 == ways ? 0 : way + 1)
        let old = unsafe entries[set * ways + way]
        unsafe entries[set * ways + way] = entry
        guard old.key != .max, isValid(old) else { return nil }
        let level = old.translation.level
        return (old.key << level.shift, level.entrySpan)
    }

    @discardableResult
    func invalidate(_ key: UInt64, _ pcid: UInt16?, _ level: PageLevel, _ global: Bool)
        -> Bool
    {
        var found = false
        let first = Int(key & setMask) * ways
        for index in first..<first + ways where unsafe entries[index].key == key {
            let entry = unsafe entries[index]
            guard entry.translation.level == level else { continue }
            let isGlobal = entry.translation.has(TranslationBits.global)
            if isGlobal ? global : (pcid == nil || entry.pcid == pcid) {
                unsafe entries[index].key = .max
                found = true
            }
        }
        return found
    }

    func invalidateAll(_ pcid: UInt16?, _ global: Bool) {
        if global { globalEpoch &+= 1 }
        guard let pcid else {
            epoch &+= 1
            return
        }
        for index in 0..<count
        where unsafe entries[index].pcid == pcid
            && !entries[index].translation.has(TranslationBits.global)
        {
            unsafe entries[index].key = .max
        }
    }
}
