import X86

/// All that a processor has cached of translations: the TLB, the paging-structure caches where the
/// hardware has them, and what the engine derives from the TLB for its own speed.
///
/// *Problem.* The architecture says for each operation what must be gone after it, and leaves
/// everything else open (SDM Vol. 3A §4.10). Software that forgets an operation works on hardware
/// that drops more, and fails on hardware that keeps more.
///
/// *Approach.* Instructions name operations of the architecture
/// (`TranslationCaches+Operations.swift`), each of which states its rule once; which caches there
/// are, and what goes beside what must go, is the `Hardware`'s. The software TLB and the lookups of
/// decoded blocks hold nothing that is not in the TLB: so how much they hold, and which engine asks
/// them, is in no count.
///
/// *Example.* MOV to CR3: `caches.rootLoaded(pcid: processor.currentPCID, flushes: true)`.
final class TranslationCaches {
    let hardware: Hardware
    /// `Hardware.speculates`.
    let speculates: Bool
    /// `Erratum.cachedNotAccessed`.
    let leavesAccessedClear: Bool
    let software: SoftwareTLB
    let structures: StructureCache?
    private let tlb: ModelledTLB
    /// In place of `tlb`, where nothing is evicted.
    private let keeper: KeepingTLB?
    private let core: Core
    private let blocks: BlockCache
    private var generator: SplitMix64
    private let evicts: Bool
    private let cachesParts: Bool
    /// Whether the engine goes on using global translations when the root changes.
    private let keepsGlobals: Bool

    /// - Parameter index: the processor's number, so that two evict different things.
    init(
        _ hardware: Hardware, core: Core, software: SoftwareTLB, blocks: BlockCache, index: Int
    ) {
        self.hardware = hardware
        self.software = software
        speculates = hardware.speculates
        leavesAccessedClear = hardware.errata.contains(.cachedNotAccessed)
        cachesParts = hardware.fragments || hardware.errata.contains(.invlpgOnePart)
        self.core = core
        self.blocks = blocks
        keepsGlobals = hardware == Hardware()
        structures = keepsGlobals ? nil : StructureCache()
        keeper = hardware.replacement == .never ? KeepingTLB() : nil
        tlb = ModelledTLB()
        var seed: UInt64 = 0
        if case .random(let given) = hardware.replacement {
            seed = given
            evicts = true
        } else {
            evicts = false
        }
        generator = SplitMix64(seed: seed ^ UInt64(truncatingIfNeeded: index) &<< 56)
    }

    // MARK: Use

    /// The translation of `address` in `pcid`, if cached.
    @inline(__always)
    func lookup(_ address: UInt64, pcid: UInt16) -> Translation? {
        if let keeper { return keeper.lookup(address, pcid: pcid) }
        return tlb.lookup(address, pcid: pcid)
    }

    /// Caches what a walk found for an address.
    /// - Returns: what is cached of it.
    func insert(_ address: UInt64, pcid: UInt16, _ walked: Translation) -> Translation {
        evictSome(near: address, pcid)
        let translation = cachesParts ? walked.part(at: address) : walked
        // What was found before a larger page is found no more.
        if translation.level != .table { software.invalidate(address) }
        if let keeper {
            if keeper.isFull {
                keeper.invalidateAll(.everything)
                emptySoftware()
            }
            if let gone = keeper.insert(address, pcid: pcid, translation) { forget(gone) }
        } else if let gone = tlb.insert(address, pcid: pcid, translation) {
            forget(gone)
        }
        return translation
    }

    /// Empties what the engine derives from the TLB: the software TLB and the lookups of blocks by
    /// virtual address. Nothing of the architecture is dropped. For changes of what the engine has
    /// worked into them: the mode's bits that bear on rights, and watched pages.
    func emptySoftware() {
        software.empty()
        blocks.flushLookups()
        core.leaveBlock()
    }

    /// The same for what is not global, where the TLB keeps what is: a new root, or another PCID.
    /// - Parameter isEmpty: nothing but global translations is left in the PCID.
    func emptyLocalSoftware(isEmpty: Bool) {
        guard keepsGlobals, isEmpty || !tlb.mayShadowGlobals else { return emptySoftware() }
        software.emptyLocal()
        blocks.flushLocalLookups()
        core.leaveBlock()
    }

    // MARK: What operations drop

    /// Drops the TLB's translations of one page.
    func drop(_ address: UInt64, _ scope: CacheScope, parts: Bool = true) {
        let isWide =
            keeper?.invalidate(address, scope, parts: parts)
            ?? tlb.invalidate(address, scope, parts: parts)
        if isWide {
            emptySoftware()
        } else {
            software.invalidate(address)
            forgetCode(ofPage: address)
        }
    }

    /// Drops all of the TLB's translations in a scope.
    func drop(_ scope: CacheScope) {
        if let keeper { keeper.invalidateAll(scope) } else { tlb.invalidateAll(scope) }
        if scope.globals == .none { emptyLocalSoftware(isEmpty: true) } else { emptySoftware() }
    }

    // MARK: Random eviction

    /// Evicts what chance has it, where the hardware does: at every fill, and wherever the
    /// processor calls it between.
    func evictSome(near address: UInt64, _ pcid: UInt16) {
        guard evicts else { return }
        let chance = generator.next()
        for _ in 0..<chance & 3 {
            if let gone = tlb.evict(generator.next()) { forget(gone) }
        }
        if chance >> 2 & 3 == 0 { structures?.invalidate(address, pcid: pcid) }
        if chance >> 4 & 63 == 0 { structures?.invalidateAll(pcid: nil) }
        if chance >> 10 & 255 == 0 { drop(.everything) }
    }

    private func forget(_ gone: CachedPage) {
        software.invalidate(gone.address, span: gone.span)
        if gone.span == pageSize {
            forgetCode(ofPage: gone.address)
        } else {
            blocks.flushLookups()
            core.leaveBlock()
        }
    }

    /// Blocks that follow one another in a page are not looked up again: so the running one is left
    /// where its page may be concerned.
    private func forgetCode(ofPage address: UInt64) {
        if blocks.flushLookups(ofPage: address) { core.leaveBlock() }
    }
}

extension Translation {
    /// The part of 4 KiB that holds an address.
    func part(at address: UInt64) -> Translation {
        var part = self
        part.base |= address & (level.entrySpan &- 1) & ~0xfff
        part.level = .table
        return part
    }
}
