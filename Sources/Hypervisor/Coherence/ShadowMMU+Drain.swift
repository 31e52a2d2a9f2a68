import MachineMemory
import Processor
import X86

/// Bringing the shadow up to date with what was written to guest page tables.
extension ShadowMMU {
    /// Applies all records of all processors: at each coherency-inducing operation, whichever
    /// processor executes it, since another one may have written the entry.
    ///
    /// A record says where something was written, and the entry is read again here: so records
    /// need no order, may repeat, and may name half an entry. That a value record also says what
    /// was written changes nothing: halves of entries, and writes that are not recorded, would have
    /// to be put together in the order of all processors. Unless entries are refilled, none becomes
    /// present in a drain; one that is stays only if its guest entry still says the same.
    package func drain(_ rings: inout [TraceRing], cause: DrainCause) {
        // Nothing is in the middle of a walk: every page may be dropped.
        stamp &+= 1
        ledger.drains[cause] &+= 1
        var total: UInt64 = 0
        // Model: steps D1 to D3. Every processor is between two instructions.
        for index in rings.indices {
            let ring = rings[index]
            let pending = ring.pending
            for number in 0..<pending {
                let place = ring.address(ring.consumer &+ number)
                switch ring.format {
                case .address: apply(tables.load(place))
                case .value: applyValue(tables.load(place), tables.load(place &+ 8))
                case .mask: applyGroup(tables.load(place))
                }
            }
            rings[index].consumer = ring.producer
            total &+= pending
        }
        ledger.recordsDrained &+= total
        if total == 0 { ledger.emptyDrains &+= 1 }
        flushInvalidations()
    }

    /// Takes `count` consumed records off what the processors see as pending. Locked, among
    /// processors.
    package func consumed(_ count: UInt64) {
        guard let layout else { return }
        let place = layout.common &+ TraceCommon.outstanding
        tables.store(tables.load(place) &- count, at: place)
    }

    /// Tells that guest memory was written by something whose writes are not recorded: devices,
    /// loaders, debuggers. `range` is in guest-physical bytes; parts without RAM are ignored.
    package func guestMemoryWritten(_ range: Range<GuestPhysicalAddress>) {
        // Model: step W1.
        stamp &+= 1
        let end = min(range.upperBound.rawValue, tables.frameLimit << 12)
        var address = range.lowerBound.rawValue & ~7
        while address < end {
            let frame = address >> 12
            let next = min((frame &+ 1) << 12, end)
            if tables.isRAM(frame) {
                let machine = MachineFrame(tables.firstGuestFrame &+ frame)
                for cache in caches { cache.codeChanged(in: machine) }
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
        if policy.defects.contains(.losesRecords) { return }
        let frame = record >> 12 &- tables.firstGuestFrame
        guard let lowest = lowestLevel(frame) else {
            ledger.recordsOfFormerTables &+= 1
            return
        }
        ledger.recordsByLevel[lowest] &+= 1
        wasWritten(frame, record)
    }

    /// Applies a value record, whose first two quadwords these are.
    private func applyValue(_ place: UInt64, _ value: UInt64) {
        let bytes = min(max(place >> 56 & 15, 1), 8)
        let address = place & PagingEntry.addressMask | place & 0xfff
        let present = tables.load(address) >> (address & 7 &* 8)
        let mask = bytes == 8 ? UInt64.max : 1 << (bytes &* 8) &- 1
        if (present ^ value) & mask != 0 { ledger.valuesSuperseded &+= 1 }
        apply(address & ~7 | UInt64(bytes.trailingZeroBitCount))
    }

    /// Applies a mask record: takes the bits of its group, all at once, and reads the entries that
    /// they stand for. A bit that is set later finds the group empty, and is recorded anew.
    private func applyGroup(_ record: UInt64) {
        let frame = record >> 12 &- tables.firstGuestFrame
        guard let layout, tables.isRAM(frame) else {
            ledger.recordsOfFormerTables &+= 1
            return
        }
        let group = record & 7
        let place = layout.masks &+ frame << 6 &+ group << 3
        var bits = tables.load(place)
        tables.store(0, at: place)
        guard let lowest = lowestLevel(frame) else {
            ledger.recordsOfFormerTables &+= 1
            return
        }
        ledger.recordsByLevel[lowest] &+= 1
        while bits != 0 {
            let index = group << 6 | UInt64(bits.trailingZeroBitCount)
            bits &= bits &- 1
            // An earlier one of them may have ended the frame's use as a table.
            if isTraced(frame) { wasWritten(frame, index << 3 | 3) }
        }
    }

    /// Applies the writes to protected tables that the processor has completed, before anything
    /// else of the guest runs. `records`: as those of a guest write buffer.
    package func applyCompleted(_ records: [UInt64]) {
        stamp &+= 1
        for record in records {
            let frame = record >> 12 &- tables.firstGuestFrame
            // An earlier one of them may have ended the frame's use as a table.
            if isTraced(frame) { wasWritten(frame, record) }
        }
        flushInvalidations()
    }

    /// Brings up to date what derives from the entry that a record names.
    private func wasWritten(_ frame: UInt64, _ record: UInt64) {
        let index = Int(record >> 3) & 511
        ledger.entriesReread &+= 1
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
        if let page = onlyShadow(frame) {
            return syncSlot(
                slot(page, index), pages[page].level,
                PagingEntry(tables.guestEntry(frame, index)))
        }
        for level in PageLevel.allCases {
            // Looked up each time: a level's update may drop another level's page.
            guard let page = findIndirect(frame, level) else { continue }
            syncSlot(slot(page, index), level, PagingEntry(tables.guestEntry(frame, index)))
        }
    }

    /// The shadow page of a frame that is used as a table at one level, as nearly all are.
    private func onlyShadow(_ frame: UInt64) -> UInt32? {
        guard tables.isRAM(frame) else { return nil }
        let page = frames[Int(frame)].shadows
        return page != 0 && pages[page].next == 0 ? page : nil
    }

    private func syncSlot(_ slot: UInt32, _ level: PageLevel, _ guest: PagingEntry) {
        let shadow = shadowEntry(slot)
        guard shadow.isPresent else {
            _ = refill(slot, level, guest)
            return
        }
        let isLeaf = shadow.isLeaf(at: level)
        if policy.defects.contains(isLeaf ? .forgetsGlobalPages : .keepsUpperLevels),
            !isLeaf || shadow.isGlobal
        {
            return
        }
        switch meaning(guest, level) {
        case .table(let frame, let rights) where !isLeaf:
            let page = child(shadow)
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
            let page = child(shadow)
            let state = pages[page]
            if let below = level.below, state.isDirect, state.guestFrame == frame,
                state.flags == Self.splitRole(frame, below, rights).flags
            {
                _ = setLink(slot, page, rights)
                return
            }
        case .table, .none: break
        }
        if refill(slot, level, guest) { return }
        clear(slot)
        ledger.entriesDropped &+= 1
    }

    /// Makes a slot the leaf that its guest entry stands for, as a processor might by speculation:
    /// the entry is present, accessed and well-formed, and the table that holds it is watched. No
    /// walk of the guest's tables has found XD permitted. Only leaves are refilled: what leads to a
    /// table waits for the walk that makes or finds its shadow.
    /// - Returns: whether it did.
    private func refill(_ slot: UInt32, _ level: PageLevel, _ guest: PagingEntry) -> Bool {
        guard policy.refills, hasExecuteDisable || !guest.isExecuteDisabled,
            case .page(let frame, let rights) = meaning(guest, level), canMapLarge(frame, level)
        else { return false }
        _ = setLeaf(slot, level, frame, rights)
        ledger.entriesRefilled &+= 1
        return true
    }

    // MARK: Pages that stop being page tables

    /// What the writes to a shadow page's guest table may amount to between two uses. To drop a
    /// page costs the refilling of its present entries; a page that is written more often than
    /// some multiple of these is most likely zeroed, or holds data by now.
    /// Nil: never.
    func heatLimit(_ page: ShadowPage) -> UInt32? {
        switch policy.stop {
        case .writes(let number): number &+ 4 &* UInt32(page.present)
        case .never: nil
        }
    }

    /// Counts a write against the shadow pages of a frame, and drops those that had too many.
    private func heat(_ frame: UInt64, _ index: Int, weight: UInt32) {
        let guest = PagingEntry(tables.guestEntry(frame, index))
        if let page = onlyShadow(frame) { return heat(page, guest, weight) }
        for level in PageLevel.allCases {
            // Looked up each time: to drop one may drop another.
            if let page = findIndirect(frame, level) { heat(page, guest, weight) }
        }
    }

    private func heat(_ page: UInt32, _ guest: PagingEntry, _ weight: UInt32) {
        // Present, but not by any meaning that an entry can have here: data.
        let isGarbage =
            guest.isPresent
            && guest.reservedBits(
                at: pages[page].level, physicalAddressBits: physicalAddressBits,
                executeDisable: false, gigabytePages: hasGigabytePages)
                & ~PagingEntry.executeDisableBit != 0
        pages[page].heat &+= isGarbage ? 8 : weight
        guard let limit = heatLimit(pages[page]), pages[page].heat > limit,
            !liveRoots.contains(page)
        else { return }
        drop(page)
        ledger.shadowPagesDropped &+= 1
        ledger.shadowPagesAbandoned &+= 1
    }
}
