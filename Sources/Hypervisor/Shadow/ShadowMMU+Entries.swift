import X86

/// Writing shadow entries, together with the lists that they are in.
///
/// These functions are the only ones that write shadow entries. Each keeps the invariants: a
/// present entry is in exactly one list, `present` counts it, and cached translations made from
/// what it was are due for invalidation.
extension ShadowMMU {
    /// The bits that a shadow entry takes over from the guest's at every level.
    static let rightsMask =
        PagingEntry.writableBit | PagingEntry.userBit | PagingEntry.executeDisableBit
    /// The bits that a shadow leaf takes over beside them.
    static let leafMask =
        rightsMask | PagingEntry.dirtyBit | PagingEntry.globalBit | PagingEntry.keyMask

    /// What the entries of a direct page grant: all, since the entry above it restricts.
    static func directRights(_ page: ShadowPage) -> UInt64 {
        PagingEntry.writableBit | PagingEntry.userBit
            | (page.flags & ShadowPage.dirty != 0 ? PagingEntry.dirtyBit : 0)
            | (page.flags & ShadowPage.global != 0 ? PagingEntry.globalBit : 0)
            | UInt64(page.key) << PagingEntry.keyShift
    }

    /// Makes a slot a leaf that maps guest frames from `frame`. `rights`: bits of `leafMask`.
    /// - Returns: whether the entry changed.
    func setLeaf(_ slot: UInt32, _ level: PageLevel, _ frame: UInt64, _ rights: UInt64) -> Bool {
        let old = shadowEntry(slot)
        let plain =
            (tables.firstGuestFrame &+ frame) << 12 & PagingEntry.addressMask
            | PagingEntry.presentBit | PagingEntry.accessedBit | rights & Self.leafMask
            | (level == .table ? 0 : PagingEntry.largeBit)
        // Model: step T3.
        var value = level == .table ? marked(plain, guarding(frame)) : plain
        if !policy.defects.isDisjoint(with: [.grantsWrites, .marksGlobal]) {
            value = falsified(value)
        }
        if old.rawValue == value { return false }
        if old.isPresent {
            if old.isLeaf(at: level) && old.addressField == value & PagingEntry.addressMask {
                invalidateLeaf(slot)
                tables.store(value, at: address(ofSlot: slot))
                ledger.entriesInstalled &+= 1
                return true
            }
            clear(slot)
        }
        tables.store(value, at: address(ofSlot: slot))
        if tables.isRAM(frame) {
            frames[Int(frame)].leaves = linking(slot, before: frames[Int(frame)].leaves)
        }
        pages[page(ofSlot: slot)].present &+= 1
        ledger.entriesInstalled &+= 1
        return true
    }

    /// A leaf that says what the guest's entry does not, by a deliberate mistake.
    private func falsified(_ leaf: UInt64) -> UInt64 {
        policy.defects.contains(.marksGlobal)
            ? leaf | PagingEntry.globalBit
            : leaf | PagingEntry.writableBit | PagingEntry.dirtyBit
    }

    /// Makes a slot link to a shadow page. `rights`: bits of `rightsMask`.
    ///
    /// Nothing of what is below may be older than the entry that leads there: a processor reads a
    /// leaf after what it has cached of the tables above, so an old leaf under a new link, or
    /// under the new rights of a link, is a translation that no processor can have (one that is
    /// writable, where no moment's tables said so).
    /// - Returns: whether the entry changed.
    func setLink(_ slot: UInt32, _ child: UInt32, _ rights: UInt64) -> Bool {
        let old = shadowEntry(slot)
        let value = linkValue(child, rights)
        if old.rawValue == value { return false }
        if !pages[child].isDirect && pages[child].present != 0
            && !policy.defects.contains(.linksUnsynced)
        {
            resyncAll()
        }
        if old.isPresent {
            let level = pages[page(ofSlot: slot)].level
            if !old.isLeaf(at: level) && old.addressField == value & PagingEntry.addressMask {
                pendingAll = true
                tables.store(value, at: address(ofSlot: slot))
                ledger.entriesInstalled &+= 1
                return true
            }
            clear(slot)
        }
        if pages[child].parents != 0 { ledger.shadowPagesReused &+= 1 }
        tables.store(value, at: address(ofSlot: slot))
        pages[child].parents = linking(slot, before: pages[child].parents)
        pages[page(ofSlot: slot)].present &+= 1
        ledger.entriesInstalled &+= 1
        return true
    }

    /// What links to a shadow page, or switches to the guest's table that it stands for.
    func linkValue(_ child: UInt32, _ rights: UInt64) -> UInt64 {
        let target =
            isNestedPage(child)
            ? (tables.firstGuestFrame &+ pages[child].guestFrame) << 12 | PagingEntry.switchBit
            : address(of: child)
        return target | PagingEntry.presentBit | PagingEntry.accessedBit
            | rights & Self.rightsMask
    }

    /// Makes a slot not present; a page that loses its last parent by this is dropped.
    func clear(_ slot: UInt32) {
        let child = unlink(slot)
        if child != 0 { dropIfOrphan(child) }
    }

    /// Makes a slot not present.
    /// - Returns: the page that it linked to, 0 for none.
    @discardableResult
    func unlink(_ slot: UInt32) -> UInt32 {
        let entry = shadowEntry(slot)
        guard entry.isPresent else { return 0 }
        let owner = page(ofSlot: slot)
        let level = pages[owner].level
        var formerChild: UInt32 = 0
        if entry.isLeaf(at: level) {
            // Model: step S3.
            invalidateLeaf(slot)
            let frame = guestFrame(entry, level)
            if tables.isRAM(frame) {
                frames[Int(frame)].leaves = unlinking(slot, from: frames[Int(frame)].leaves)
            }
        } else {
            // A whole subtree, and what paging-structure caches hold of it.
            pendingAll = true
            formerChild = child(slot, entry)
            pages[formerChild].parents = unlinking(slot, from: pages[formerChild].parents)
        }
        tables.store(0, at: address(ofSlot: slot))
        pages[owner].present &-= 1
        return formerChild
    }

    // MARK: Lists of slots

    /// Puts a slot before the first one of a list; returns the new first one.
    private func linking(_ slot: UInt32, before first: UInt32) -> UInt32 {
        links[slot] = SlotLink(next: first, previous: 0)
        if first != 0 { links[first].previous = slot }
        return slot
    }

    /// Takes a slot out of a list; returns the first one.
    private func unlinking(_ slot: UInt32, from first: UInt32) -> UInt32 {
        let link = links[slot]
        if link.next != 0 { links[link.next].previous = link.previous }
        if link.previous != 0 { links[link.previous].next = link.next }
        links[slot] = SlotLink()
        return first == slot ? link.next : first
    }
}
