/// Which rule an unlawful translation breaks: the smallest set of rules without which there would
/// be an explanation.
struct Diagnosis {
    let rule: LawfulnessRule
    /// What would explain the translation if the rule did not hold; nil: nothing.
    let explanation: Explanation?
    /// The operation that should have ended it.
    private(set) var endedBy: Moment?

    /// What is overlooked, in order, and the rule that is broken if that helps.
    private static let attempts: [(Relaxation, LawfulnessRule)] = {
        let single: [(Relaxation, LawfulnessRule)] = [
            (.leaf, .staleLeaf), (.structures, .staleStructure), (.order, .staleChild),
            ([.leaf, .structures], .staleLeaf), (.accessed, .notAccessed), (.dirty, .neverDirty),
            (.rights, .moreRights), (.global, .neverGlobal), (.size, .largerPage),
            ([.dirty, .rights], .moreRights), (.invalid, .invalidEntry),
        ]
        let stale: Relaxation = [.leaf, .structures]
        let staleToo = single.dropFirst(4).map { ($0.0.union(stale), $0.1) }
        let elsewhere: [(Relaxation, LawfulnessRule)] = [
            (.root, .wrongRoot), ([.root, .dirty, .rights, .global, .accessed], .wrongRoot),
        ]
        return single + staleToo + elsewhere
    }()

    init(_ taken: Taken, _ tables: TableHistory, _ history: ProcessorHistory) {
        for (relaxed, rule) in Self.attempts {
            var search = Search(taken, tables, history, overlooking: relaxed)
            guard let found = search.run() else { continue }
            self.rule = rule
            explanation = found
            switch rule {
            case .staleLeaf: endedBy = Self.leafEnd(found, taken, history)
            case .staleStructure: endedBy = Self.structureEnd(found, taken, history)
            default: endedBy = nil
            }
            return
        }
        rule = .neverHeld
        explanation = nil
    }

    /// The operation that ended the leaf.
    private static func leafEnd(
        _ found: Explanation, _ taken: Taken, _ history: ProcessorHistory
    ) -> Moment? {
        guard let leaf = found.entries.last else { return nil }
        let start = history.leafStart(
            taken.address, shift: leaf.shift, found.pcid, isGlobal: taken.isGlobal)
        return start == 0 ? nil : start
    }

    /// The first operation that ended an entry above the leaf before the next one was read.
    private static func structureEnd(
        _ found: Explanation, _ taken: Taken, _ history: ProcessorHistory
    ) -> Moment? {
        for entry in found.entries.dropLast() where entry.read.to != .max {
            let end = history.structureEnd(
                after: entry.read.to, taken.address, shift: entry.shift, found.pcid)
            if end != .max { return end }
        }
        return nil
    }
}
