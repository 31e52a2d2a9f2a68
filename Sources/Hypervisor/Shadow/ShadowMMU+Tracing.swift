import X86

/// Which frames are traced, and what that asks of the leaves that map them.
///
/// With `indication=entry` tracing is a bit in each shadow leaf, so every leaf that maps the
/// frame has to be found, and a page larger than 4 KiB must not map it. So it is for protected
/// frames, too. With `indication=frame` it is a bit in a map of frames: leaves stay as they are.
extension ShadowMMU {
    /// What is done about writes to a guest frame.
    enum Watch: Equatable {
        /// It is no table.
        case none
        /// The processor records them.
        case recorded
        /// They exit.
        case protected
        /// Nothing: it is a nested table. Its leaves stay small, since from time to time it is
        /// protected for a while.
        case nested
    }

    /// What is done about writes to the guest frame, unless it is unsynced.
    func watch(_ frame: UInt64) -> Watch {
        guard isTraced(frame) else {
            guard isNested(frame), frames[Int(frame)].shadows != 0 else { return .none }
            return frames[Int(frame)].isWatched ? .protected : .nested
        }
        guard policy.protection == .recorded else { return .protected }
        return tracesLeavesAlone && !isLowestAlone(frame) ? .protected : .recorded
    }

    /// What the leaves that map the guest frame are made for.
    func guarding(_ frame: UInt64) -> Watch {
        let watch = watch(frame)
        return watch != .none && frames[Int(frame)].unsynced != 0 ? .none : watch
    }

    /// Whether all uses of the frame as a table are at the lowest level.
    func isLowestAlone(_ frame: UInt64) -> Bool {
        var page = frames[Int(frame)].shadows
        while page != 0 {
            if pages[page].level != .table { return false }
            page = pages[page].next
        }
        return true
    }

    /// Whether only 4 KiB leaves may map a frame that is so watched.
    private func needsSmallLeaves(_ watch: Watch) -> Bool {
        watch == .protected || watch == .nested || watch == .recorded && !tracesByFrame
    }

    /// Whether one leaf at `level` may map the guest frames from `frame`: none of them is watched
    /// by marks in leaves, and all or none of them are RAM.
    func canMapLarge(_ frame: UInt64, _ level: PageLevel) -> Bool {
        switch level {
        case .table: return true
        case .directory:
            guard tables.isUniform(frame..<frame &+ 512) else { return false }
            let region = Int(frame >> 9)
            return region >= tracedInDirectory.count || tracedInDirectory[region] == 0
        case .directoryPointer:
            guard tables.isUniform(frame..<frame &+ 512 * 512) else { return false }
            let region = Int(frame >> 18)
            return region >= tracedInGigabyte.count || tracedInGigabyte[region] == 0
        case .pml4, .pml5: return false
        }
    }

    /// Follows a change of the shadow pages that a frame has as a table: to what is done about
    /// writes to it now, from what was done before.
    ///
    /// Where it is watched more closely, marks are set in every leaf that maps it or in the map of
    /// frames, and large leaves are removed; the caller flushes invalidations before it reads an
    /// entry. Where it is watched less, what was split for its sake is merged.
    func watchChanged(_ frame: UInt64, from old: Watch) {
        // Model: steps T1, T2.
        let new = watch(frame)
        if new == old { return }
        if old == .none { ledger.tracesStarted &+= 1 }
        if new == .none {
            ledger.tracesStopped &+= 1
            forgetUnsynced(frame)
            forgetNested(frame)
        }
        let change = (needsSmallLeaves(old), needsSmallLeaves(new))
        if change == (false, true) {
            tracedInDirectory[Int(frame >> 9)] &+= 1
            tracedInGigabyte[Int(frame >> 18)] &+= 1
            if policy.defects.contains(.leavesTablesWritable) { return }
            removeLargeLeaves(of: frame & ~0x1ff, .directory)
            removeLargeLeaves(of: frame & ~0x3_ffff, .directoryPointer)
        } else if change == (true, false) {
            tracedInDirectory[Int(frame >> 9)] &-= 1
            tracedInGigabyte[Int(frame >> 18)] &-= 1
        }
        if tracesByFrame { setFrameBit(frame, new == .recorded) }
        // What is cached with T would go on to be recorded.
        renewLeaves(frame)
        if change == (true, false) {
            merge(frame & ~0x1ff, .directory)
            merge(frame & ~0x3_ffff, .directoryPointer)
        }
    }

    /// Says in the map of frames whether writes to a frame are recorded. What is cached of the
    /// frame may be anywhere, in pages of any size: all goes. A bit that is cleared binds at once.
    private func setFrameBit(_ frame: UInt64, _ isRecorded: Bool) {
        guard let layout else { return }
        let word = layout.frameMap &+ (frame >> 6) << 3
        let bit: UInt64 = 1 << (frame & 63)
        let old = tables.load(word)
        tables.store(isRecorded ? old | bit : old & ~bit, at: word)
        if isRecorded { pendingAll = true }
    }

    /// Brings the 4 KiB leaves that map a frame to what its protection asks for now, and makes
    /// invalidations of what they were due.
    func renewLeaves(_ frame: UInt64) {
        let guarding = guarding(frame)
        var slot = frames[Int(frame)].leaves
        while slot != 0 {
            if pages[page(ofSlot: slot)].level == .table {
                let old = shadowEntry(slot).rawValue
                let value = marked(Self.unmarked(old), guarding)
                if value != old {
                    tables.store(value, at: address(ofSlot: slot))
                    invalidateLeaf(slot)
                }
            }
            slot = links[slot].next
        }
    }

    /// A 4 KiB leaf's value where it maps a frame that is so guarded. A clean leaf needs no mark: a
    /// write exits for its D, and the leaf that has it is made then.
    func marked(_ leaf: UInt64, _ guarding: Watch) -> UInt64 {
        guard leaf & PagingEntry.dirtyBit != 0 else { return leaf }
        return switch guarding {
        case .none, .nested: leaf
        case .recorded: tracesByFrame ? leaf : leaf | PagingEntry.tracedBit
        case .protected: leaf & ~PagingEntry.dirtyBit | PagingEntry.tracedBit
        }
    }

    /// The leaf's value where it is not guarded: with T, D was set before it was marked.
    static func unmarked(_ leaf: UInt64) -> UInt64 {
        leaf & PagingEntry.tracedBit == 0
            ? leaf : leaf & ~PagingEntry.tracedBit | PagingEntry.dirtyBit
    }

    private func removeLargeLeaves(of first: UInt64, _ level: PageLevel) {
        var slot = frames[Int(first)].leaves
        while slot != 0 {
            let next = links[slot].next
            if pages[page(ofSlot: slot)].level == level {
                // A leaf has no child: this takes no other slot out of the list.
                unlink(slot)
                ledger.entriesDropped &+= 1
            }
            slot = next
        }
    }

    /// Drops the direct pages that split leaves at `level`, if these may be large again: the next
    /// fault installs them so. Those with a protection key, which few have, stay as they are.
    private func merge(_ first: UInt64, _ level: PageLevel) {
        guard let below = level.below, canMapLarge(first, level) else { return }
        for isDirty in [false, true] {
            for isGlobal in [false, true] {
                let role = DirectRole(
                    baseFrame: first, level: below, isDirty: isDirty, isGlobal: isGlobal)
                guard let page = findDirect(role), pages[page].stamp != stamp else { continue }
                drop(page)
                ledger.shadowPagesDropped &+= 1
            }
        }
    }

    // MARK: Invalidation

    /// How many single pages are invalidated before all is: beyond, refilling is cheaper.
    static let pendingLimit = 32
    /// How many parents a search for the addresses of a leaf looks at.
    private static let climbLimit = 512

    /// Makes an invalidation due of everything that is cached from a leaf: the addresses at which
    /// it is seen are found by climbing from parent to parent.
    func invalidateLeaf(_ slot: UInt32) {
        if pendingAll { return }
        guard policy.walked == .shadow, pages[page(ofSlot: slot)].level == .table else {
            // At which guest virtual addresses a guest-physical one is seen is not known here.
            // The processor may hold fragments of it anywhere in its span.
            pendingAll = true
            return
        }
        var budget = Self.climbLimit
        climb(slot, 0, &budget)
    }

    private func climb(_ first: UInt32, _ bits: UInt64, _ budget: inout Int) {
        var slot = first
        var address = bits
        var shift = pages[page(ofSlot: first)].level.shift
        while true {
            let page = page(ofSlot: slot)
            address |= UInt64(slot & 511) &<< shift
            // A parent is of the next level.
            shift &+= 9
            if pages[page].isRoot {
                if pages[page].isDirect && policy.nesting != nil {
                    // The second dimension: which virtual addresses lead here is not known.
                    pendingAll = true
                    return
                }
                return addPending(pages[page].linearAddress(address))
            }
            slot = pages[page].parents
            while slot != 0 && !pendingAll {
                budget -= 1
                if budget <= 0 {
                    pendingAll = true
                    return
                }
                let next = links[slot].next
                // The last one, mostly the only one, needs no call.
                if next == 0 { break }
                climb(slot, address, &budget)
                slot = next
            }
            if slot == 0 || pendingAll { return }
        }
    }

    func addPending(_ address: UInt64) {
        // Roots that share a subtree mostly see it at one address.
        if pendingCount > 0 && pendingAddresses[pendingCount - 1] == address { return }
        guard pendingCount < Self.pendingLimit else {
            pendingAll = true
            return
        }
        pendingAddresses[pendingCount] = address
        pendingCount += 1
    }

    /// Has every processor drop what is due. Nothing runs, and no freed page is used again,
    /// before.
    func flushInvalidations() {
        // Model: steps S1, S2.
        if pendingAll {
            for cache in caches { cache.invalidateAll() }
            ledger.fullInvalidations &+= UInt64(caches.count)
        } else if pendingCount > 0 {
            for index in processors.indices {
                processors[index].with { dropPending(from: $0) }
            }
            for cache in otherCaches { dropPending(from: cache) }
            ledger.pageInvalidations &+= UInt64(caches.count &* pendingCount)
        } else {
            return
        }
        pendingAll = false
        pendingCount = 0
    }

    @inline(__always)
    private func dropPending(from cache: some TranslationCacheControl) {
        for number in 0..<pendingCount {
            cache.invalidate(GuestVirtualAddress(pendingAddresses[number]))
        }
    }
}
