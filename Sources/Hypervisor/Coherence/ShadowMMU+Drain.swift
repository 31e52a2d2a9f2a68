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

    /// A drain that finds every buffer empty.
    package func drainNothing(cause: DrainCause) {
        ledger.drains[cause] &+= 1
        ledger.emptyDrains &+= 1
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
                endWatch(frame)
                while address < next && isTraced(frame) {
                    syncEntry(frame, Int(address >> 3) & 511, refills: policy.refills)
                    heat(frame, Int(address >> 3) & 511, size: 3)
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
            if isTraced(frame) { wasWritten(frame, record) } else { endWatch(frame) }
        }
        flushInvalidations()
    }

    /// Brings up to date what derives from the entry that a record names.
    private func wasWritten(_ frame: UInt64, _ record: UInt64) {
        let index = Int(record >> 3) & 511
        ledger.entriesReread &+= 1
        syncEntry(frame, index, refills: policy.refills)
        heat(frame, index, size: record & 7)
    }

    /// The lowest level at which a guest frame is shadowed as a table; nil: it is none.
    func lowestLevel(_ frame: UInt64) -> TableLevel? {
        guard isTraced(frame) else { return nil }
        var lowest = PageLevel.pml5
        var page = frames[Int(frame)].shadows
        while page != 0 {
            lowest = min(lowest, pages[page].level)
            page = pages[page].next
        }
        switch lowest {
        case .table: return .table
        case .directory: return .directory
        case .directoryPointer: return .directoryPointer
        case .pml4: return .pml4
        case .pml5: return .pml5
        }
    }

    // MARK: One entry

    /// Brings every shadow entry that derives from one quadword of a guest frame up to date: the
    /// frame may be used as a table at several levels and in several forms, and the quadword may
    /// be two entries. `refills`: a leaf is installed where the guest entry asks for one; otherwise
    /// nothing becomes present.
    func syncEntry(_ frame: UInt64, _ quadword: Int, refills: Bool = false) {
        guard tables.isRAM(frame) else { return }
        var page = frames[Int(frame)].shadows
        search: while page != 0 {
            let dropped = dropCount
            for index in pages[page].indices(ofQuadword: quadword) {
                syncSlot(page, index, refills)
                if dropCount != dropped {
                    // The list may not be what it was. Each time there are fewer pages.
                    page = frames[Int(frame)].shadows
                    continue search
                }
            }
            page = pages[page].next
        }
    }

    private func syncSlot(_ owner: UInt32, _ index: Int, _ refills: Bool) {
        if syncPresent(owner, index) || refills && refill(owner, index) { return }
        let slot = slot(owner, index)
        if shadowEntry(slot).isPresent {
            clear(slot)
            ledger.entriesDropped &+= 1
        }
    }

    /// Brings a present shadow entry up to date, if the guest entry still stands for the same frame
    /// or table.
    /// - Returns: false where it does not, or where the shadow entry is not present.
    private func syncPresent(_ owner: UInt32, _ index: Int) -> Bool {
        let slot = slot(owner, index)
        let shadow = shadowEntry(slot)
        let level = pages[owner].level
        guard shadow.isPresent else { return false }
        let isLeaf = shadow.isLeaf(at: level)
        if policy.defects.contains(isLeaf ? .forgetsGlobalPages : .keepsUpperLevels),
            !isLeaf || shadow.isGlobal
        {
            return true
        }
        switch meaning(owner, index) {
        case .table(let frame, _, let rights) where !isLeaf:
            // Role and quadrant are those that the link was made with: they follow from the
            // page's own and from the index.
            let page = child(slot, shadow)
            if !pages[page].isDirect && pages[page].guestFrame == frame {
                _ = setLink(slot, page, rights)
                return true
            }
        case .page(let frame, let rights) where isLeaf:
            if guestFrame(shadow, level) == frame {
                _ = setLeaf(slot, level, frame, rights)
                return true
            }
        case .page(let frame, let rights):
            let page = child(slot, shadow)
            let state = pages[page]
            if let below = level.below, state.isDirect, state.guestFrame == frame,
                state.flags == Self.splitRole(frame, below, rights).flags
            {
                _ = setLink(slot, page, rights)
                return true
            }
        case .table, .registers, .none: break
        }
        return false
    }

    /// Makes a slot the leaf that its guest entry stands for, as a processor might by speculation:
    /// the entry is present, accessed and well-formed, and the table that holds it is watched. Only
    /// leaves are refilled: what leads to a table waits for the walk that makes or finds its shadow.
    /// - Returns: whether it did.
    private func refill(_ owner: UInt32, _ index: Int) -> Bool {
        let level = pages[owner].level
        guard case .page(let frame, let rights) = meaning(owner, index), canMapLarge(frame, level)
        else { return false }
        _ = setLeaf(slot(owner, index), level, frame, rights)
        ledger.entriesRefilled &+= 1
        return true
    }

    // MARK: Pages that stop being page tables

    /// What the writes to a shadow page's guest table may amount to between two uses. To drop a
    /// page costs the refilling of its present entries; a page that is written more often than
    /// some multiple of these is most likely zeroed, or holds data by now. Nil: never.
    @inline(__always)
    func heatLimit(_ page: ShadowPage) -> UInt32? {
        switch policy.stop {
        case .writes(let number): number &+ 4 &* UInt32(page.present)
        case .never: nil
        }
    }

    /// Counts a write against the shadow pages of a frame, and drops those that had too many.
    /// `size`: as in a record.
    ///
    /// Of a 2-level table it counts against the quadrant that it concerns; where that is gone,
    /// against the others, which would be recorded for ever.
    private func heat(_ frame: UInt64, _ quadword: Int, size: UInt64) {
        var outcome = addHeat(frame, quadword, size, toConcerned: true)
        if !outcome.found { outcome = addHeat(frame, quadword, size, toConcerned: false) }
        guard outcome.isOver, !isBegunAnew else { return }
        var page = frames[Int(frame)].shadows
        while page != 0 {
            if isTooHot(pages[page], pages[page].heat) && !liveRoots.contains(page) {
                drop(page)
                ledger.shadowPagesDropped &+= 1
                ledger.shadowPagesAbandoned &+= 1
                // The list is not what it was.
                page = frames[Int(frame)].shadows
            } else {
                page = pages[page].next
            }
        }
    }

    @inline(__always)
    private func isTooHot(_ page: ShadowPage, _ heat: UInt32) -> Bool {
        heatLimit(page).map { heat > $0 } ?? false
    }

    /// - Returns: whether there is such a page, and whether one has had too much.
    private func addHeat(
        _ frame: UInt64, _ quadword: Int, _ size: UInt64, toConcerned isConcerned: Bool
    ) -> (found: Bool, isOver: Bool) {
        var found = false
        var isOver = false
        var page = frames[Int(frame)].shadows
        while page != 0 {
            let state = pages[page]
            if state.indices(ofQuadword: quadword).isEmpty != isConcerned {
                found = true
                let heat = state.heat &+ weight(state, quadword, size)
                pages[page].heat = heat
                isOver = isOver || isTooHot(state, heat)
            }
            page = state.next
        }
        return (found, isOver)
    }

    /// What one write counts. Kernels write page tables an entry or two at a time, or 1 byte to
    /// clear a bit; 8-byte entries of 32-bit guests by halves too.
    @inline(__always)
    private func weight(_ page: ShadowPage, _ quadword: Int, _ size: UInt64) -> UInt32 {
        let form = page.role.form
        if form == .twoLevel {
            if isData(page, quadword * 2) || isData(page, quadword * 2 + 1) { return 8 }
        } else if isData(page, quadword) {
            return 8
        }
        let is32Bit = form == .twoLevel || form == .pae
        return size == 3 || size == 0 || is32Bit && size == 2 ? 1 : 4
    }

    /// Whether a guest entry is present, but not by any meaning that an entry can have here.
    @inline(__always)
    private func isData(_ page: ShadowPage, _ index: Int) -> Bool {
        let entry = tables.guestEntry(page.guestFrame, index, page.role.form)
        guard entry.isPresent else { return false }
        let reserved = page.role.rules.reservedBits(entry, at: page.level)
        return reserved & ~PagingEntry.executeDisableBit != 0
    }
}
