import Hypervisor

/// What the counts of a run cost by a profile.
///
/// Each item is a sum of counts times a figure, rounded to whole cycles (ties away from zero), and
/// the total is the sum of the items as they are shown. What would not fit in 64 bits stays at the
/// most.
public struct Price: Equatable, Sendable, Codable {
    /// One figure's part.
    public struct Item: Equatable, Sendable, Codable {
        public var figure: String
        public var group: String
        /// How often it happened.
        public var count: UInt64
        /// Cycles each.
        public var each: Double
        public var cycles: UInt64
    }

    public var items: [Item]
    /// All items together.
    public var cycles: UInt64

    /// Prices counts.
    /// - Parameter technique: what the run was made with: some figures mean something only there.
    public init(_ counts: LedgerDocument.Counts, technique: Technique, profile: Profile) {
        items = Figure.allCases.filter { $0.applies(to: technique) }.map { figure in
            let count = figure.counts.reduce(UInt64(0)) { sum, name in
                sum.addingSaturated(counts[name] ?? 0)
            }
            let each = profile.cycles(figure)
            let cycles = (Double(count) * each).rounded()
            return Item(
                figure: figure.rawValue, group: figure.group.rawValue, count: count, each: each,
                cycles: UInt64(exactly: cycles) ?? .max)
        }
        cycles = items.reduce(0) { $0.addingSaturated($1.cycles) }
    }

    /// The cycles of each group, in the order of the groups.
    public var groups: [(group: Figure.Group, cycles: UInt64)] {
        Figure.Group.allCases.map { group in
            let items = items.filter { $0.group == group.rawValue }
            return (group, items.reduce(0) { $0.addingSaturated($1.cycles) })
        }
    }
}

extension UInt64 {
    /// The sum, or the most where it does not fit.
    func addingSaturated(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
