import MachineMemory
import X86

/// Bringing the shadow up to date with what was written to guest page tables.
extension ShadowMMU {
    /// Applies all records of all processors: at each coherency-inducing operation, whichever
    /// processor executes it, since another one may have written the entry.
    ///
    /// A record says where something was written, and the entry is read again here: so records
    /// need no order, may repeat, and may name half an entry. No shadow entry becomes present in
    /// a drain; one that is stays only if its guest entry still says the same.
    package func drain(_ rings: inout [TraceRing], cause: DrainCause) {
        // Nothing is in the middle of a walk: every page may be dropped.
        stamp &+= 1
        ledger.drains[cause] &+= 1
        var total: UInt64 = 0
        for index in rings.indices {
            let ring = rings[index]
            let pending = ring.pending
            for number in 0..<pending {
                apply(tables.load(ring.address(ring.consumer &+ number)))
            }
            rings[index].consumer = ring.producer
            total &+= pending
        }
        ledger.recordsDrained &+= total
        if total == 0 { ledger.emptyDrains &+= 1 }
        flushInvalidations()
    }

    /// Tells that guest memory was written by something whose writes are not recorded: devices,
    /// loaders, debuggers. `range` is in guest-physical bytes; parts without RAM are ignored.
    package func guestMemoryWritten(_ range: Range<GuestPhysicalAddress>) {
        stamp &+= 1
        let end = min(range.upperBound.rawValue, tables.frameLimit << 12)
        var address = range.lowerBound.rawValue & ~7
        while address < end {
            let frame = address >> 12
            let next = min((frame &+ 1) << 12, end)
            if tables.isRAM(frame) {
                let machine = MachineFrame(tables.firstGuestFrame &+ frame)
                for cache in caches { cache.codeChanged(in: machine) }
                endWatch(frame)
                while address < next && isTraced(frame) {
                    syncEntry(frame, Int(address >> 3) & 511)
                    heat(frame, Int(address >> 3) & 511, weight: 1)
                    address &+= 8
                }
            }
            address = next
        }
        flushInvalidations()
    }

    private func apply(_ record: UInt64) {
        let frame = record >> 12 &- tables.firstGuestFrame
        guard let lowest = lowestLevel(frame) else {
            ledger.recordsOfFormerTables &+= 1
            return
        }
        ledger.recordsByLevel[lowest] &+= 1
        wasWritten(frame, record)
    }

    /// Applies the writes to protected tables that the processor has completed, before anything
    /// else of the guest runs. `records`: as those of a guest write buffer.
    package func applyCompleted(_ records: [UInt64]) {
        stamp &+= 1
        for record in records {
            let frame = record >> 12 &- tables.firstGuestFrame
            // An earlier one of them may have ended the frame's use as a table.
            if isTraced(frame) { wasWritten(frame, record) } else { endWatch(frame) }
        }
        flushInvalidations()
    }

    /// Brings up to date what derives from the entry that a record names.
    private func wasWritten(_ frame: UInt64, _ record: UInt64) {
        let index = Int(record >> 3) & 511
        syncEntry(frame, index)
        // Kernels write page tables 8 bytes at a time, or 1 to clear a bit; nobody stores halves
        // of entries in 4-level paging in the long run.
        let size = record & 7
        heat(frame, index, weight: size == 3 || size == 0 ? 1 : 4)
    }

    /// The lowest level at which a guest frame is shadowed as a table; nil: it is none.
    func lowestLevel(_ frame: UInt64) -> TableLevel? {
        guard isTraced(frame) else { return nil }
        if findIndirect(frame, .table) != nil { return .table }
        if findIndirect(frame, .directory) != nil { return .directory }
        if findIndirect(frame, .directoryPointer) != nil { return .directoryPointer }
        if findIndirect(frame, .pml4) != nil { return .pml4 }
        return findIndirect(frame, .pml5) != nil ? .pml5 : nil
    }

    // MARK: One entry

    /// Brings every shadow entry that derives from one guest entry up to date: one frame may be
    /// used as a table at several levels.
    func syncEntry(_ frame: UInt64, _ index: Int) {
        for level in PageLevel.allCases {
            // Looked up each time: a level's update may drop another level's page.
            guard let page = findIndirect(frame, level) else { continue }
            syncSlot(slot(page, index), level, PagingEntry(tables.guestEntry(frame, index)))
        }
    }

    private func syncSlot(_ slot: UInt32, _ level: PageLevel, _ guest: PagingEntry) {
        let shadow = shadowEntry(slot)
        guard shadow.isPresent else { return }
        let isLeaf = shadow.isLeaf(at: level)
        switch meaning(guest, level) {
        case .table(let frame, let rights) where !isLeaf:
            let page = child(slot, shadow)
            if !pages[page].isDirect && pages[page].guestFrame == frame {
                _ = setLink(slot, page, rights)
                return
            }
        case .page(let frame, let rights) where isLeaf:
            if guestFrame(shadow, level) == frame {
                _ = setLeaf(slot, level, frame, rights)
                return
            }
        case .page(let frame, let rights):
            let page = child(slot, shadow)
            let state = pages[page]
            if let below = level.below, state.isDirect, state.guestFrame == frame,
                state.flags == Self.splitRole(frame, below, rights).flags
            {
                _ = setLink(slot, page, rights)
                return
            }
        case .table, .none: break
        }
        clear(slot)
        ledger.entriesDropped &+= 1
    }

    // MARK: Pages that stop being page tables

    /// What the writes to a shadow page's guest table may amount to between two uses. To drop a
    /// page costs the refilling of its present entries; a page that is written more often than
    /// some multiple of these is most likely zeroed, or holds data by now.
    func heatLimit(_ page: ShadowPage) -> UInt32 { 64 &+ 4 &* UInt32(page.present) }

    /// Counts a write against the shadow pages of a frame, and drops those that had too many.
    private func heat(_ frame: UInt64, _ index: Int, weight: UInt32) {
        let guest = PagingEntry(tables.guestEntry(frame, index))
        for level in PageLevel.allCases {
            guard let page = findIndirect(frame, level) else { continue }
            // Present, but not by any meaning that an entry can have here: data.
            let isGarbage =
                guest.isPresent
                && guest.reservedBits(
                    at: level, physicalAddressBits: physicalAddressBits, executeDisable: false,
                    gigabytePages: hasGigabytePages) & ~PagingEntry.executeDisableBit != 0
            pages[page].heat &+= isGarbage ? 8 : weight
            guard pages[page].heat > heatLimit(pages[page]), !liveRoots.contains(page) else {
                continue
            }
            drop(page)
            ledger.shadowPagesDropped &+= 1
            ledger.shadowPagesAbandoned &+= 1
        }
    }
}
