import Reporting

/// A ledger as `penumbra run --ledger` writes it, read back.
public struct LedgerDocument: Equatable, Sendable {
    /// Exact counts by name; what is not there is 0.
    public typealias Counts = [CountName: UInt64]

    /// The counts of one region of the run.
    public struct Region: Equatable, Sendable {
        /// Its number, or `outside` or `others`.
        public var key: String
        public var begun: UInt64
        public var counts: Counts
        /// Where its exits come from, by kind of place.
        public var places: [Places]

        public init(key: String, begun: UInt64, counts: Counts, places: [Places]) {
            self.key = key
            self.begun = begun
            self.counts = counts
            self.places = places
        }
    }

    /// Exits by one kind of place: `exits-by-function`, `exits-by-code`, `exits-by-process`.
    public struct Places: Equatable, Sendable, Codable {
        public var kind: String
        public var top: [Place]
        public var others: UInt64

        /// The places with most exits, and the rest among the others.
        func cut(to most: Int) -> Places {
            let rest = top.dropFirst(most).reduce(others) { $0.addingSaturated($1.count) }
            return Places(kind: kind, top: Array(top.prefix(most)), others: rest)
        }
    }

    /// Exits from one place.
    public struct Place: Equatable, Sendable, Codable {
        public var place: String
        public var symbol: String?
        public var count: UInt64
        public var reasons: [String: UInt64]
    }

    public var facts: [String: String]
    public var counts: Counts
    /// The parts of the run, empty where the ledger does not tell them.
    public var regions: [Region]
    public var series: Report.Series?

    public init(
        facts: [String: String], counts: Counts, regions: [Region] = [],
        series: Report.Series? = nil
    ) {
        self.facts = facts
        self.counts = counts
        self.regions = regions
        self.series = series
    }

    /// The regions that the guest marked as of interest.
    public var marked: [Region] { regions.filter { $0.key != "outside" } }

    /// The counts of what is of interest: of all marked regions together; where there are none, of
    /// the whole run.
    public var countsOfInterest: Counts {
        guard !marked.isEmpty else { return counts }
        return marked.reduce(into: [:]) { sum, region in
            for (name, count) in region.counts {
                sum[name] =
                    Self.states.contains(name)
                    ? max(sum[name] ?? 0, count) : (sum[name] ?? 0) &+ count
            }
        }
    }

    /// What has no meaning as a sum: amounts, of which the largest is taken.
    private static let states: Set = [
        CountName("shadow-pages", "live"), CountName("shadow-pages", "peak"),
    ]
}
