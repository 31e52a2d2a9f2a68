import X86

/// What became of a page-fault exit.
package enum FaultResolution: Equatable, Sendable {
    /// The shadow permits the access now; the guest goes on.
    case hidden
    /// The guest is to be handed this fault.
    case injected(PageFaultError)
    /// The guest writes to a protected table: the shadow permits all but that, and the processor
    /// is to complete the write.
    case tableWrite
    /// The guest writes to a protected table, and may do so freely from now on: it is unsynced, or
    /// nested.
    case unsynced
}

extension ShadowMMU {
    /// Resolves a page fault that a processor met in the shadow. Records must have been drained:
    /// an entry that has become present is never cached, so the guest may count on it.
    package func resolve(
        _ address: GuestVirtualAddress, _ access: AccessKind, _ mode: GuestMode, processor: Int
    ) -> FaultResolution {
        stamp &+= 1
        defer { flushInvalidations() }
        if access.contains(.write), let frame = protectedFrame(address, access, mode, processor),
            let answer = writeToProtected(frame)
        {
            return answer
        }
        // What is cached for the page ends with a fault, true or hidden.
        resyncEntry(address, processor: processor)
        var madeDirty = false
        var frame = address.rawValue >> 12
        if let rules = mode.rules {
            // Model: step F1.
            switch walkGuest(address, access, mode, rules) {
            case .fault(let error):
                ledger.trueFaults &+= 1
                let isFalsified = policy.defects.contains(.faultsByShadow)
                return .injected(isFalsified ? error.subtracting(.present) : error)
            case .permitted(let found, let dirtied):
                frame = found
                madeDirty = dirtied
            }
        }
        var (changed, reachesPage) = install(address, mode, processor: processor)
        // Where the path ends in a nested table, the second dimension guards the frame.
        if reachesPage, access.contains(.write), let answer = writeToProtected(frame) {
            guard answer == .hidden else { return answer }
            changed = true
        }
        ledger.hiddenFaults &+= 1
        if madeDirty { ledger.dirtyFaults &+= 1 }
        if !changed && !madeDirty {
            // The processor used something older than the shadow.
            ledger.spuriousFaults &+= 1
            addInvalidation(address)
        }
        return .hidden
    }

    /// The traced frame that the shadow maps at an address, where its protection is all that stands
    /// in the way of a write: so are most faults where tables are protected.
    ///
    /// What is present in the shadow is what the guest's tables say while no table is unsynced and
    /// no record waits; and a leaf is marked only if its guest entry has A and D.
    private func protectedFrame(
        _ address: GuestVirtualAddress, _ access: AccessKind, _ mode: GuestMode, _ processor: Int
    ) -> UInt64? {
        guard policy.walked == .shadow, mode.rules != nil, policy.defects.isEmpty,
            !policy.unsyncsLeafTables || unsynced.isEmpty
        else { return nil }
        // R/W and U/S are granted where all entries have them; XD applies where one has it.
        var common = UInt64.max
        var any: UInt64 = 0
        var page = liveRoots[processor]
        guard page != 0 else { return nil }
        var shift = pages[page].level.shift
        while true {
            let index = Int(truncatingIfNeeded: address.rawValue &>> shift)
            let entry = shadowEntry(slot(page, index))
            guard entry.isPresent, !entry.isSwitch else { return nil }
            common &= entry.rawValue
            any |= entry.rawValue
            if shift != PageLevel.table.shift {
                // Larger leaves are never marked.
                if entry.isLarge { return nil }
                page = linkedPage(entry)
                shift &-= 9
                continue
            }
            let frame = guestFrame(entry, .table)
            guard entry.isTraced, !entry.isDirty, isTraced(frame),
                Self.permits(
                    access, mode, writable: common & PagingEntry.writableBit != 0,
                    user: common & PagingEntry.userBit != 0,
                    executeDisable: any & PagingEntry.executeDisableBit != 0, key: entry.key)
            else { return nil }
            return frame
        }
    }

    /// What becomes of a permitted write to a frame that is kept from being written unnoticed; nil
    /// where it is not.
    func writeToProtected(_ frame: UInt64) -> FaultResolution? {
        guard guarding(frame) == .protected else { return nil }
        guard let level = lowestLevel(frame) else {
            endWatch(frame)
            return .hidden
        }
        ledger.tableWrites[level] &+= 1
        if canUnsync(frame) {
            unsync(frame)
        } else if !isWrittenOften(frame) || !release(frame) {
            return .tableWrite
        }
        return .unsynced
    }

    /// Brings the shadow's path to an address up to what the guest's tables say now.
    ///
    /// Entries are read after the table that holds them has become traced, so that no change can
    /// be missed. Where one is no longer present, the access faults again.
    /// - Returns: whether it changed anything, and whether the path ends in a leaf: not where the
    ///   tables end it, nor where it goes on in a nested table.
    private func install(
        _ address: GuestVirtualAddress, _ mode: GuestMode, processor: Int
    ) -> (changed: Bool, reachesPage: Bool) {
        var page = root(mode)
        // The same as before, unless all was dropped since it was loaded.
        var changed = liveRoots[processor] != page
        liveRoots[processor] = page
        guard page != 0 else { return (changed, false) }
        while !pages[page].isDirect {
            let level = pages[page].level
            let index = address.index(at: level)
            let slot = slot(page, index)
            if let child = presentTable(slot, level) {
                use(child)
                page = child
                continue
            }
            guard let meaning = meaning(page, index) else { return (changed, false) }
            // Not used at the lowest level, whose entries map pages of the least size.
            let below = level.below ?? .table
            switch meaning {
            case .registers:
                let child = upperPage(directories[page], below, pages[page].role)
                use(child)
                changed = setLink(slot, child, Self.upperRights) || changed
                page = child
            case .table(let frame, let quadrant, let rights):
                let child = indirectPage(
                    frame, below, pages[page].role.with(quadrant: quadrant))
                use(child)
                // Model: steps F2, F3. Nothing was written since the drain before `resolve`.
                changed = setLink(slot, child, rights) || changed
                if isNestedPage(child) { return (changed, false) }
                page = child
            case .page(let frame, let rights):
                if canMapLarge(frame, level) {
                    return (setLeaf(slot, level, frame, rights) || changed, true)
                }
                let child = directPage(Self.splitRole(frame, below, rights))
                use(child)
                changed = setLink(slot, child, rights) || changed
                page = child
            }
        }
        return (installDirect(page, address) || changed, true)
    }

    /// The shadow page, of a table that is not nested, that a slot links to already: what is
    /// present above the lowest level is what the guest's tables say, so that they need not be
    /// asked again. Nil where they do.
    @inline(__always)
    private func presentTable(_ slot: UInt32, _ level: PageLevel) -> UInt32? {
        let entry = shadowEntry(slot)
        guard entry.isPresent, !entry.isLeaf(at: level), !entry.isSwitch,
            policy.defects.isEmpty
        else { return nil }
        let child = child(slot, entry)
        // A page that was split may be whole again.
        return pages[child].isDirect ? nil : child
    }

    /// Completes the path below a direct page.
    func installDirect(_ first: UInt32, _ address: GuestVirtualAddress) -> Bool {
        var page = first
        var changed = false
        while true {
            let state = pages[page]
            let level = state.level
            let index = address.index(at: level)
            let slot = slot(page, index)
            let frame = state.guestFrame &+ UInt64(index) << (level.shift &- 12)
            let rights = Self.directRights(state)
            guard !canMapLarge(frame, level), let below = level.below else {
                return setLeaf(slot, level, frame, rights) || changed
            }
            let child = directPage(Self.splitRole(frame, below, rights))
            use(child)
            changed = setLink(slot, child, rights) || changed
            page = child
        }
    }

    /// The role of the page that stands for part of a large leaf.
    static func splitRole(_ frame: UInt64, _ level: PageLevel, _ rights: UInt64) -> DirectRole {
        DirectRole(
            baseFrame: frame, level: level, isDirty: rights & PagingEntry.dirtyBit != 0,
            isGlobal: rights & PagingEntry.globalBit != 0, key: PagingEntry(rights).key)
    }

    /// Makes an invalidation of one page due.
    private func addInvalidation(_ address: GuestVirtualAddress) {
        if !pendingAll { addPending(address.rawValue) }
    }
}
