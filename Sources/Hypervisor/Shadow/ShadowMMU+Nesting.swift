import X86

/// Tables that the processor walks itself, below an upper part that is shadowed.
///
/// *Problem.* A table that the guest writes often costs an exit each time; one that it leaves alone
/// costs nothing as a shadow, and several references a walk in two dimensions.
///
/// *Approach.* The table that was written often is *nested*: the shadow entries that link to it
/// become switch entries, which name the guest's table in machine memory, and its shadow page stays
/// as a place for its parents alone, with no entry. The processor goes on in the guest's table, by
/// the guest's rules, and takes each guest-physical address from there on through the second
/// dimension. What is below is not shadowed on its behalf, and writes to it are not noticed.
/// - The frame nests, not one role of it: all that its shadow pages stood for is walked, so it
///   needs no protection. A frame that is a root does not nest, since the walk begins in the shadow.
/// - Nothing is stale. Above, each write is applied at once; below, there is only what the
///   processor caches, and its own INVLPG, INVPCID and MOV to CR3 end that. So these need not exit
///   for it, and page faults met below are the guest's.
/// - Where a table nests or returns, all that is cached is dropped: so what was cached of either
///   part never has to be ended as of the other.
/// - Every so many loads of a root an *epoch* ends, and some nested tables are looked at, in turn. One
///   that was not written since the last look returns to the shadow. The others are *watched*:
///   protected, so that the next write exits, once, and tells that it was written.
extension ShadowMMU {
    /// How many tables may be nested at one time; more stay in the shadow.
    static let nestedLimit = 4096
    /// How many nested tables are looked at when an epoch ends.
    private static let looksPerEpoch = 64

    @inline(__always)
    func isNested(_ frame: UInt64) -> Bool {
        tables.isRAM(frame) && frames[Int(frame)].nested != 0
    }

    /// Whether a shadow page stands for a nested table.
    @inline(__always)
    func isNestedPage(_ page: UInt32) -> Bool {
        policy.nesting != nil && !pages[page].isDirect && !pages[page].isUpper
            && frames[Int(pages[page].guestFrame)].nested != 0
    }

    /// The shadow page of the nested table that a switch entry names.
    func nestedChild(_ slot: UInt32, _ entry: PagingEntry) -> UInt32 {
        let parent = pages[page(ofSlot: slot)]
        guard let below = parent.level.below else { return 0 }
        // As `meaning` gave it when the link was made.
        let index = Int(slot & 511)
        let quadrant =
            parent.role.form != .twoLevel ? 0 : parent.isUpper ? index : index & 1
        return findIndirect(
            entry.addressField >> 12 &- tables.firstGuestFrame, below,
            parent.role.with(quadrant: quadrant)) ?? 0
    }

    /// Counts a write to a shadowed table that exited.
    /// - Returns: whether it has had as many in this epoch as make it nested.
    func isWrittenOften(_ frame: UInt64) -> Bool {
        guard let nesting = policy.nesting else { return false }
        let index = Int(frame)
        if frames[index].epoch != epoch {
            frames[index].epoch = epoch
            frames[index].writes = 0
        }
        frames[index].writes &+= 1
        return frames[index].writes >= nesting.writes
    }

    /// Lets the guest write a shadowed table freely: nests it or, where it is a root that no
    /// processor walks, gives that root up. It is most likely that of a process that has ended.
    /// Nothing may be in the middle of a walk. The caller flushes invalidations.
    /// - Returns: false where it must stay as it is.
    func release(_ frame: UInt64) -> Bool {
        stamp &+= 1
        var page = frames[Int(frame)].shadows
        while page != 0 {
            let next = pages[page].next
            if pages[page].isRoot {
                guard !liveRoots.contains(page) else { return false }
                drop(page)
                ledger.shadowPagesDropped &+= 1
                ledger.shadowPagesAbandoned &+= 1
                // Pages of lower levels may have gone with it.
                page = frames[Int(frame)].shadows
            } else {
                page = next
            }
        }
        if !isTraced(frame) { return true }
        guard nested.count < Self.nestedLimit else { return false }
        nest(frame)
        return true
    }

    /// Has the processor walk a table itself from now on.
    private func nest(_ frame: UInt64) {
        let index = Int(frame)
        nested.append(UInt32(truncatingIfNeeded: frame))
        frames[index].nested = UInt32(nested.count)
        ledger.tablesNested &+= 1
        var page = frames[index].shadows
        while page != 0 {
            guard pages[page].present != 0 else {
                page = pages[page].next
                continue
            }
            for each in 0..<512 where pages[page].present != 0 { clear(slot(page, each)) }
            // A table that names itself may have lost its page of a lower level.
            page = frames[index].shadows
        }
        relink(frame)
        renewLeaves(frame)
    }

    /// Takes a table back into the shadow, which is empty at first. The caller flushes
    /// invalidations before an entry is read.
    func unnest(_ frame: UInt64) {
        forgetNested(frame)
        ledger.tablesReturned &+= 1
        relink(frame)
        renewLeaves(frame)
    }

    /// Takes a frame out of the list, if it is in it; its leaves and parents are the caller's to
    /// renew.
    func forgetNested(_ frame: UInt64) {
        let place = Int(frames[Int(frame)].nested)
        guard place != 0, let last = nested.popLast() else { return }
        frames[Int(frame)].nested = 0
        frames[Int(frame)].isWatched = false
        frames[Int(frame)].writes = 0
        if UInt64(last) != frame {
            nested[place - 1] = last
            frames[Int(last)].nested = UInt32(place)
        }
    }

    /// Has every entry that links to a page of the frame link as it is to now.
    private func relink(_ frame: UInt64) {
        var page = frames[Int(frame)].shadows
        while page != 0 {
            var parent = pages[page].parents
            while parent != 0 {
                let rights = shadowEntry(parent).rawValue & Self.rightsMask
                tables.store(linkValue(page, rights), at: address(ofSlot: parent))
                parent = links[parent].next
            }
            page = pages[page].next
        }
        pendingAll = true
    }

    // MARK: Quiet tables

    /// Counts the load of a root, and ends the epoch if it is time.
    func countRootLoad() {
        guard let nesting = policy.nesting else { return }
        rootLoadsInEpoch &+= 1
        guard rootLoadsInEpoch >= nesting.quiet else { return }
        rootLoadsInEpoch = 0
        epoch &+= 1
        for _ in 0..<min(nested.count, Self.looksPerEpoch) { lookAtNested() }
    }

    /// Looks at one nested table.
    private func lookAtNested() {
        if nestedHand >= nested.count { nestedHand = 0 }
        guard nestedHand < nested.count else { return }
        let frame = UInt64(nested[nestedHand])
        let state = frames[Int(frame)]
        if !state.isWatched {
            frames[Int(frame)].isWatched = true
            frames[Int(frame)].epoch = epoch
            renewLeaves(frame)
        } else if state.epoch != epoch {
            // The last one of the list takes its place.
            return unnest(frame)
        }
        nestedHand += 1
    }

    /// A nested table was or is to be written: if it is watched, it is not quiet.
    func endWatch(_ frame: UInt64) {
        guard tables.isRAM(frame), frames[Int(frame)].isWatched else { return }
        frames[Int(frame)].isWatched = false
        ledger.watchesEnded &+= 1
        renewLeaves(frame)
    }
}
