import X86

/// One translation that the modelled TLB holds.
public struct CachedTranslation: Equatable, Sendable {
    /// The linear address of the first byte.
    public var address: UInt64
    /// The machine address of the first byte.
    public var base: UInt64
    /// log₂ of its size in bytes.
    public var shift: UInt64
    /// log₂ of the size of the guest's page, which may be larger.
    public var pageShift: UInt64
    /// The PCID that was current when it was cached.
    public var pcid: UInt16
    public var isWritable: Bool
    public var isUser: Bool
    public var isExecuteDisabled: Bool
    public var isDirty: Bool
    public var isGlobal: Bool
    /// Writes through it are recorded.
    public var isTraced: Bool

    init(_ address: UInt64, _ pcid: UInt16, _ translation: Translation) {
        // The key of a canonical address has lost no bit.
        self.address = address
        base = translation.base
        shift = translation.level.shift
        pageShift = UInt64(translation.pageShift)
        self.pcid = pcid
        isWritable = translation.has(TranslationBits.writable)
        isUser = translation.has(TranslationBits.user)
        isExecuteDisabled = translation.has(TranslationBits.executeDisable)
        isDirty = translation.has(TranslationBits.dirty)
        isGlobal = translation.has(TranslationBits.global)
        isTraced = translation.has(TranslationBits.traced)
    }
}

extension Processor {
    /// What the modelled TLB holds, by PCID and address. Looking changes nothing.
    public var cachedTranslations: [CachedTranslation] {
        caches.entries.sorted { ($0.pcid, $0.address) < ($1.pcid, $1.address) }
    }
}
