import X86

/// How a walk of the guest's own tables ended.
enum GuestWalk: Equatable {
    /// The tables permit the access to the guest frame; A and D are set as hardware would.
    /// `madeDirty`: D was clear.
    case permitted(frame: UInt64, madeDirty: Bool)
    /// The access faults with this error code.
    case fault(PageFaultError)
}

extension ShadowMMU {
    /// Walks the guest's tables, of whichever form, for an access, by the x86 rules (SDM Vol. 3A
    /// §4.3–4.8).
    ///
    /// A is set in a table's entry when the walk goes through it, even where it ends in a fault
    /// below; in the leaf, together with D, once the access is permitted: as the processor's own
    /// walker does, so that `bare` and the shadow techniques leave the same bits.
    func walkGuest(
        _ address: GuestVirtualAddress, _ access: AccessKind, _ mode: GuestMode,
        _ rules: PagingRules
    ) -> GuestWalk {
        var madeDirty = false
        // Each restart follows a change of an entry by someone else, or by this walk's own use of
        // one entry at two levels; the latter sets one more bit every time.
        for _ in 0..<32 {
            switch walkOnce(address, access, mode, rules, &madeDirty) {
            case .some(let result): return result
            case .none: continue
            }
        }
        // Not reached: only another writer's changes could go on for so long. The access is tried
        // again.
        return .permitted(frame: tables.frameLimit, madeDirty: madeDirty)
    }

    private func walkOnce(
        _ address: GuestVirtualAddress, _ access: AccessKind, _ mode: GuestMode,
        _ rules: PagingRules, _ madeDirty: inout Bool
    ) -> GuestWalk? {
        let form = rules.form
        var table = mode.rootFrame(rules)
        var level = form.topLevel
        if form == .pae {
            // From the registers, whose reserved bits were looked at when they were loaded; a
            // pointer holds no rights, and no A.
            let pointer = PagingEntry(mode.pointers[form.index(address, at: .directoryPointer)])
            guard pointer.isPresent else { return .fault(Self.errorCode(access, mode, [])) }
            table = rules.tableBase(pointer) >> 12
            level = .directory
        }
        var writable = true
        var user = true
        var executeDisable = false
        while true {
            let index = form.index(address, at: level)
            let entry = tables.guestEntry(table, index, form)
            guard entry.isPresent else { return .fault(Self.errorCode(access, mode, [])) }
            // A table without RAM reads as all ones; in some forms these would be valid.
            if !tables.isRAM(table) || rules.reservedBits(entry, at: level) != 0 {
                return .fault(Self.errorCode(access, mode, [.present, .reserved]))
            }
            writable = writable && entry.isWritable
            user = user && entry.isUser
            executeDisable = executeDisable || entry.isExecuteDisabled
            if !rules.isLeaf(entry, at: level), let below = level.below {
                let accessed = entry.rawValue | PagingEntry.accessedBit
                guard setBits(table, index, form, entry, accessed) else { return nil }
                table = rules.tableBase(entry) >> 12
                level = below
                continue
            }
            let key = rules.key(entry)
            guard
                Self.permits(
                    access, mode, writable: writable, user: user, executeDisable: executeDisable,
                    key: key)
            else {
                let isByKey = mode.keyDenies(access, user: user, key: key)
                return .fault(
                    Self.errorCode(
                        access, mode, isByKey ? [.present, .protectionKey] : .present))
            }
            var wanted = entry.rawValue | PagingEntry.accessedBit
            if access.contains(.write) { wanted |= PagingEntry.dirtyBit }
            guard setBits(table, index, form, entry, wanted) else { return nil }
            if access.contains(.write) && !entry.isDirty { madeDirty = true }
            let base = rules.leafBase(entry, at: level)
            let offset = address.rawValue & (form.entrySpan(level) &- 1)
            return .permitted(frame: (base | offset) >> 12, madeDirty: madeDirty)
        }
    }

    /// Brings a guest entry to `wanted` by compare-and-swap, if it is not there already, and every
    /// shadow entry that derives from it up to date: no record tells of this write.
    private func setBits(
        _ table: UInt64, _ index: Int, _ form: PagingForm, _ entry: PagingEntry, _ wanted: UInt64
    ) -> Bool {
        if wanted == entry.rawValue { return true }
        if policy.defects.contains(.installsUnaccessed) { return true }
        guard tables.swapGuestEntry(table, index, form, entry, PagingEntry(wanted)) else {
            return false
        }
        let frame = MachineFrame(tables.firstGuestFrame &+ table)
        for cache in caches { cache.codeChanged(in: frame) }
        syncEntry(table, form == .twoLevel ? index >> 1 : index)
        return true
    }

    /// Whether the accumulated rights and the leaf's protection key permit the access
    /// (SDM Vol. 3A §4.6).
    static func permits(
        _ access: AccessKind, _ mode: GuestMode, writable: Bool, user: Bool, executeDisable: Bool,
        key: UInt8
    ) -> Bool {
        if mode.keyDenies(access, user: user, key: key) { return false }
        if access.contains(.user) {
            if !user || (access.contains(.write) && !writable) { return false }
            return !(access.contains(.fetch) && executeDisable)
        }
        if access.contains(.fetch) {
            return !executeDisable
                && !(user && mode.cr4 & CR4.supervisorExecutionPrevention != 0)
        }
        if user && mode.cr4 & CR4.supervisorAccessPrevention != 0
            && (access.contains(.implicit) || !mode.alignmentCheck)
        {
            return false
        }
        return !access.contains(.write) || writable || mode.cr0 & CR0.writeProtect == 0
    }

    /// The error code (SDM Vol. 3A §4.7): `what` holds P, RSVD and PK, from the guest's tables.
    static func errorCode(
        _ access: AccessKind, _ mode: GuestMode, _ what: PageFaultError
    ) -> PageFaultError {
        var error = what
        if access.contains(.write) { error.insert(.write) }
        if access.contains(.user) { error.insert(.user) }
        if access.contains(.fetch), mode.reportsFetches { error.insert(.fetch) }
        return error
    }
}
