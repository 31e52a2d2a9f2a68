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
    /// Whether it may hold pages of 2 MiB, and of 1 GiB: a machine without them never looks.
    private var hasLarge = false
    private var hasLargest = false
    /// Whether it may hold parts of guest pages that are larger.
    private var hasParts = false
    /// A bit for each 2^42 bytes of the address space, by number modulo 64, in which global
    /// translations were cached, and others.
    private var globalRegions: UInt64 = 0
    private var otherRegions: UInt64 = 0

    /// Whether one address may have a global translation and one of another PCID's own; which is
    /// found first then depends on the PCID.
    var mayShadowGlobals: Bool { globalRegions & otherRegions != 0 }

    init(_ geometry: Geometry = Geometry()) {
        small = SetAssociativeArray(sets: geometry.smallSets, ways: geometry.smallWays)
        large = SetAssociativeArray(sets: geometry.largeSets, ways: geometry.largeWays)
    }

    /// The translation of `address` in `pcid`, if cached.
    @inline(__always)
    func lookup(_ address: UInt64, pcid: UInt16) -> Translation? {
        if let found = small.lookup(address >> 12, pcid, .table) { return found }
        if hasLarge, let found = large.lookup(address >> 21, pcid, .directory) { return found }
        return hasLargest ? large.lookup(address >> 30, pcid, .directoryPointer) : nil
    }

    /// Caches a translation.
    /// - Returns: what had to go for it, if anything.
    func insert(_ address: UInt64, pcid: UInt16, _ translation: Translation) -> CachedPage? {
        if translation.isPart { hasParts = true }
        let region = UInt64(1) << (address >> 42 & 63)
        if translation.has(TranslationBits.global) {
            globalRegions |= region
        } else {
            otherRegions |= region
        }
        let key = address >> translation.level.shift
        if translation.level == .table { return small.insert(key, pcid, translation) }
        // A smaller one, which did not permit the access, would go on to be found first.
        let scope = CacheScope(pcid: pcid, globals: .all)
        small.invalidate(address >> 12, .table, scope)
        if translation.level == .directoryPointer {
            large.invalidate(address >> 21, .directory, scope)
            hasLargest = true
        } else {
            hasLarge = true
        }
        return large.insert(key, pcid, translation)
    }

    /// Drops what is cached in `scope` for the page at `address`: of a larger page that is cached
    /// in parts, all of them, by the size that it was cached with.
    /// - Parameter parts: false: the one part at the address (`Erratum.invlpgOnePart`).
    /// - Returns: whether anything went that is not the 4 KiB page alone.
    func invalidate(_ address: UInt64, _ scope: CacheScope, parts: Bool = true) -> Bool {
        var isWide = false
        if hasParts && parts {
            isWide = small.invalidateParts(address, scope)
            isWide = large.invalidateParts(address, scope) || isWide
        }
        small.invalidate(address >> 12, .table, scope)
        if hasLarge { isWide = large.invalidate(address >> 21, .directory, scope) || isWide }
        guard hasLargest else { return isWide }
        return large.invalidate(address >> 30, .directoryPointer, scope) || isWide
    }

    /// Drops all translations in `scope`.
    func invalidateAll(_ scope: CacheScope) {
        small.invalidateAll(scope)
        if hasLarge || hasLargest { large.invalidateAll(scope) }
        if scope == .everything {
            hasLarge = false
            hasLargest = false
            hasParts = false
            globalRegions = 0
            otherRegions = 0
        }
    }

    /// All that it holds, for debuggers.
    var entries: [CachedTranslation] { small.valid + large.valid }

    /// Drops one translation, or none, as a random number has it.
    func evict(_ number: UInt64) -> CachedPage? {
        let array = number & 7 == 0 && (hasLarge || hasLargest) ? large : small
        return array.evict(number >> 3)
    }
}
