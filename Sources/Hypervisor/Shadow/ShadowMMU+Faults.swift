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
    /// The guest writes to a protected table, and may do so freely from now on.
    case unsynced
}

extension ShadowMMU {
    /// Resolves a page fault that a processor met in the shadow. Records must have been drained:
    /// an entry that has become present is never cached, so the guest may count on it.
    package func resolve(
        _ address: GuestVirtualAddress, _ access: AccessKind, _ mode: GuestMode, processor: Int
    ) -> FaultResolution {
        adopt(mode)
        stamp &+= 1
        defer { flushInvalidations() }
        if access.contains(.write), let frame = protectedFrame(address, access, mode, processor) {
            return writesTable(frame)
        }
        // What is cached for the page ends with a fault, true or hidden.
        resyncEntry(address, processor: processor)
        var madeDirty = false
        var frame = address.rawValue >> 12
        if mode.isPaging {
            guard mode.isFourLevel else {
                ledger.trueFaults &+= 1
                return .injected(Self.errorCode(access, mode, []))
            }
            // Model: step F1.
            switch walkGuest(address, access, mode) {
            case .fault(let error):
                ledger.trueFaults &+= 1
                let isFalsified = policy.defects.contains(.faultsByShadow)
                return .injected(isFalsified ? error.subtracting(.present) : error)
            case .permitted(let found, let dirtied):
                frame = found
                madeDirty = dirtied
            }
        }
        let changed = install(address, mode, processor: processor)
        if access.contains(.write), guarding(frame) == .protected { return writesTable(frame) }
        ledger.hiddenFaults &+= 1
        if madeDirty { ledger.dirtyFaults &+= 1 }
        if !changed && !madeDirty {
            // The processor used something older than the shadow.
            ledger.spuriousFaults &+= 1
            addInvalidation(address)
        }
        return .hidden
    }

    /// The protected frame that the shadow maps at an address, where that is all that stands in the
    /// way of a write: most faults of a technique that protects tables are such.
    ///
    /// What is present in the shadow is what the guest's tables say while no table is unsynced and
    /// no record waits; and a leaf is marked only if its guest entry has A and D.
    private func protectedFrame(
        _ address: GuestVirtualAddress, _ access: AccessKind, _ mode: GuestMode, _ processor: Int
    ) -> UInt64? {
        guard policy.walked == .shadow, mode.isPaging, unsynced.isEmpty, policy.defects.isEmpty
        else { return nil }
        var writable = true
        var user = true
        var executeDisable = false
        var page = liveRoots[processor]
        while page != 0 {
            let level = pages[page].level
            let entry = shadowEntry(slot(page, address.index(at: level)))
            guard entry.isPresent else { return nil }
            writable = writable && entry.isWritable
            user = user && entry.isUser
            executeDisable = executeDisable || entry.isExecuteDisabled
            guard entry.isLeaf(at: level) else {
                page = child(entry)
                continue
            }
            guard entry.isTraced, !entry.isDirty,
                Self.permits(
                    access, mode, writable: writable, user: user, executeDisable: executeDisable)
            else { return nil }
            return guestFrame(entry, level)
        }
        return nil
    }

    /// What becomes of a write to a protected table.
    private func writesTable(_ frame: UInt64) -> FaultResolution {
        guard let level = lowestLevel(frame) else { return .hidden }
        ledger.tableWrites[level] &+= 1
        guard canUnsync(frame) else { return .tableWrite }
        unsync(frame)
        return .unsynced
    }

    /// Brings the shadow's path to an address up to what the guest's tables say now.
    ///
    /// Entries are read after the table that holds them has become traced, so that no change can
    /// be missed. Where one is no longer present, the access faults again.
    private func install(
        _ address: GuestVirtualAddress, _ mode: GuestMode, processor: Int
    ) -> Bool {
        var page = root(mode)
        // The same as before, unless all was dropped since it was loaded.
        var changed = liveRoots[processor] != page
        liveRoots[processor] = page
        guard page != 0 else { return changed }
        while !pages[page].isDirect {
            let level = pages[page].level
            let index = address.index(at: level)
            let slot = slot(page, index)
            let entry = PagingEntry(tables.guestEntry(pages[page].guestFrame, index))
            guard let meaning = meaning(entry, level) else { return changed }
            switch meaning {
            case .table(let frame, let rights):
                guard let below = level.below else { return changed }
                let child = indirectPage(frame, below)
                use(child)
                // Model: steps F2, F3. Nothing was written since the drain before `resolve`.
                changed = setLink(slot, child, rights) || changed
                page = child
            case .page(let frame, let rights):
                if canMapLarge(frame, level) {
                    return setLeaf(slot, level, frame, rights) || changed
                }
                guard let below = level.below else { return changed }
                let child = directPage(Self.splitRole(frame, below, rights))
                use(child)
                changed = setLink(slot, child, rights) || changed
                page = child
            }
        }
        return installDirect(page, address) || changed
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
            isGlobal: rights & PagingEntry.globalBit != 0)
    }

    /// Makes an invalidation of one page due.
    private func addInvalidation(_ address: GuestVirtualAddress) {
        if pendingAll { return }
        if pendingAddresses.count >= Self.pendingLimit {
            pendingAll = true
        } else {
            pendingAddresses.append(address.rawValue)
        }
    }
}

/// What a guest entry stands for, as far as a shadow entry may.
enum EntryMeaning: Equatable {
    /// It names the table in a guest frame of RAM, with these bits of `ShadowMMU.rightsMask`.
    case table(frame: UInt64, rights: UInt64)
    /// It maps guest frames from `frame`, with these bits of `ShadowMMU.leafMask`.
    case page(frame: UInt64, rights: UInt64)
}

extension ShadowMMU {
    /// What a guest entry stands for; nil where it must have no shadow: not present, not accessed,
    /// with a reserved bit, or naming a table where there is no RAM.
    ///
    /// XD counts as a right here whatever EFER.NXE says: the walk of the guest's tables has made
    /// sure that it was not reserved, and shadow pages are dropped when NXE changes.
    func meaning(_ entry: PagingEntry, _ level: PageLevel) -> EntryMeaning? {
        guard entry.isPresent,
            entry.isAccessed || policy.defects.contains(.installsUnaccessed),
            entry.reservedBits(
                at: level, physicalAddressBits: physicalAddressBits, executeDisable: true,
                gigabytePages: hasGigabytePages) == 0
        else { return nil }
        if entry.isLeaf(at: level) {
            return .page(
                frame: entry.leafBase(at: level) >> 12, rights: entry.rawValue & Self.leafMask)
        }
        let frame = entry.addressField >> 12
        guard tables.isRAM(frame) else { return nil }
        return .table(frame: frame, rights: entry.rawValue & Self.rightsMask)
    }
}
