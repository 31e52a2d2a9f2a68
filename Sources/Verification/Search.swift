/// What a processor took, in guest-physical terms: the translation that has to be explained.
struct Taken: Equatable {
    var address: UInt64
    /// The guest-physical address that the 4 KiB page of `address` is translated to.
    var frame: UInt64
    /// log2 of the size of the page.
    var shift: UInt64
    var isWritable: Bool
    var isUser: Bool
    var isExecuteDisabled: Bool
    /// D, or a write was made through it.
    var isDirty: Bool
    var isGlobal: Bool
    /// The leaf's protection key.
    var key: UInt8 = 0
}

/// Rules that a search can be told to overlook, to find which one a violation is of.
struct Relaxation: OptionSet {
    var rawValue: UInt16
    /// Leaves may have been read before the last operation that covers them.
    static let leaf = Relaxation(rawValue: 1)
    /// Entries that name tables may.
    static let structures = Relaxation(rawValue: 2)
    /// A may be clear.
    static let accessed = Relaxation(rawValue: 4)
    /// D may be clear in the entry.
    static let dirty = Relaxation(rawValue: 8)
    /// R/W, U/S, XD and the protection key may differ.
    static let rights = Relaxation(rawValue: 16)
    /// G may be clear in the entry.
    static let global = Relaxation(rawValue: 32)
    /// The entry's page may be smaller.
    static let size = Relaxation(rawValue: 64)
    /// Any root that the processor has ever had, in any PCID.
    static let root = Relaxation(rawValue: 128)
    /// P may be clear, and reserved bits set.
    static let invalid = Relaxation(rawValue: 256)
    /// An entry may have been read before anything led to its table.
    static let order = Relaxation(rawValue: 512)
}

/// One entry of an explanation: the value that a walk would have read, and in which spans it could.
struct ExplainedEntry {
    var level: Int
    var shift: UInt64
    /// Guest-physical.
    var address: UInt64
    var held: TableHistory.Held
    var read: Span
}

/// The values that would give a translation together, from the top down.
struct Explanation {
    var entries: [ExplainedEntry]
    var pcid: UInt16
}

/// Looks for moments at which walks of a processor could have produced a translation
/// (SDM Vol. 3A §4.10.2, §4.10.3).
///
/// *Approach.* From each root that the processor has had, level by level, with the set of moments at
/// which a table could be read: the root's table while the root was loaded; an entry's value in the
/// moments in which it held, the table could be read, and the PCID was the present one; the table
/// that the value names from then on until an operation ended the entry in the paging-structure
/// caches. A leaf explains the translation if it could be read since the last operation that
/// covers the leaf. So a parent may be older than its leaf, and a leaf's parents may have been
/// ended after it was read: exactly the mixtures that the architecture allows.
struct Search {
    private let tables: TableHistory
    private let history: ProcessorHistory
    private let taken: Taken
    private let relaxed: Relaxation
    /// How many spans may be looked at: a hostile history must not take for ever.
    private var budget = 4_000_000
    private var path: [ExplainedEntry] = []
    /// When the PCID that is looked at was the present one, by mode.
    private var active: [(mode: PagingMode, spans: [Span])] = []
    private var pcid: UInt16 = 0
    /// Only global leaves count: they were filled under another PCID, or long ago.
    private var onlyGlobal = false
    /// Whether something was met that is not known (any more): that there is no explanation proves
    /// nothing.
    private(set) var metUnknown = false

    init(
        _ taken: Taken, _ tables: TableHistory, _ history: ProcessorHistory,
        overlooking relaxed: Relaxation = []
    ) {
        self.taken = taken
        self.tables = tables
        self.history = history
        self.relaxed = relaxed
    }

    private struct Rights {
        var isWritable = true
        var isUser = true
        var isExecuteDisabled = false
    }

    /// Where walks for the address began.
    private struct Start: Hashable {
        var table: UInt64
        var form: PagingForm
    }

    /// An explanation, if there is one.
    mutating func run() -> Explanation? {
        if !taken.isGlobal || relaxed.contains(.global), let found = search(history.pcid) {
            return found
        }
        onlyGlobal = true
        for pcid in history.contexts.keys.sorted() {
            if let found = search(pcid) { return found }
        }
        guard relaxed.contains(.root) else { return nil }
        onlyGlobal = false
        for pcid in history.contexts.keys.sorted() {
            if let found = search(pcid) { return found }
        }
        return nil
    }

    private mutating func search(_ pcid: UInt16) -> Explanation? {
        guard let context = history.contexts[pcid] else { return nil }
        self.pcid = pcid
        let leaf = earliestLeaf
        let dropped = onlyGlobal && !tables.forgotGlobal ? 0 : tables.forgottenBefore
        if leaf < dropped { metUnknown = true }
        let earliest =
            relaxed.isDisjoint(with: [.structures, .root])
            ? history.structureStart(before: leaf, pcid) : 0
        if earliest < dropped { metUnknown = true }
        active = []
        var roots: [Start: [Span]] = [:]
        for period in context.periods where period.span.to > earliest {
            if let table = period.root.table(taken.address, period.mode) {
                let start = Start(table: table, form: period.mode.form)
                roots[start, default: []].append(period.span)
            }
            if let index = active.firstIndex(where: { $0.mode == period.mode }) {
                let last = active[index].spans.count - 1
                if active[index].spans[last].to == period.span.from {
                    active[index].spans[last].to = period.span.to
                } else {
                    active[index].spans.append(period.span)
                }
            } else {
                active.append((period.mode, [period.span]))
            }
        }
        // The latest first.
        let ordered = roots.sorted { ($0.value.last?.from ?? 0) > ($1.value.last?.from ?? 0) }
        for (start, spans) in ordered {
            path = []
            let form = start.form
            if descend(form, form.topLevel, start.table, Self.merged(spans), Rights()) {
                return Explanation(entries: path, pcid: pcid)
            }
        }
        return nil
    }

    /// A bound from below on when a leaf may have been read, whatever its size.
    private var earliestLeaf: Moment {
        relaxed.isDisjoint(with: [.leaf, .root])
            ? history.leafStart(taken.address, shift: 63, pcid, isGlobal: onlyGlobal) : 0
    }

    private mutating func descend(
        _ form: PagingForm, _ level: Int, _ table: UInt64, _ available: [Span], _ rights: Rights
    ) -> Bool {
        let place = table &+ form.index(taken.address, level) &* form.entryBytes
        guard tables.isRAM(place >> 12) else { return false }
        guard let watched = tables.table(place >> 12) else {
            metUnknown = true
            return false
        }
        if let unknown = watched.unknown, available.contains(where: { $0.clipped(unknown) != nil })
        {
            metUnknown = true
        }
        let values = tables.values(place, form.entryBytes)
        for (mode, spans) in active where mode.form == form {
            let readable =
                relaxed.contains(.order) ? spans : intersection(available, spans)
            for held in values.reversed() {
                let entry = Entry(raw: held.value, level: level, mode: mode)
                guard isUsable(entry) else { continue }
                let reads = intersection(readable, [held.span])
                guard let last = reads.last else { continue }
                var rights = rights
                rights.isWritable = rights.isWritable && entry.isWritable
                rights.isUser = rights.isUser && entry.isUser
                rights.isExecuteDisabled = rights.isExecuteDisabled || entry.isExecuteDisabled
                let step = ExplainedEntry(
                    level: level, shift: form.shift(level), address: place, held: held, read: last)
                if entry.isLeaf {
                    guard explains(entry, rights, reads) else { continue }
                    path.append(step)
                    return true
                }
                path.append(step)
                let reachable = reads.map { extended($0, form.shift(level)) }
                if level > 1,
                    descend(form, level - 1, entry.address, Self.merged(reachable), rights)
                {
                    return true
                }
                path.removeLast()
            }
        }
        return false
    }

    private func isUsable(_ entry: Entry) -> Bool {
        if relaxed.contains(.invalid) { return true }
        return entry.isPresent && !entry.hasReservedBits
            && (entry.isAccessed || relaxed.contains(.accessed))
    }

    /// The moments at which a value that was read in a span may lead on: until it is ended.
    private func extended(_ read: Span, _ shift: UInt64) -> Span {
        if !relaxed.isDisjoint(with: [.structures, .root]) {
            return Span(from: read.from, to: .max)
        }
        return Span(
            from: read.from,
            to: max(
                read.to,
                history.structureEnd(after: read.to, taken.address, shift: shift, pcid)))
    }

    /// Whether a leaf, read at one of the moments, grants at least what was taken.
    private func explains(_ entry: Entry, _ rights: Rights, _ reads: [Span]) -> Bool {
        let shift = entry.mode.form.shift(entry.level)
        if onlyGlobal && !entry.isGlobal { return false }
        let offset = taken.address & ((1 << shift) &- 1) & ~0xfff
        guard entry.address | offset == taken.frame else { return false }
        guard shift >= taken.shift || relaxed.contains(.size) else { return false }
        if !relaxed.contains(.rights) {
            // U/S must be equal: a supervisor page has rights that a user page lacks (SMEP, SMAP).
            guard !taken.isWritable || rights.isWritable, taken.isUser == rights.isUser,
                taken.isExecuteDisabled || !rights.isExecuteDisabled, taken.key == entry.key
            else { return false }
        }
        if taken.isDirty && !entry.isDirty && !relaxed.contains(.dirty) { return false }
        if taken.isGlobal && !entry.isGlobal && !relaxed.contains(.global) { return false }
        if !relaxed.isDisjoint(with: [.leaf, .root]) { return true }
        let start = history.leafStart(
            taken.address, shift: shift, pcid, isGlobal: entry.isGlobal)
        return reads.contains { $0.to > start }
    }

    // MARK: Sets of moments

    /// What two sorted lists of spans have in common.
    private mutating func intersection(_ a: [Span], _ b: [Span]) -> [Span] {
        var result: [Span] = []
        var i = 0
        var j = 0
        while i < a.count && j < b.count {
            budget -= 1
            if budget < 0 {
                metUnknown = true
                return result
            }
            if let common = a[i].clipped(b[j]) { result.append(common) }
            if a[i].to < b[j].to { i += 1 } else { j += 1 }
        }
        return result
    }

    /// The same moments, sorted and without overlap.
    private static func merged(_ spans: [Span]) -> [Span] {
        var result: [Span] = []
        for span in spans.sorted(by: { $0.from < $1.from }) {
            if let last = result.last, span.from <= last.to {
                result[result.count - 1].to = max(last.to, span.to)
            } else {
                result.append(span)
            }
        }
        return result
    }
}
