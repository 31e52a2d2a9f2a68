import X86

/// A translation cache that keeps all it lawfully may (`Hardware.Replacement.never`): entries go by
/// operations alone.
///
/// What a host can hold is its only bound: where `ceiling` is reached, all is dropped at once, as
/// any cache may at any time.
final class KeepingTLB {
    private struct Key: Hashable {
        /// The number of the page, in pages of its size.
        var number: UInt64
        var level: PageLevel

        init(_ address: UInt64, _ level: PageLevel) {
            number = address >> level.shift
            self.level = level
        }

        var address: UInt64 { number << level.shift }
    }

    private struct Global {
        var translation: Translation
        /// The PCID that was current when it was cached.
        var pcid: UInt16
    }

    private static let levels: [PageLevel] = [.table, .directory, .directoryPointer]
    /// The most translations that are held: some 20 MiB.
    static let ceiling = 1 << 18

    /// By PCID.
    private var contexts = [[Key: Translation]](repeating: [:], count: Int(CR3.pcidMask) + 1)
    /// The PCIDs that may have translations.
    private var pcids: [UInt16] = []
    private var globals: [Key: Global] = [:]
    private var count = 0
    /// Bit n: there may be translations of level n.
    private var presentLevels: UInt8 = 0
    /// Bit n: there may be parts of pages of 2^n bytes.
    private var partShifts: UInt64 = 0
    /// The pages of which there may be parts: address of the first byte + log₂ of the size.
    private var partPages: Set<UInt64> = []

    /// Whether nothing can be inserted before all is dropped.
    var isFull: Bool { max(count, partPages.count) >= Self.ceiling }

    /// The translation of `address` in `pcid`: of the smallest page that is cached.
    func lookup(_ address: UInt64, pcid: UInt16) -> Translation? {
        for level in Self.levels where presentLevels >> level.rawValue & 1 != 0 {
            let key = Key(address, level)
            if let found = contexts[Int(pcid)][key] ?? globals[key]?.translation { return found }
        }
        return nil
    }

    /// Caches a translation, in place of what `lookup` would find before it. It must not be full.
    /// - Returns: what had to go for it, if anything.
    func insert(_ address: UInt64, pcid: UInt16, _ translation: Translation) -> CachedPage? {
        let key = Key(address, translation.level)
        var gone = false
        for level in Self.levels where level <= translation.level {
            gone = remove(Key(address, level), CacheScope(pcid: pcid, globals: .all)) || gone
        }
        if translation.has(TranslationBits.global) {
            globals[key] = Global(translation: translation, pcid: pcid)
        } else {
            if contexts[Int(pcid)].isEmpty { pcids.append(pcid) }
            contexts[Int(pcid)][key] = translation
        }
        count += 1
        presentLevels |= 1 << translation.level.rawValue
        if translation.isPart {
            let shift = UInt64(translation.pageShift)
            partShifts |= 1 << shift
            partPages.insert(address & ~((1 << shift) &- 1) | shift)
        }
        return gone ? CachedPage(address: key.address, span: translation.level.entrySpan) : nil
    }

    /// Drops what is cached in `scope` for the page at `address`; see `ModelledTLB.invalidate`.
    func invalidate(_ address: UInt64, _ scope: CacheScope, parts: Bool = true) -> Bool {
        _ = remove(Key(address, .table), scope)
        var isWide = remove(Key(address, .directory), scope)
        isWide = remove(Key(address, .directoryPointer), scope) || isWide
        guard parts, partShifts != 0 else { return isWide }
        for shift in 13..<64 as Range<UInt64> where partShifts >> shift & 1 != 0 {
            let base = address & ~((1 << shift) &- 1)
            guard partPages.contains(base | shift) else { continue }
            removeParts(of: base, shift, scope)
            isWide = true
        }
        return isWide
    }

    /// Drops all translations in `scope`.
    func invalidateAll(_ scope: CacheScope) {
        for pcid in pcids where scope.covers(pcid, isGlobal: false) {
            count -= contexts[Int(pcid)].count
            contexts[Int(pcid)] = [:]
        }
        pcids.removeAll { scope.covers($0, isGlobal: false) }
        if scope.globals != .none {
            count -= globals.count
            globals =
                scope.globals == .all ? [:] : globals.filter { $0.value.pcid != scope.pcid }
            count += globals.count
        }
        if scope == .everything {
            presentLevels = 0
            partShifts = 0
            partPages.removeAll()
        }
    }

    /// All that it holds, for debuggers.
    var entries: [CachedTranslation] {
        pcids.flatMap { pcid in
            contexts[Int(pcid)].map { CachedTranslation($0.key.address, pcid, $0.value) }
        } + globals.map { CachedTranslation($0.key.address, $0.value.pcid, $0.value.translation) }
    }

    private func remove(_ key: Key, _ scope: CacheScope) -> Bool {
        let before = count
        if let pcid = scope.pcid {
            remove(key, pcid)
        } else {
            for pcid in pcids { remove(key, pcid) }
        }
        if scope.globals != .none, let global = globals[key],
            scope.covers(global.pcid, isGlobal: true)
        {
            globals[key] = nil
            count -= 1
        }
        return count != before
    }

    private func remove(_ key: Key, _ pcid: UInt16) {
        guard contexts[Int(pcid)].removeValue(forKey: key) != nil else { return }
        count -= 1
        if contexts[Int(pcid)].isEmpty { pcids.removeAll { $0 == pcid } }
    }

    /// Removes the parts of the page of 2^`shift` bytes at `base`.
    private func removeParts(of base: UInt64, _ shift: UInt64, _ scope: CacheScope) {
        for pcid in pcids where scope.covers(pcid, isGlobal: false) {
            for key in keys(base, shift, in: contexts[Int(pcid)].keys) {
                guard let found = contexts[Int(pcid)][key], found.isPart(at: key.address, of: base)
                else { continue }
                remove(key, pcid)
            }
        }
        guard scope.globals != .none else { return }
        for key in keys(base, shift, in: globals.keys) {
            guard let found = globals[key], scope.covers(found.pcid, isGlobal: true),
                found.translation.isPart(at: key.address, of: base)
            else { continue }
            globals[key] = nil
            count -= 1
        }
    }

    /// The keys that parts of a page of 2^`shift` bytes may have: each of a large page, and all
    /// that there are of a huge one.
    private func keys<All: Collection<Key>>(_ base: UInt64, _ shift: UInt64, in all: All) -> [Key] {
        guard shift < PageLevel.directoryPointer.shift else { return Array(all) }
        return [.table, .directory].flatMap { (level: PageLevel) in
            (0..<(UInt64(1) << shift) / level.entrySpan).map { number in
                Key(base &+ number << level.shift, level)
            }
        }
    }
}
