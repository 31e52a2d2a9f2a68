import X86

/// One thing that is wrong with the shadow.
package enum Violation: Equatable, Sendable {
    /// A present shadow entry whose A is clear.
    case notAccessed(slot: UInt32)
    /// A shadow entry that is not what its guest entry, or its direct page, stands for.
    case wrongEntry(slot: UInt32, shadow: UInt64, guest: UInt64)
    /// T does not say whether the frame is traced, or a large leaf maps a traced frame.
    case wrongTrace(slot: UInt32)
    /// A link to something that is not a shadow page in use, one level below.
    case badLink(slot: UInt32)
    /// A present entry is not in the list it belongs in exactly once, or an absent one is in one.
    case wrongLists(slot: UInt32)
    /// A shadow page's count of present entries is wrong.
    case wrongCount(page: UInt32)
    /// A page cannot be found through its role.
    case lostPage(page: UInt32)
    /// A live root is not in use.
    case deadRoot(page: UInt32)
    /// Counts of traced frames do not match the frames.
    case wrongTraceCount(region: UInt64)
    /// The frame's bit in the map of frames does not say whether writes to it are recorded.
    case wrongFrameBit(frame: UInt64)
    /// Writes to the frame are noted in its mask and not applied.
    case writesLeft(frame: UInt64)
    /// A processor knows a root that is none, or another's.
    case wrongKnownRoot(processor: Int, guest: UInt64)
    /// Live, free and never used pages do not make up the pool.
    case leakedPages(live: UInt64, listed: UInt64, free: UInt64)
    /// An unsynced frame is not in the list at its place, or is no table of the lowest level alone.
    case wrongUnsync(frame: UInt64)
    /// A nested frame is not in the list at its place, is no table, or is a root; or a frame is
    /// watched and not nested.
    case wrongNesting(frame: UInt64)
    /// The shadow page of a nested table has entries.
    case nestedEntries(page: UInt32)
    /// Invalidations were left undone.
    case pendingInvalidations
}

/// Checks the whole shadow against the guest's tables and against itself. It reads, and changes
/// nothing.
///
/// It is meaningful at the points where the shadow owes the guest everything: after a drain, before
/// the guest writes again. It states the rules afresh from the guest's entry, and shares with the
/// product only the reading of tables and records.
struct Auditor {
    let mmu: ShadowMMU
    private var violations: [Violation] = []
    /// How often each slot was found in a list that it belongs in.
    private var listed: [UInt32: Int] = [:]

    init(_ mmu: ShadowMMU) { self.mmu = mmu }

    mutating func audit() -> [Violation] {
        if mmu.pendingAll || mmu.pendingCount != 0 {
            violations.append(.pendingInvalidations)
        }
        readLists()
        for page in 1..<mmu.firstUnused where mmu.pages[page].isInUse { check(page) }
        for slot in listed.keys where !mmu.shadowEntry(slot).isPresent {
            violations.append(.wrongLists(slot: slot))
        }
        for root in mmu.liveRoots.indices.map({ mmu.liveRoots[$0] }) where root != 0 {
            let state = mmu.pages[root]
            let top: UInt8 = !state.isDirect && state.role.form == .fiveLevel ? 5 : 4
            if state.levelNumber != top || state.parents != 0 {
                violations.append(.deadRoot(page: root))
            }
        }
        checkTraceCounts()
        checkFrameTables()
        checkKnownRoots()
        checkUnsynced()
        checkNested()
        checkPool()
        return violations
    }

    // MARK: Lists

    private mutating func readLists() {
        for frame in 0..<Int(mmu.tables.frameLimit) {
            var slot = mmu.frames[frame].leaves
            var previous: UInt32 = 0
            while slot != 0 {
                let level = mmu.pages[mmu.page(ofSlot: slot)].level
                let entry = mmu.shadowEntry(slot)
                let belongs =
                    entry.isPresent && entry.isLeaf(at: level)
                    && mmu.guestFrame(entry, level) == UInt64(frame)
                guard note(slot, previous, belongs) else { break }
                previous = slot
                slot = mmu.links[slot].next
            }
        }
        for page in 1..<mmu.firstUnused where mmu.pages[page].isInUse {
            var slot = mmu.pages[page].parents
            var previous: UInt32 = 0
            while slot != 0 {
                let level = mmu.pages[mmu.page(ofSlot: slot)].level
                let entry = mmu.shadowEntry(slot)
                let belongs =
                    entry.isPresent && !entry.isLeaf(at: level)
                    && mmu.child(slot, entry) == page
                guard note(slot, previous, belongs) else { break }
                previous = slot
                slot = mmu.links[slot].next
            }
        }
    }

    /// Counts a slot found in a list; false to stop following a broken one.
    private mutating func note(_ slot: UInt32, _ previous: UInt32, _ belongs: Bool) -> Bool {
        listed[slot, default: 0] += 1
        if !belongs || mmu.links[slot].previous != previous || listed[slot] != 1 {
            violations.append(.wrongLists(slot: slot))
            return false
        }
        return true
    }

    // MARK: Pages and entries

    private mutating func check(_ page: UInt32) {
        let state = mmu.pages[page]
        let found: UInt32? =
            if state.isDirect {
                mmu.findDirect(
                    DirectRole(
                        baseFrame: state.guestFrame, level: state.level,
                        isDirty: state.flags & ShadowPage.dirty != 0,
                        isGlobal: state.flags & ShadowPage.global != 0, key: state.flags >> 4))
            } else if state.isUpper {
                mmu.findUpper(mmu.directories[page], state.level, state.role)
            } else {
                mmu.findIndirect(state.guestFrame, state.level, state.role)
            }
        if found != page { violations.append(.lostPage(page: page)) }
        var present = 0
        for index in 0..<512 {
            let slot = mmu.slot(page, index)
            let entry = mmu.shadowEntry(slot)
            guard entry.isPresent else { continue }
            present += 1
            if !entry.isAccessed { violations.append(.notAccessed(slot: slot)) }
            let isLeaf = entry.isLeaf(at: state.level)
            let inList = !isLeaf || mmu.tables.isRAM(mmu.guestFrame(entry, state.level))
            if (listed[slot] ?? 0) != (inList ? 1 : 0) {
                violations.append(.wrongLists(slot: slot))
            }
            if isLeaf { checkTrace(slot, entry, state.level) }
            // What an unsynced table says is not owed before it is read again.
            if !state.isDirect && !state.isUpper
                && mmu.frames[Int(state.guestFrame)].unsynced != 0
            {
                continue
            }
            checkMeaning(slot, entry, page, index)
        }
        if present != Int(state.present) { violations.append(.wrongCount(page: page)) }
        if !state.isDirect && !state.isUpper && present != 0
            && mmu.frames[Int(state.guestFrame)].nested != 0
        {
            violations.append(.nestedEntries(page: page))
        }
    }

    private mutating func checkTrace(_ slot: UInt32, _ entry: PagingEntry, _ level: PageLevel) {
        let frame = mmu.guestFrame(entry, level)
        let count = level.entrySpan / pageSize
        let isRAM = mmu.tables.isRAM(frame)
        for each in frame..<frame + count {
            // To protect, T stands for a D that the leaf would have; a clean one has neither.
            let isRight =
                switch expectedMark(each) {
                case .exits: level == .table && !entry.isDirty
                case .recordsByLeaf: level == .table && entry.isTraced == entry.isDirty
                case .none: !entry.isTraced
                case .noneSmall: !entry.isTraced && level == .table
                }
            if !isRight || mmu.tables.isRAM(each) != isRAM {
                violations.append(.wrongTrace(slot: slot))
                return
            }
        }
    }

    /// How a leaf that maps the guest frame must be.
    private enum Mark { case none, noneSmall, recordsByLeaf, exits }

    private func expectedMark(_ frame: UInt64) -> Mark {
        let levels = tableLevels(frame)
        if levels.isEmpty { return .none }
        let state = mmu.frames[Int(frame)]
        if state.unsynced != 0 || state.nested != 0 && !state.isWatched { return .noneSmall }
        if exits(levels) { return .exits }
        return mmu.policy.trace?.indication == .frame ? .none : .recordsByLeaf
    }

    /// Whether writes to a table of these levels exit.
    private func exits(_ levels: [PageLevel]) -> Bool {
        mmu.policy.protection == .readOnly
            || mmu.policy.trace?.levels == .leaf && levels.contains { $0 != .table }
    }

    /// The levels at which a guest frame is shadowed as a table.
    private func tableLevels(_ frame: UInt64) -> [PageLevel] {
        guard mmu.tables.isRAM(frame) else { return [] }
        var levels: [PageLevel] = []
        var page = mmu.frames[Int(frame)].shadows
        while page != 0 && levels.count < 512 {
            levels.append(mmu.pages[page].level)
            page = mmu.pages[page].next
        }
        return levels
    }

    private mutating func checkMeaning(
        _ slot: UInt32, _ entry: PagingEntry, _ page: UInt32, _ index: Int
    ) {
        let rights =
            PagingEntry.writableBit | PagingEntry.userBit | PagingEntry.executeDisableBit
        let inLeaf =
            rights | PagingEntry.dirtyBit | PagingEntry.globalBit | PagingEntry.keyMask
        let state = mmu.pages[page]
        let level = state.level
        let guest = expectation(page, index)
        var isRight = guest.isValid
        if entry.isLeaf(at: level) {
            var entry = entry
            // T and no D: a dirty page whose frame is protected.
            if entry.isTraced && !entry.isDirty {
                entry = PagingEntry(entry.rawValue | PagingEntry.dirtyBit)
            }
            isRight =
                isRight && guest.isLeaf && entry.rawValue & inLeaf == guest.bits & inLeaf
                && mmu.guestFrame(entry, level) == guest.frame
        } else {
            let childPage = mmu.child(slot, entry)
            guard childPage > 0, childPage < mmu.firstUnused, mmu.pages[childPage].isInUse,
                mmu.pages[childPage].levelNumber == state.levelNumber &- 1
            else {
                violations.append(.badLink(slot: slot))
                return
            }
            let child = mmu.pages[childPage]
            isRight =
                isRight && entry.rawValue & rights == guest.bits & rights
                && child.isDirect == guest.isLeaf
            // Of a nested table, the processor is led to the guest's.
            let isNested =
                !child.isDirect && !child.isUpper
                && mmu.frames[Int(child.guestFrame)].nested != 0
            let target =
                isNested
                ? (mmu.tables.firstGuestFrame + child.guestFrame) << 12
                : mmu.address(of: childPage)
            isRight =
                isRight && entry.isSwitch == isNested && entry.addressField == target
            if guest.isLeaf {
                isRight =
                    isRight && child.guestFrame == guest.frame
                    && (child.flags & ShadowPage.dirty != 0)
                        == (guest.bits & PagingEntry.dirtyBit != 0)
                    && (child.flags & ShadowPage.global != 0)
                        == (guest.bits & PagingEntry.globalBit != 0)
                    && UInt64(child.flags >> 4) == guest.bits >> 59 & 15
            } else if state.isUpper && level == .pml4 {
                isRight =
                    isRight && child.isUpper && child.role == state.role
                    && mmu.directories[childPage] == mmu.directories[page]
            } else {
                isRight =
                    isRight && !child.isUpper && child.guestFrame == guest.frame
                    && child.role.rawValue & ~0x60 == state.role.rawValue & ~0x60
                    && child.role.quadrant == guest.quadrant
            }
        }
        if !isRight {
            violations.append(
                .wrongEntry(slot: slot, shadow: entry.rawValue, guest: guest.bits))
        }
    }

    // MARK: Counts

    private mutating func checkTraceCounts() {
        var gigabytes = [Int](repeating: 0, count: mmu.tracedInGigabyte.count)
        for region in 0..<mmu.tracedInDirectory.count {
            let first = UInt64(region) << 9
            let traced = (first..<first + 512).count {
                let levels = tableLevels($0)
                return !levels.isEmpty && (exits(levels) || mmu.policy.trace?.indication != .frame)
            }
            if traced != Int(mmu.tracedInDirectory[region]) {
                violations.append(.wrongTraceCount(region: UInt64(region)))
            }
            gigabytes[region >> 9] += traced
        }
        for region in gigabytes.indices
        where gigabytes[region] != Int(mmu.tracedInGigabyte[region]) {
            violations.append(.wrongTraceCount(region: UInt64(region)))
        }
    }

    /// The map of frames and the masks.
    private mutating func checkFrameTables() {
        guard let layout = mmu.layout, let trace = mmu.policy.trace else { return }
        for frame in 0..<mmu.tables.frameLimit {
            if trace.indication == .frame {
                let levels = tableLevels(frame)
                let word = mmu.tables.load(layout.frameMap + frame / 64 * 8)
                if word >> (frame % 64) & 1 != (levels.isEmpty || exits(levels) ? 0 : 1) {
                    violations.append(.wrongFrameBit(frame: frame))
                }
            }
            guard trace.record == .mask else { continue }
            let mask = (0..<8 as Range<UInt64>).map {
                mmu.tables.load(layout.masks + frame * 64 + $0 * 8)
            }
            if mask.contains(where: { $0 != 0 }) { violations.append(.writesLeft(frame: frame)) }
        }
    }

    private mutating func checkKnownRoots() {
        for (processor, table) in mmu.roots.addresses.enumerated() {
            for place in KnownRoots.places(table) {
                let guest = mmu.tables.load(place)
                if guest & 1 == 0 { continue }
                let page = mmu.tables.load(place + 8) >> 12 &- mmu.firstFrame
                let isRoot =
                    page > 0 && page < UInt64(mmu.firstUnused)
                    && mmu.pages[Int(page)].isInUse
                    && isRootPage(UInt32(page), of: guest & ~1)
                if !isRoot {
                    violations.append(.wrongKnownRoot(processor: processor, guest: guest))
                }
            }
        }
    }

    private mutating func checkUnsynced() {
        for frame in 0..<Int(mmu.tables.frameLimit) {
            let place = Int(mmu.frames[frame].unsynced)
            if place == 0 { continue }
            var page = mmu.frames[frame].shadows
            var isLowest = page != 0
            while page != 0 {
                isLowest = isLowest && mmu.pages[page].levelNumber == 1
                page = mmu.pages[page].next
            }
            if !isLowest || place > mmu.unsynced.count || Int(mmu.unsynced[place - 1]) != frame {
                violations.append(.wrongUnsync(frame: UInt64(frame)))
            }
        }
        for frame in mmu.unsynced where mmu.frames[Int(frame)].unsynced == 0 {
            violations.append(.wrongUnsync(frame: UInt64(frame)))
        }
    }

    private mutating func checkNested() {
        for frame in 0..<Int(mmu.tables.frameLimit) {
            let state = mmu.frames[frame]
            let place = Int(state.nested)
            if place == 0 {
                if state.isWatched { violations.append(.wrongNesting(frame: UInt64(frame))) }
                continue
            }
            var isRoot = false
            var page = state.shadows
            while page != 0 {
                isRoot = isRoot || mmu.pages[page].isRoot
                page = mmu.pages[page].next
            }
            if state.shadows == 0 || isRoot || place > mmu.nested.count
                || Int(mmu.nested[place - 1]) != frame
            {
                violations.append(.wrongNesting(frame: UInt64(frame)))
            }
        }
        for frame in mmu.nested where mmu.frames[Int(frame)].nested == 0 {
            violations.append(.wrongNesting(frame: UInt64(frame)))
        }
    }

    private mutating func checkPool() {
        var inOrder: UInt64 = 0
        var page = mmu.oldest
        while page != 0 && inOrder <= UInt64(mmu.ceiling) {
            inOrder += 1
            page = mmu.pages[page].newer
        }
        var free: UInt64 = 0
        page = mmu.firstFree
        while page != 0 && free <= UInt64(mmu.ceiling) {
            free += 1
            page = mmu.pages[page].next
        }
        let live = mmu.ledger.shadowPagesLive
        if live != inOrder || live + free + 1 != UInt64(mmu.firstUnused) {
            violations.append(.leakedPages(live: live, listed: inOrder, free: free))
        }
    }
}

extension ShadowMMU {
    /// Everything that is wrong with the shadow; empty where nothing is.
    package func audit() -> [Violation] {
        var auditor = Auditor(self)
        return auditor.audit()
    }
}
