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
    /// Walks the guest's tables for an access, by the x86 rules (SDM Vol. 3A §4.5–4.8).
    ///
    /// A is set in a table's entry when the walk goes through it, even where it ends in a fault
    /// below; in the leaf, together with D, once the access is permitted: as the processor's own
    /// walker does, so that `bare` and the shadow techniques leave the same bits.
    func walkGuest(
        _ address: GuestVirtualAddress, _ access: AccessKind, _ mode: GuestMode
    ) -> GuestWalk {
        var madeDirty = false
        // Each restart follows a change of an entry by someone else, or by this walk's own use of
        // one entry at two levels; the latter sets one more bit every time.
        for _ in 0..<32 {
            switch walkOnce(address, access, mode, &madeDirty) {
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
        _ madeDirty: inout Bool
    ) -> GuestWalk? {
        var table = mode.rootFrame
        var level = PageLevel.pml4
        var writable = true
        var user = true
        var executeDisable = false
        while true {
            let index = address.index(at: level)
            let entry = PagingEntry(tables.guestEntry(table, index))
            guard entry.isPresent else { return .fault(Self.errorCode(access, mode, [])) }
            // A table without RAM reads as all ones; with 52 address bits these would be valid.
            if !tables.isRAM(table) || mode.reservedBits(entry, at: level) != 0 {
                return .fault(Self.errorCode(access, mode, [.present, .reserved]))
            }
            writable = writable && entry.isWritable
            user = user && entry.isUser
            executeDisable = executeDisable || entry.isExecuteDisabled
            if !entry.isLeaf(at: level), let below = level.below {
                let accessed = entry.rawValue | PagingEntry.accessedBit
                guard setBits(table, index, entry, accessed) else { return nil }
                table = mode.address(entry.rawValue) >> 12
                level = below
                continue
            }
            guard
                Self.permits(
                    access, mode, writable: writable, user: user, executeDisable: executeDisable)
            else { return .fault(Self.errorCode(access, mode, .present)) }
            var wanted = entry.rawValue | PagingEntry.accessedBit
            if access.contains(.write) { wanted |= PagingEntry.dirtyBit }
            guard setBits(table, index, entry, wanted) else { return nil }
            if access.contains(.write) && !entry.isDirty { madeDirty = true }
            let base = mode.address(entry.leafBase(at: level))
            let offset = address.rawValue & (level.entrySpan &- 1)
            return .permitted(frame: (base | offset) >> 12, madeDirty: madeDirty)
        }
    }

    /// Brings a guest entry to `wanted` by compare-and-swap, if it is not there already, and every
    /// shadow entry that derives from it up to date: no record tells of this write.
    private func setBits(
        _ table: UInt64, _ index: Int, _ entry: PagingEntry, _ wanted: UInt64
    ) -> Bool {
        if wanted == entry.rawValue { return true }
        if policy.defects.contains(.installsUnaccessed) { return true }
        let address = MachineAddress(tables.guestEntryAddress(table, index))
        guard
            tables.memory.compareAndSwap(at: address, expected: entry.rawValue, desired: wanted)
        else { return false }
        for cache in caches { cache.codeChanged(in: address.frame) }
        syncEntry(table, index)
        return true
    }

    /// Whether the accumulated rights permit the access (SDM Vol. 3A §4.6.1).
    static func permits(
        _ access: AccessKind, _ mode: GuestMode, writable: Bool, user: Bool, executeDisable: Bool
    ) -> Bool {
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

    /// The error code (SDM Vol. 3A §4.7): `what` holds P and RSVD, from the guest's tables.
    static func errorCode(
        _ access: AccessKind, _ mode: GuestMode, _ what: PageFaultError
    ) -> PageFaultError {
        var error = what
        if access.contains(.write) { error.insert(.write) }
        if access.contains(.user) { error.insert(.user) }
        if access.contains(.fetch),
            mode.executeDisable || mode.cr4 & CR4.supervisorExecutionPrevention != 0
        {
            error.insert(.fetch)
        }
        return error
    }
}
