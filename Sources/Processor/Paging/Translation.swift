import X86

/// What a walk found: the page, and the rights that all levels grant together.
struct Translation: Equatable {
    /// Machine address of the first byte of what is cached.
    var base: UInt64
    /// The size of what is cached.
    var level: PageLevel
    /// `TranslationBits`.
    var bits: UInt8
    /// The size of the guest's page, log₂ of bytes; more than `level.shift` where this is a part of
    /// it. INVLPG ends all parts of a page, and so has to know.
    var pageShift: UInt8
    /// The protection key.
    var key: UInt8

    @inline(__always)
    init(base: UInt64, level: PageLevel, bits: UInt8, key: UInt8 = 0) {
        self.base = base
        self.level = level
        self.bits = bits
        self.key = key
        pageShift = UInt8(truncatingIfNeeded: level.shift)
    }

    @inline(__always) func has(_ bit: UInt8) -> Bool { bits & bit != 0 }

    /// Whether this is a part of a larger page.
    var isPart: Bool { UInt64(pageShift) > level.shift }

    /// Whether this, cached for `place`, is a part of a larger page in which `address` lies.
    func isPart(at place: UInt64, of address: UInt64) -> Bool {
        isPart && (place ^ address) >> UInt64(pageShift) == 0
    }
}

enum TranslationBits {
    static let writable: UInt8 = 1
    static let user: UInt8 = 2
    static let executeDisable: UInt8 = 4
    static let dirty: UInt8 = 8
    static let global: UInt8 = 16
    static let traced: UInt8 = 32
}

/// Virtual memory that a cached translation covered: the address of its first byte, and how many
/// bytes.
struct CachedPage: Equatable {
    var address: UInt64
    var span: UInt64
}

/// Which of the cached translations an operation is about.
struct CacheScope: Equatable {
    enum Globals {
        case none
        /// Those that were cached while the PCID was current.
        case ofPCID
        case all
    }

    /// The PCID whose translations it is about, global ones apart; nil: every PCID.
    var pcid: UInt16?
    /// Which global translations it is about.
    var globals: Globals

    static let everything = CacheScope(pcid: nil, globals: .all)

    @inline(__always)
    func covers(_ pcid: UInt16, isGlobal: Bool) -> Bool {
        if isGlobal { return globals == .all || globals == .ofPCID && self.pcid == pcid }
        return self.pcid == nil || self.pcid == pcid
    }
}
