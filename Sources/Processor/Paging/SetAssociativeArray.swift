import X86

/// One set-associative array. Its storage is plain memory: a lookup touches no reference count.
///
/// Beside the entries there is a byte of each one's key, its *tag*, eight to a word: a search looks
/// at two words for twelve ways, and at the entries whose tags match, mostly one or none.
///
/// Safety: every index is a set number, masked, times `ways`, plus a way below `ways`; tags are
/// found by the same set number and way.
@safe final class SetAssociativeArray {
    struct Entry {
        var key: UInt64 = .max
        var pcid: UInt16 = 0
        var translation = Translation(base: 0, level: .table, bits: 0)
        /// The value of `epoch(of:)` for the entry's kind when it was made.
        var epoch: UInt32 = 0
    }

    private let ways: Int
    private let setMask: UInt64
    private let count: Int
    private let entries: UnsafeMutablePointer<Entry>
    /// `tagWords` for each set.
    private let tags: UnsafeMutablePointer<UInt64>
    private let tagWords: Int
    /// The way to replace next, one a set.
    private let next: UnsafeMutablePointer<UInt8>
    /// Raised to drop all non-global entries, or all, at once.
    private var epoch: UInt32 = 1
    private var globalEpoch: UInt32 = 1
    /// One for each of the 4096 PCIDs: raised to drop its non-global entries, so that a load of
    /// CR3 does not look at every entry. Added to `epoch`: neither ever falls, so the sum is what it
    /// was only while both are.
    private let pcidEpochs: UnsafeMutablePointer<UInt32>

    init(sets: Int, ways: Int) {
        self.ways = ways
        setMask = UInt64(sets - 1)
        count = sets * ways
        unsafe entries = .allocate(capacity: count)
        unsafe entries.initialize(repeating: Entry(), count: count)
        tagWords = (ways + 7) / 8
        unsafe tags = .allocate(capacity: sets * tagWords)
        unsafe tags.initialize(repeating: 0, count: sets * tagWords)
        unsafe next = .allocate(capacity: sets)
        unsafe next.initialize(repeating: 0, count: sets)
        unsafe pcidEpochs = .allocate(capacity: 4096)
        unsafe pcidEpochs.initialize(repeating: 0, count: 4096)
    }

    deinit {
        unsafe entries.deallocate()
        unsafe tags.deallocate()
        unsafe next.deallocate()
        unsafe pcidEpochs.deallocate()
    }

    @inline(__always)
    private func isValid(_ entry: Entry) -> Bool {
        entry.epoch == epoch(of: entry.translation, entry.pcid)
    }

    /// What an entry for a translation has to be of, to be valid.
    @inline(__always)
    private func epoch(of translation: Translation, _ pcid: UInt16) -> UInt32 {
        translation.has(TranslationBits.global)
            ? globalEpoch : epoch &+ (unsafe pcidEpochs[Int(pcid & 4095)])
    }

    /// The byte of a key that is its tag: of the bits that vary most within a set. It is not 0,
    /// which is the tag of an entry that was dropped: a page that comes and goes leaves many.
    @inline(__always)
    private static func tag(_ key: UInt64) -> UInt64 { (key >> 5 ^ key >> 13) & 0xff | 1 }

    @inline(__always)
    private func setTag(_ set: Int, _ way: Int, _ tag: UInt64) {
        let shift = UInt64(way & 7) &* 8
        let word = set &* tagWords &+ way >> 3
        unsafe tags[word] = tags[word] & ~(0xff << shift) | tag << shift
    }

    /// The entries with a key, by the order of their ways, until `body` returns true for one.
    @inline(__always)
    private func search(_ key: UInt64, _ body: (_ index: Int, _ way: Int) -> Bool) {
        let set = Int(key & setMask)
        let ones: UInt64 = 0x0101_0101_0101_0101
        let wanted = Self.tag(key) &* ones
        for word in 0..<tagWords {
            let difference = unsafe tags[set &* tagWords &+ word] ^ wanted
            // The top bit of each byte that is zero; of others above one, too, at times.
            var hits = (difference &- ones) & ~difference & ones << 7
            while hits != 0 {
                let way = word &* 8 &+ hits.trailingZeroBitCount >> 3
                if way >= ways { return }
                let index = set &* ways &+ way
                if unsafe entries[index].key == key, body(index, way) { return }
                hits &= hits &- 1
            }
        }
    }

    @inline(__always)
    private func find(_ key: UInt64, _ pcid: UInt16, _ level: PageLevel) -> Int? {
        var found: Int?
        search(key) { index, _ in
            let entry = unsafe entries[index]
            let isFound =
                entry.translation.level == level && isValid(entry)
                && (entry.pcid == pcid || entry.translation.has(TranslationBits.global))
            if isFound { found = index }
            return isFound
        }
        return found
    }

    @inline(__always)
    func lookup(_ key: UInt64, _ pcid: UInt16, _ level: PageLevel) -> Translation? {
        guard let index = find(key, pcid, level) else { return nil }
        return unsafe entries[index].translation
    }

    /// - Returns: what had to go for it, if anything.
    func insert(_ key: UInt64, _ pcid: UInt16, _ translation: Translation) -> CachedPage? {
        let entry = Entry(
            key: key, pcid: pcid, translation: translation, epoch: epoch(of: translation, pcid))
        if let index = find(key, pcid, translation.level) {
            let old = unsafe entries[index]
            unsafe entries[index] = entry
            return old.translation == translation ? nil : page(old)
        }
        let set = Int(key & setMask)
        let way = Int(unsafe next[set])
        unsafe next[set] = UInt8(way + 1 == ways ? 0 : way + 1)
        let old = unsafe entries[set * ways + way]
        unsafe entries[set * ways + way] = entry
        setTag(set, way, Self.tag(key))
        guard old.key != .max, isValid(old) else { return nil }
        return page(old)
    }

    private func page(_ entry: Entry) -> CachedPage {
        let level = entry.translation.level
        return CachedPage(address: entry.key << level.shift, span: level.entrySpan)
    }

    /// All that it holds, for debuggers.
    var valid: [CachedTranslation] {
        (0..<count).compactMap { index in
            let entry = unsafe entries[index]
            guard entry.key != .max, isValid(entry) else { return nil }
            return CachedTranslation(page(entry).address, entry.pcid, entry.translation)
        }
    }

    /// Drops one entry that `number` chooses, if it is valid.
    func evict(_ number: UInt64) -> CachedPage? {
        let index = Int(truncatingIfNeeded: number % UInt64(count))
        let old = unsafe entries[index]
        guard old.key != .max, isValid(old) else { return nil }
        unsafe entries[index].key = .max
        return page(old)
    }

    @discardableResult
    func invalidate(_ key: UInt64, _ level: PageLevel, _ scope: CacheScope) -> Bool {
        var found = false
        search(key) { index, way in
            let entry = unsafe entries[index]
            if entry.translation.level == level,
                scope.covers(entry.pcid, isGlobal: entry.translation.has(TranslationBits.global))
            {
                unsafe entries[index].key = .max
                setTag(Int(key & setMask), way, 0)
                found = true
            }
            return false
        }
        return found
    }

    /// Drops the parts of the larger pages that `address` lies in.
    func invalidateParts(_ address: UInt64, _ scope: CacheScope) -> Bool {
        var found = false
        for index in 0..<count where unsafe entries[index].key != .max {
            let entry = unsafe entries[index]
            let translation = entry.translation
            guard translation.isPart(at: entry.key << translation.level.shift, of: address),
                scope.covers(entry.pcid, isGlobal: translation.has(TranslationBits.global))
            else { continue }
            unsafe entries[index].key = .max
            found = true
        }
        return found
    }

    func invalidateAll(_ scope: CacheScope) {
        if scope.globals == .all { globalEpoch &+= 1 }
        guard let pcid = scope.pcid else {
            epoch &+= 1
            return
        }
        unsafe pcidEpochs[Int(pcid & 4095)] &+= 1
        guard scope.globals == .ofPCID else { return }
        for index in 0..<count {
            let entry = unsafe entries[index]
            if entry.pcid == pcid, entry.translation.has(TranslationBits.global) {
                unsafe entries[index].key = .max
            }
        }
    }
}
