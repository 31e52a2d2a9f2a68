import X86

/// The operations of the architecture that end what is cached, each with its rule: what of the TLB
/// and of the paging-structure caches must be gone after it (SDM Vol. 3A §4.10.4.1). Dropping more
/// is always allowed; these drop exactly that. What an erratum leaves is beside the rule it breaks.
extension TranslationCaches {
    /// INVLPG. The page in the current PCID, and global translations of the page, whatever their
    /// PCID; of a page that is cached in parts, each part. Of the paging-structure caches all of
    /// the current PCID, whatever address they are for.
    func invalidatePage(_ address: UInt64, pcid: UInt16, hasContexts: Bool) {
        let keepsGlobals = hasContexts && hardware.errata.contains(.invlpgGlobalPCID)
        drop(
            address, CacheScope(pcid: pcid, globals: keepsGlobals ? .none : .all),
            parts: !hardware.errata.contains(.invlpgOnePart))
        structures?.invalidateAll(pcid: pcid)
    }

    /// INVPCID type 0. The page in one PCID, but global translations, and the entries of the
    /// paging-structure caches that lead to it there.
    func invalidateAddress(_ address: UInt64, pcid: UInt16) {
        drop(address, CacheScope(pcid: pcid, globals: .none))
        if !invpcidKeepsStructures { structures?.invalidate(address, pcid: pcid) }
    }

    /// INVPCID type 1. All of one PCID, but global translations.
    func invalidateContext(pcid: UInt16) {
        drop(CacheScope(pcid: pcid, globals: .none))
        if !invpcidKeepsStructures { structures?.invalidateAll(pcid: pcid) }
    }

    /// INVPCID type 2. Everything; `invalidateContexts` is type 3: but global translations.
    func invalidateContextsAndGlobals() {
        drop(.everything)
        if !invpcidKeepsStructures { structures?.invalidateAll(pcid: nil) }
    }

    /// INVPCID type 3. All of all PCIDs, but global translations.
    func invalidateContexts() {
        drop(CacheScope(pcid: nil, globals: .none))
        if !invpcidKeepsStructures { structures?.invalidateAll(pcid: nil) }
    }

    /// MOV to CR3, or a task switch that loads it: all of the new PCID (0 without CR4.PCIDE), but
    /// global translations. Nothing where bit 63 of the source asks for that; the engine's own
    /// tables have no PCIDs, and keep nothing but global translations whenever the root changes.
    func rootLoaded(pcid: UInt16, flushes: Bool) {
        guard flushes else { return emptyLocalSoftware(isEmpty: false) }
        drop(CacheScope(pcid: pcid, globals: .none))
        if !hardware.errata.contains(.cr3KeepsStructures) {
            structures?.invalidateAll(pcid: pcid)
        }
    }

    /// MOV to CR4 that changes PAE, or sets SMEP: all of the current PCID, global translations
    /// among it.
    func invalidateContextWithGlobals(pcid: UInt16) {
        drop(CacheScope(pcid: pcid, globals: .ofPCID))
        structures?.invalidateAll(pcid: pcid)
    }

    /// A change of CR0.PG (from 0 to 1 as well: the second dimension's translations of linear
    /// addresses end) or CR4.PGE, CR4.PCIDE from 1 to 0, INIT, reset, and the hypervisor's
    /// `Processor.invalidateAll`: everything of all PCIDs.
    func invalidateEverything() {
        drop(.everything)
        structures?.invalidateAll(pcid: nil)
    }

    /// A change of CR0.WP, CR4.SMAP or EFER.NXE, or of CR4.PCIDE from 0 to 1: nothing has to go,
    /// and nothing goes. These bits are not cached, but looked at in each access.
    func rightsChanged() { emptySoftware() }

    /// A page fault: the page in the current PCID, what was cached of it as global there too; and
    /// the entries of the paging-structure caches that lead to it.
    func faulted(at address: UInt64, pcid: UInt16) {
        drop(address, CacheScope(pcid: pcid, globals: .ofPCID))
        structures?.invalidate(address, pcid: pcid)
    }

    /// The hypervisor's `Processor.invalidate`: the page in every PCID, global translations too.
    /// The paging-structure caches stay.
    func invalidatePageEverywhere(_ address: UInt64) { drop(address, .everything) }

    private var invpcidKeepsStructures: Bool {
        hardware.errata.contains(.invpcidKeepsStructures)
    }
}
