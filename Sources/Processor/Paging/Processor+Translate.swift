import MachineMemory
import X86

/// Translation of linear addresses: modelled TLB, walk, permission check, fill.
extension Processor {
    /// Translates for an access of `kind`.
    /// - Returns: the machine address; nil after raising #PF, #GP or an exit.
    func translate(_ address: UInt64, _ kind: AccessKind) -> UInt64? {
        let state = core.state.cr0
        let isPaged: Bool
        switch control.paging {
        case .guest: isPaged = state & CR0.paging != 0
        case .shadow, .nested, .agile: isPaged = true
        }
        guard isPaged else {
            return use(
                Translation(
                    base: address & ~0xfff, level: .table,
                    bits: TranslationBits.writable | TranslationBits.user | TranslationBits.dirty),
                address, kind)
        }
        guard core.isCanonical(address) else {
            core.state.pendingNonCanonical = true
            _ = core.generalProtection()
            return nil
        }
        let pcid = currentPCID
        if let cached = caches.lookup(address, pcid: pcid), permits(cached, kind) {
            if observesUses { observe(address, kind, cached, isUse: true) }
            return use(cached, address, kind)
        }
        statistics.tlbMisses += 1
        guard let walked = walk(address, kind) else { return nil }
        if hasObserver { observe(address, kind, walked, isUse: false) }
        let machine = use(caches.insert(address, pcid: pcid, walked), address, kind)
        if caches.speculates { speculate(near: address) }
        return machine
    }

    /// Enters a permitted translation into the software TLB.
    func enter(_ translation: Translation, _ address: UInt64, _ kind: AccessKind) {
        _ = use(translation, address, kind)
    }

    /// Takes a permitted translation for an access: what its writes owe, and the software TLB.
    /// - Returns: the machine address.
    private func use(_ translation: Translation, _ address: UInt64, _ kind: AccessKind) -> UInt64 {
        let machine = translation.base | address & (translation.level.entrySpan - 1)
        lastNote = writeNote(translation, machine)
        lastIsGlobal = translation.has(TranslationBits.global)
        fill(address, kind, translation)
        return machine
    }

    /// Whether a cached translation permits the access as it is, with D set for writes
    /// (SDM Vol. 3A §4.6.1).
    func permits(_ translation: Translation, _ kind: AccessKind) -> Bool {
        if kind.contains(.write) && !translation.has(TranslationBits.dirty) { return false }
        return grants(
            kind, user: translation.has(TranslationBits.user),
            writable: translation.has(TranslationBits.writable),
            executeDisable: translation.has(TranslationBits.executeDisable), key: translation.key)
    }

    /// Whether the protection key of a page that is a user page at all levels denies the access
    /// (SDM Vol. 3A §4.6.2).
    @inline(__always)
    func keyDenies(_ kind: AccessKind, key: UInt8) -> Bool {
        if core.state.cr4 & CR4.protectionKeyEnable == 0 || !core.isLongModeActive { return false }
        return KeyRights(rawValue: core.state.keyRights).denies(
            kind, key: key, writeProtect: core.state.cr0 & CR0.writeProtect != 0)
    }

    /// The access rights of SDM Vol. 3A §4.6, for the combined bits of all levels and the leaf's
    /// protection key.
    func grants(
        _ kind: AccessKind, user: Bool, writable: Bool, executeDisable: Bool, key: UInt8
    ) -> Bool {
        let cr4 = core.state.cr4
        if core.state.cr0 & CR0.paging == 0 {
            // The hypervisor's identity map: the guest has no paging, so no rights either.
            return true
        }
        if user && keyDenies(kind, key: key) { return false }
        if kind.contains(.user) {
            if !user { return false }
            if kind.contains(.write) && !writable { return false }
            return !(kind.contains(.fetch) && executeDisable)
        }
        if kind.contains(.fetch) {
            return !executeDisable
                && !(user && cr4 & CR4.supervisorExecutionPrevention != 0)
        }
        if user && cr4 & CR4.supervisorAccessPrevention != 0
            && (kind.contains(.implicit)
                || core.state.systemFlags & RFLAGS.alignmentCheck == 0)
        {
            return false
        }
        return !kind.contains(.write) || writable
            || core.state.cr0 & CR0.writeProtect == 0
    }

    /// Enters a permitted translation into the software TLB bank of the access's rights.
    private func fill(_ address: UInt64, _ kind: AccessKind, _ translation: Translation) {
        if kind.contains(.fetch) || core.watchesPage(address) || observesUses { return }
        if core.checksAlignment && !kind.contains(.implicit) { return }
        let machine = translation.base | address & (translation.level.entrySpan - 1) & ~0xfff
        guard machine < memory.arenaBytes else { return }
        let flags = unsafe memory.frameFlags[Int(machine >> 12)]
        guard flags & FrameFlags.memory != 0 else { return }
        let bank: UInt
        if kind.contains(.implicit) {
            bank = core.state.supervisorBank
        } else {
            bank = core.state.bank
        }
        let page = address & ~0xfff
        let rights = kind.subtracting(.write)
        let isPlain = lastNote == .none && flags & FrameFlags.slowWrites == 0
        caches.software.fill(
            bank, page: page, read: permits(translation, rights),
            write: isPlain && permits(translation, rights.union(.write)),
            isGlobal: translation.has(TranslationBits.global),
            addend: unsafe UInt64(UInt(bitPattern: memory.base)) &+ machine &- page)
    }
}
