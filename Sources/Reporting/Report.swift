/// What one run of a machine did, ready to be shown: facts about the run, and counts in sections.
///
/// A report knows nothing of where its counts come from: `Report.init(ledger:facts:)` fills it, and
/// `table()` and `json()` render it. Keys are stable names for programs (`page-fault`); titles
/// are for people (`page fault`).
public struct Report: Equatable, Sendable {
    /// The version of the JSON form; it grows whenever a key changes its meaning or goes away.
    public static let formatVersion = 1

    /// A fact about the run that is no count: its technique, its outcome.
    public struct Fact: Equatable, Sendable {
        public var key: String
        public var value: String

        public init(_ key: String, _ value: String) {
            self.key = key
            self.value = value
        }
    }

    /// One exact count.
    public struct Row: Equatable, Sendable {
        public var key: String
        public var title: String
        public var count: UInt64

        /// A row whose title is its key with spaces for hyphens, unless one is given.
        public init(_ key: String, _ count: UInt64, title: String? = nil) {
            self.key = key
            self.title = title ?? String(key.map { $0 == "-" ? " " : $0 })
            self.count = count
        }
    }

    /// Counts that belong together.
    public struct Section: Equatable, Sendable {
        public var key: String
        public var title: String
        public var rows: [Row]
        /// Whether the rows are the parts of one whole, so that their sum and shares mean something.
        public var isBreakdown: Bool

        public init(_ key: String, _ title: String, isBreakdown: Bool, rows: [Row]) {
            self.key = key
            self.title = title
            self.isBreakdown = isBreakdown
            self.rows = rows
        }

        /// The sum of all rows; at `UInt64.max` it stays there.
        public var total: UInt64 {
            rows.reduce(0) { sum, row in
                let (next, overflow) = sum.addingReportingOverflow(row.count)
                return overflow ? .max : next
            }
        }
    }

    /// The run as it went on: one point every so many instructions.
    public struct Series: Equatable, Sendable, Codable {
        /// Instructions between two points.
        public var interval: UInt64
        /// The names of a point's numbers.
        public var columns: [String]
        public var points: [[UInt64]]

        public init(interval: UInt64, columns: [String], points: [[UInt64]]) {
            self.interval = interval
            self.columns = columns
            self.points = points
        }
    }

    public var facts: [Fact]
    public var sections: [Section]
    /// The parts of the run, which sum up to the sections; empty where they are not told apart.
    public var regions: [Region] = []
    /// The run as it went on; only the JSON form shows it.
    public var series: Series?

    public init(facts: [Fact], sections: [Section]) {
        self.facts = facts
        self.sections = sections
    }
}
