import X86

/// Which frames are traced, and what that asks of the leaves that map them.
///
/// With `indication: entry` tracing is a bit in each shadow leaf, so every leaf that maps the
/// frame has to be found, and a page larger than 4 KiB must not map it.
extension ShadowMMU {
    /// Whether one leaf at `level` may map the guest frames from `frame`: none of them is traced,
    /// and all or none of them are RAM.
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

    /// Begins tracing a frame: T in every leaf that maps it, large leaves removed, and what is
    /// cached of either invalidated before this returns.
    func startTracing(_ frame: UInt64) {
        ledger.tracesStarted &+= 1
        tracedInDirectory[Int(frame >> 9)] &+= 1
        tracedInGigabyte[Int(frame >> 18)] &+= 1
        removeLargeLeaves(of: frame & ~0x1ff, .directory)
        removeLargeLeaves(of: frame & ~0x3_ffff, .directoryPointer)
        renewLeaves(frame)
        flushInvalidations()
    }

    /// Ends tracing a frame, which is no table any more, and merges what was split for its sake.
    func stopTracing(_ frame: UInt64) {
        ledger.tracesStopped &+= 1
        tracedInDirectory[Int(frame >> 9)] &-= 1
        tracedInGigabyte[Int(frame >> 18)] &-= 1
        // What is cached with T would go on to be recorded.
        forgetUnsynced(frame)
        forgetNested(frame)
        renewLeaves(frame)
        merge(frame & ~0x1ff, .directory)
        merge(frame & ~0x3_ffff, .directoryPointer)
    }

    /// Whether the leaves of the guest frame keep writes from passing unnoticed.
    @inline(__always)
    func isProtected(_ frame: UInt64) -> Bool {
        guard tables.isRAM(frame) else { return false }
        let state = frames[Int(frame)]
        if state.nested != 0 { return state.isWatched }
        return state.shadows != 0 && state.unsynced == 0
    }

    /// Brings the 4 KiB leaves that map a frame to what its protection asks for now, and makes
    /// invalidations of what they were due.
    func renewLeaves(_ frame: UInt64) {
        let isProtected = isProtected(frame)
        var slot = frames[Int(frame)].leaves
        while slot != 0 {
            if pages[page(ofSlot: slot)].level == .table {
                let plain = unprotected(shadowEntry(slot).rawValue)
                let value = isProtected ? protected(plain) : plain
                tables.store(value, at: address(ofSlot: slot))
                invalidateLeaf(slot)
            }
            slot = links[slot].next
        }
    }

    /// A 4 KiB leaf's value where it maps a traced frame. Read-only, a clean leaf needs nothing: a
    /// write exits for its D, and the leaf that has it is made then.
    func protected(_ leaf: UInt64) -> UInt64 {
        switch policy.protection {
        case .recorded: leaf | PagingEntry.tracedBit
        case .readOnly:
            leaf & PagingEntry.dirtyBit == 0
                ? leaf : leaf & ~PagingEntry.dirtyBit | PagingEntry.tracedBit
        }
    }

    /// The leaf's value where it does not.
    func unprotected(_ leaf: UInt64) -> UInt64 {
        switch policy.protection {
        case .recorded: leaf & ~PagingEntry.tracedBit
        case .readOnly:
            leaf & PagingEntry.tracedBit == 0
                ? leaf : leaf & ~PagingEntry.tracedBit | PagingEntry.dirtyBit
        }
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
    /// fault installs them so.
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

    private func climb(_ slot: UInt32, _ below: UInt64, _ budget: inout Int) {
        let page = page(ofSlot: slot)
        let level = pages[page].level
        let address = below | UInt64(slot & 511) << level.shift
        if pages[page].isRoot {
            if pages[page].isDirect && policy.nesting != nil {
                // The second dimension: which virtual addresses lead here is not known.
                pendingAll = true
                return
            }
            return addPending(pages[page].linearAddress(address))
        }
        var parent = pages[page].parents
        while parent != 0 && !pendingAll {
            budget -= 1
            if budget <= 0 {
                pendingAll = true
                return
            }
            climb(parent, address, &budget)
            parent = links[parent].next
        }
    }

    private func addPending(_ address: UInt64) {
        // Roots that share a subtree mostly see it at one address.
        if pendingAddresses.last == address { return }
        if pendingAddresses.count >= Self.pendingLimit {
            pendingAll = true
        } else {
            pendingAddresses.append(address)
        }
    }

    /// Has every processor drop what is due. Nothing runs, and no freed page is used again,
    /// before.
    func flushInvalidations() {
        if pendingAll {
            for cache in caches { cache.invalidateAll() }
            ledger.fullInvalidations &+= UInt64(caches.count)
        } else if !pendingAddresses.isEmpty {
            for cache in caches {
                for address in pendingAddresses { cache.invalidate(GuestVirtualAddress(address)) }
            }
            ledger.pageInvalidations &+= UInt64(caches.count &* pendingAddresses.count)
        } else {
            return
        }
        pendingAll = false
        pendingAddresses.removeAll(keepingCapacity: true)
    }
}
