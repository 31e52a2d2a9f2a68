import X86

/// One set-associative array. Its storage is plain memory: a lookup touches no reference count.
///
/// Safety: every index is a set number, masked, times `ways`, plus a way below `ways`.
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
        unsafe next = .allocate(capacity: sets)
        unsafe next.initialize(repeating: 0, count: sets)
        unsafe pcidEpochs = .allocate(capacity: 4096)
        unsafe pcidEpochs.initialize(repeating: 0, count: 4096)
    }

    deinit {
        unsafe entries.deallocate()
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
        guard old.key != .max, isValid(old) else { return nil }
        return page(old)
    }

    private func page(_ entry: Entry) -> CachedPage {
        let level = entry.translation.level
        return CachedPage(address: entry.key << level.shift, span: level.entrySpan)
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
        let first = Int(key & setMask) * ways
        for index in first..<first + ways where unsafe entries[index].key == key {
            let entry = unsafe entries[index]
            guard entry.translation.level == level,
                scope.covers(entry.pcid, isGlobal: entry.translation.has(TranslationBits.global))
            else { continue }
            unsafe entries[index].key = .max
            found = true
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
