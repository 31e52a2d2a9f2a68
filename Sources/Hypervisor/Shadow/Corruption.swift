import X86

/// One thing that is put wrong in the shadow's own books, for tests that the auditor finds it.
package enum Corruption: CaseIterable, Sendable {
    /// A is cleared in a shadow entry.
    case accessed
    /// A shadow leaf maps the frame after the one that it should.
    case frame
    /// A shadow leaf permits what the guest's entry does not.
    case rights
    /// A leaf of a traced frame lacks its mark.
    case trace
    /// A link leads to a page of the wrong level.
    case link
    /// A present entry is in no list.
    case lists
    /// A page counts one present entry too many.
    case count
    /// A page is not found through its frame any more.
    case lostPage
    /// A live root is no root.
    case root
    /// A region counts one traced frame too many.
    case traceCount
    /// The count of live pages is wrong.
    case pool
    /// A frame counts as unsynced and is not in the list.
    case unsync
    /// An invalidation is due and was forgotten.
    case pending
}

extension ShadowMMU {
    /// Puts one thing wrong.
    /// - Returns: false where there was nothing of the kind to put wrong.
    package func corrupt(_ corruption: Corruption) -> Bool {
        switch corruption {
        case .accessed: return change(.leaf) { $0 & ~PagingEntry.accessedBit }
        case .frame:
            return change(.leaf) { $0 ^ 0x1000 }
        case .rights:
            return change(.leaf) { $0 ^ PagingEntry.userBit }
        case .trace:
            return change(.tracedLeaf) { $0 & ~PagingEntry.tracedBit }
        case .link:
            return change(.link) { _ in
                address(of: liveRoots[0]) | PagingEntry.presentBit | PagingEntry.accessedBit
                    | PagingEntry.writableBit | PagingEntry.userBit
            }
        case .lists:
            for frame in 0..<frames.count where frames[frame].leaves != 0 {
                frames[frame].leaves = links[frames[frame].leaves].next
                return true
            }
            return false
        case .count: pages[liveRoots[0]].present &+= 1
        case .lostPage: frames[Int(pages[liveRoots[0]].guestFrame)].shadows = 0
        case .root:
            for page in 1..<firstUnused where pages[page].levelNumber == 1 {
                liveRoots[0] = page
                return true
            }
            return false
        case .traceCount: tracedInDirectory[0] &+= 1
        case .pool: ledger.shadowPagesLive &+= 1
        case .unsync: frames[0].unsynced = 1
        case .pending: pendingAll = true
        }
        return true
    }

    private enum Kind { case leaf, tracedLeaf, link }

    /// Changes the first 4 KiB leaf or the first link.
    private func change(_ kind: Kind, _ body: (UInt64) -> UInt64) -> Bool {
        for page in 1..<firstUnused where pages[page].isInUse {
            let level = pages[page].level
            for index in 0..<512 {
                let slot = slot(page, index)
                let entry = shadowEntry(slot)
                let isLeaf = entry.isLeaf(at: level) && level == .table
                let fits =
                    switch kind {
                    case .leaf: isLeaf
                    case .tracedLeaf: isLeaf && entry.isTraced
                    case .link: !entry.isLeaf(at: level)
                    }
                guard entry.isPresent, fits else { continue }
                tables.store(body(entry.rawValue), at: address(ofSlot: slot))
                return true
            }
        }
        return false
    }
}
