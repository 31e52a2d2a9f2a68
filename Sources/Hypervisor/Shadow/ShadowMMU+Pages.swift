import X86

/// The pool of shadow pages: finding, making, dropping and reclaiming them.
extension ShadowMMU {
    /// The shadow page of a guest table at a level, if there is one.
    func findIndirect(_ frame: UInt64, _ level: PageLevel, _ role: TableRole) -> UInt32? {
        guard tables.isRAM(frame) else { return nil }
        var page = frames[Int(frame)].shadows
        while page != 0 {
            let candidate = pages[page]
            if candidate.levelNumber == level.rawValue && candidate.role == role { return page }
            page = candidate.next
        }
        return nil
    }

    /// The shadow page of a guest table at a level, found or made. The frame must be RAM; when
    /// this returns, it is traced and no untraced translation of it is cached, so that what is
    /// read from it from now on cannot change unrecorded.
    func indirectPage(_ frame: UInt64, _ level: PageLevel, _ role: TableRole) -> UInt32 {
        // A root is what the processor's walk begins with.
        if level == .pml5 || level == .pml4 && role.form != .fiveLevel, isNested(frame) {
            unnest(frame)
            flushInvalidations()
        }
        if let page = findIndirect(frame, level, role) { return page }
        let page = allocate()
        pages[page].guestFrame = frame
        pages[page].levelNumber = level.rawValue
        pages[page].role = role
        let before = watch(frame)
        pages[page].next = frames[Int(frame)].shadows
        frames[Int(frame)].shadows = page
        watchChanged(frame, from: before)
        // It may be used at a higher level now.
        if level != .table && frames[Int(frame)].unsynced != 0 { resync(frame) }
        flushInvalidations()
        return page
    }

    /// The direct page of a role, if there is one.
    func findDirect(_ role: DirectRole) -> UInt32? {
        var page = buckets[bucket(role.baseFrame, role.level, role.flags)]
        while page != 0 {
            let candidate = pages[page]
            if candidate.guestFrame == role.baseFrame && candidate.flags == role.flags
                && candidate.levelNumber == role.level.rawValue
            {
                return page
            }
            page = candidate.next
        }
        return nil
    }

    /// The direct page of a role, found or made. One of 4 KiB pages is filled when it is made:
    /// 512 stores are cheaper than one exit.
    func directPage(_ role: DirectRole) -> UInt32 {
        if let page = findDirect(role) { return page }
        let page = allocate()
        pages[page].guestFrame = role.baseFrame
        pages[page].levelNumber = role.level.rawValue
        pages[page].flags = role.flags
        linkInBucket(page)
        if role.level == .table {
            for index in 0..<512 {
                _ = setLeaf(
                    slot(page, index), .table, role.baseFrame &+ UInt64(index),
                    Self.directRights(pages[page]))
            }
        }
        return page
    }

    /// The bucket of a direct or an upper page.
    func bucket(_ frame: UInt64, _ level: PageLevel, _ flags: UInt8) -> Int {
        let key = frame << 8 ^ UInt64(level.rawValue) << 4 ^ UInt64(flags)
        let hash = key &* 0x9e37_79b9_7f4a_7c15
        return Int(truncatingIfNeeded: hash >> 40) & (buckets.count - 1)
    }

    /// Lets a direct or an upper page be found.
    func linkInBucket(_ page: UInt32) {
        let state = pages[page]
        let bucket = bucket(state.guestFrame, state.level, state.flags)
        pages[page].next = buckets[bucket]
        buckets[bucket] = page
    }

    /// Marks a page as used now: it is not reclaimed in this walk, and what its guest page was
    /// written before does not count against it.
    func use(_ page: UInt32) {
        pages[page].stamp = stamp
        pages[page].heat = 0
        if newest != page {
            unlinkFromOrder(page)
            linkAsNewest(page)
        }
    }

    // MARK: Making and dropping

    /// A cleared page, stamped for the present walk, not yet of any role.
    func allocate() -> UInt32 {
        if firstFree == 0 && firstUnused >= ceiling { reclaim() }
        let page: UInt32
        if firstFree != 0 {
            page = firstFree
            firstFree = pages[page].next
        } else {
            page = firstUnused
            firstUnused &+= 1
        }
        pages[page] = ShadowPage()
        pages[page].stamp = stamp
        tables.memory.clear(MachineFrame(firstFrame &+ UInt64(page)))
        linkAsNewest(page)
        ledger.shadowPagesMade &+= 1
        ledger.shadowPagesLive &+= 1
        ledger.shadowPagesPeak = max(ledger.shadowPagesPeak, ledger.shadowPagesLive)
        return page
    }

    /// Frees the pages that were used longest ago: at least one, and a batch where possible, since
    /// every processor's caches are emptied for it. `leastPagesOfAccess` makes sure that there is one
    /// that is neither a live root nor of the present walk.
    private func reclaim() {
        let batch = max(1, ceiling / 64)
        let goal = ledger.shadowPagesReclaimed &+ UInt64(batch)
        var page = oldest
        while page != 0 && ledger.shadowPagesReclaimed < goal {
            if isPinned(page) {
                page = pages[page].newer
                continue
            }
            ledger.shadowPagesReclaimed &+= 1
            drop(page)
            // Its children may have gone with it: start over from what is oldest now.
            page = oldest
        }
        flushInvalidations()
    }

    private func isPinned(_ page: UInt32) -> Bool {
        pages[page].stamp == stamp || page == secondRoot || liveRoots.contains(page)
    }

    /// Takes a page out of everything that names it, its entries out of everything they are in,
    /// and frees it. Children that are left without a parent go too. The caller counts why.
    ///
    /// It calls itself for children, of a lower level each, and through `watchChanged` for direct
    /// pages, whose children are direct: it never meets a page that it is in the middle of.
    func drop(_ page: UInt32) {
        // Model: steps P1, P2. Nothing runs before `flushInvalidations`.
        while pages[page].parents != 0 { unlink(pages[page].parents) }
        if pages[page].present != 0 {
            for index in 0..<512 where pages[page].present != 0 { clear(slot(page, index)) }
        }
        let dropped = pages[page]
        dropCount &+= 1
        roots.remove(shadow: address(of: page))
        forget(page, dropped)
        unlinkFromOrder(page)
        pages[page] = ShadowPage()
        pages[page].next = firstFree
        firstFree = page
        ledger.shadowPagesLive &-= 1
    }

    /// Removes a page from the list that it is found through.
    private func forget(_ page: UInt32, _ dropped: ShadowPage) {
        if dropped.isDirect || dropped.isUpper {
            let bucket = bucket(dropped.guestFrame, dropped.level, dropped.flags)
            buckets[bucket] = removing(page, from: buckets[bucket])
            return
        }
        let frame = Int(dropped.guestFrame)
        let before = watch(dropped.guestFrame)
        frames[frame].shadows = removing(page, from: frames[frame].shadows)
        watchChanged(dropped.guestFrame, from: before)
    }

    private func removing(_ page: UInt32, from first: UInt32) -> UInt32 {
        let after = pages[page].next
        if first == page { return after }
        var previous = first
        while pages[previous].next != page { previous = pages[previous].next }
        pages[previous].next = after
        return first
    }

    /// Drops a page that lost its last parent, unless it is a root or in use by the present walk.
    func dropIfOrphan(_ page: UInt32) {
        let candidate = pages[page]
        guard candidate.isInUse, candidate.parents == 0, !candidate.isRoot,
            candidate.stamp != stamp
        else { return }
        drop(page)
        ledger.shadowPagesDropped &+= 1
    }

    // MARK: The order of use

    private func linkAsNewest(_ page: UInt32) {
        pages[page].older = newest
        pages[page].newer = 0
        if newest != 0 { pages[newest].newer = page } else { oldest = page }
        newest = page
    }

    private func unlinkFromOrder(_ page: UInt32) {
        let older = pages[page].older
        let newer = pages[page].newer
        if older != 0 { pages[older].newer = newer } else { oldest = newer }
        if newer != 0 { pages[newer].older = older } else { newest = older }
    }
}
