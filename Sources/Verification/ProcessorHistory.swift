/// Where a processor's walks began, and what has ended its cached translations, per PCID.
///
/// The rules are those of SDM Vol. 3A §4.10.4.1, in the table of Docs/Lawfulness.md. Where the
/// manual lets a processor keep something, it is taken to have kept it.
final class ProcessorHistory {
    /// A time in which one root was loaded under one PCID and one mode.
    struct Period {
        var span: Span
        var root: Root
        var mode: PagingMode
    }

    /// What concerns one PCID.
    struct Context {
        /// When all its non-global translations were last ended.
        var flushed: Moment = 0
        /// When all entries of paging-structure caches were ended, oldest first.
        var structureEnds: [Moment] = []
        var periods: [Period] = []
    }

    /// An address's page or a higher entry's part of the address space, in one PCID.
    private struct Place: Hashable {
        var number: UInt64
        var shift: UInt8
        /// `.max` of 16 bits: global translations.
        var pcid: UInt16
    }

    private static let anyPCID: UInt16 = .max
    /// The sizes that pages can have, and what entries that name tables can span, as shifts.
    private static let pageShifts: [UInt8] = [12, 21, 22, 30]
    private static let structureShifts: [UInt8] = [21, 22, 30, 39, 48]

    private(set) var contexts: [UInt16: Context] = [:]
    /// When everything non-global of every PCID, and everything global, was last ended.
    private var flushedAll: Moment = 0
    private var flushedGlobal: Moment = 0
    /// When all entries of all paging-structure caches were ended.
    private var structureEndsAll: [Moment] = []
    private var pageEnds: [Place: Moment] = [:]
    private var structureEndsAt: [Place: [Moment]] = [:]
    private(set) var pcid: UInt16 = 0
    /// The present root, where there is paging.
    private(set) var root: (root: Root, mode: PagingMode)?
    private var listed = 0
    /// How much is kept.
    var recordCount: Int { listed + pageEnds.count + structureEndsAt.count }

    // MARK: What happens

    /// The root, the PCID or the mode is another one from now on. `root`: nil without paging.
    func begin(_ root: Root?, _ mode: PagingMode?, _ pcid: UInt16, at now: Moment) {
        let last = (contexts[self.pcid]?.periods.count ?? 0) - 1
        if last >= 0, contexts[self.pcid]?.periods[last].span.to == .max {
            contexts[self.pcid]?.periods[last].span.to = now
        }
        self.pcid = pcid
        self.root = nil
        guard let root, let mode else { return }
        self.root = (root, mode)
        listed += 1
        contexts[pcid, default: Context()].periods.append(
            Period(span: Span(from: now, to: .max), root: root, mode: mode))
    }

    /// One page of a PCID; `global`: and global translations of it. `.path`: of paging-structure
    /// caches what leads to the address, `.all`: everything of the PCID.
    enum Structures { case path, all }

    func endPage(
        _ address: UInt64, _ pcid: UInt16, global: Bool, _ structures: Structures, at now: Moment
    ) {
        for shift in Self.pageShifts {
            let number = address >> UInt64(shift)
            pageEnds[Place(number: number, shift: shift, pcid: pcid)] = now
            if global {
                pageEnds[Place(number: number, shift: shift, pcid: Self.anyPCID)] = now
            }
        }
        listed += 1
        switch structures {
        case .all: contexts[pcid, default: Context()].structureEnds.append(now)
        case .path:
            for shift in Self.structureShifts {
                let place = Place(number: address >> UInt64(shift), shift: shift, pcid: pcid)
                structureEndsAt[place, default: []].append(now)
                listed += 1
            }
        }
    }

    /// Everything non-global of a PCID.
    func endContext(_ pcid: UInt16, at now: Moment) {
        contexts[pcid, default: Context()].flushed = now
        contexts[pcid, default: Context()].structureEnds.append(now)
        listed += 1
    }

    /// Everything non-global of all PCIDs, and (`global`) everything global.
    func endAll(global: Bool, at now: Moment) {
        flushedAll = now
        if global { flushedGlobal = now }
        structureEndsAll.append(now)
        listed += 1
    }

    /// Drops all that is past.
    func forget() {
        for pcid in contexts.keys {
            contexts[pcid]?.structureEnds = []
            contexts[pcid]?.periods.removeAll { $0.span.to != .max }
        }
        structureEndsAll = []
        structureEndsAt = [:]
        pageEnds = [:]
        listed = 0
    }

    // MARK: What follows

    /// The earliest moment at which a leaf may have been read that is cached still: the moment of
    /// the last operation that covered it.
    func leafStart(
        _ address: UInt64, shift: UInt64, _ pcid: UInt16, isGlobal: Bool
    ) -> Moment {
        let place = Place(
            number: address >> shift, shift: UInt8(truncatingIfNeeded: shift),
            pcid: isGlobal ? Self.anyPCID : pcid)
        let page = pageEnds[place] ?? 0
        if isGlobal { return max(page, flushedGlobal) }
        return max(page, flushedAll, contexts[pcid]?.flushed ?? 0)
    }

    /// When an entry of a paging-structure cache that was read before `moment` was ended next:
    /// the first operation at or after it that covered the entry; `.max`: none did.
    func structureEnd(
        after moment: Moment, _ address: UInt64, shift: UInt64, _ pcid: UInt16
    ) -> Moment {
        let place = Place(
            number: address >> shift, shift: UInt8(truncatingIfNeeded: shift), pcid: pcid)
        return min(
            Self.first(contexts[pcid]?.structureEnds ?? [], atOrAfter: moment),
            Self.first(structureEndsAll, atOrAfter: moment),
            Self.first(structureEndsAt[place] ?? [], atOrAfter: moment))
    }

    /// The last operation before `moment` that ended the paging-structure caches' entries for an
    /// address: nothing read before it can have led to a leaf that was read at `moment`.
    func structureStart(before moment: Moment, _ pcid: UInt16) -> Moment {
        max(
            Self.last(contexts[pcid]?.structureEnds ?? [], atOrBefore: moment),
            Self.last(structureEndsAll, atOrBefore: moment))
    }

    private static func first(_ list: [Moment], atOrAfter moment: Moment) -> Moment {
        let index = partition(list, moment)
        return index < list.count ? list[index] : .max
    }

    private static func last(_ list: [Moment], atOrBefore moment: Moment) -> Moment {
        let index = partition(list, moment == .max ? .max : moment + 1)
        return index > 0 ? list[index - 1] : 0
    }

    /// The index of the first element that is not less than `moment`; the list is sorted.
    private static func partition(_ list: [Moment], _ moment: Moment) -> Int {
        var low = 0
        var high = list.count
        while low < high {
            let middle = (low + high) / 2
            if list[middle] < moment { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
