import X86

/// Tables of the lowest level that the guest may write unnoticed.
///
/// *Problem.* Most writes to page tables are to those of the lowest level, many in a row, and each
/// would exit. But the architecture lets a cached translation be stale until an operation that
/// covers it.
///
/// *Approach.* The first write to such a table exits and makes its leaves writable: the table is
/// *unsynced*. Nothing is known of it from then on, so everything that ends staleness reads it
/// again (SDM Vol. 3A §4.10.4):
/// - INVLPG: the one entry that maps the address. Entries of higher levels are never stale, since
///   their tables stay protected.
/// - a page fault: that entry too, and the fault is resolved from the guest's tables, not from the
///   shadow. An entry that has become present is therefore found.
/// - INVPCID, MOV to CR3, changes of the paging mode: all unsynced tables, whole. That covers
///   another PCID's global translations, which INVLPG ends as well: to use them a processor has to
///   load a root first.
/// - a link to what was shadowed before, or new rights of a link: all, since no processor may have
///   had the translations that are granted by it (`setLink`). Rights that are taken away count
///   too: a page that is the user's no more is one that the supervisor may execute.
/// A table that is read whole is protected again first, so that no write falls in between.
extension ShadowMMU {
    /// Whether the frame is a table of the lowest level alone.
    func canUnsync(_ frame: UInt64) -> Bool {
        policy.unsyncsLeafTables && isLowestAlone(frame)
    }

    /// Lets the guest write a table.
    func unsync(_ frame: UInt64) {
        unsynced.append(UInt32(truncatingIfNeeded: frame))
        frames[Int(frame)].unsynced = UInt32(unsynced.count)
        ledger.tablesUnsynced &+= 1
        renewLeaves(frame)
    }

    /// Protects an unsynced table again, and brings all that derives from it up to date.
    func resync(_ frame: UInt64) {
        forgetUnsynced(frame)
        ledger.tablesResynced &+= 1
        renewLeaves(frame)
        flushInvalidations()
        for quadword in 0..<512 { syncEntry(frame, quadword) }
    }

    /// The same for every unsynced table. The caller flushes invalidations before guest code runs.
    package func resyncAll() {
        while let frame = unsynced.last { resync(UInt64(frame)) }
    }

    /// All of it, at an operation that ends staleness everywhere.
    package func operationEndedStaleness() {
        stamp &+= 1
        resyncAll()
        flushInvalidations()
    }

    /// INVLPG of an address on a processor.
    package func invalidated(_ address: GuestVirtualAddress, processor: Int) {
        stamp &+= 1
        resyncEntry(address, processor: processor)
        flushInvalidations()
    }

    /// Brings the shadow of the lowest guest entry for an address up to date, where its table is
    /// unsynced. Where the shadow's path ends earlier, nothing can be cached.
    func resyncEntry(_ address: GuestVirtualAddress, processor: Int) {
        if !policy.unsyncsLeafTables || unsynced.isEmpty { return }
        var page = liveRoots[processor]
        while page != 0, let below = pages[page].level.below {
            let level = pages[page].level
            let slot = slot(page, address.index(at: level))
            let entry = shadowEntry(slot)
            guard entry.isPresent, !entry.isLeaf(at: level) else { return }
            page = child(slot, entry)
            if below == .table { break }
        }
        let state = pages[page]
        guard page != 0, !state.isDirect, frames[Int(state.guestFrame)].unsynced != 0 else {
            return
        }
        ledger.entriesResynced &+= 1
        syncEntry(state.guestFrame, state.quadword(of: address.index(at: .table)))
    }

    /// Takes a frame out of the list, if it is in it; its leaves are the caller's to renew.
    func forgetUnsynced(_ frame: UInt64) {
        let place = Int(frames[Int(frame)].unsynced)
        guard place != 0, let last = unsynced.popLast() else { return }
        frames[Int(frame)].unsynced = 0
        if UInt64(last) != frame {
            unsynced[place - 1] = last
            frames[Int(last)].unsynced = UInt32(place)
        }
    }
}
