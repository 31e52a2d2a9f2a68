import Reporting

/// One workload under one technique: what was measured, and its price.
///
/// Part of the comparison's JSON; Docs/Comparison.md says what each key means.
public struct Cell: Equatable, Sendable, Codable {
    public enum Status: String, Sendable, Codable {
        /// The guest ended as it should.
        case done
        /// It did not: `problem` says what happened.
        case failed
        /// It has not been run, since the comparison was interrupted.
        case missing
    }

    public var workload: String
    /// The technique as the user gave it.
    public var technique: String
    /// In a sweep, what makes this cell another than the others.
    public var point: Point?
    public var status: Status
    public var problem: String?
    /// SHA-256 of all that decides what the run does.
    public var identity: String
    /// How the guest ended.
    public var outcome: String?
    /// The fingerprint of console, retired instructions, registers and memory at the end.
    public var digest: String?
    /// Real seconds of the run.
    public var seconds: Double?
    /// What the ledger says of the run's configuration.
    public var facts: [String: String]?
    /// The regions whose counts these are; empty: the whole run's.
    public var regions: [String]?
    /// The ledger of the regions of interest, by section and row.
    public var counts: [String: [String: UInt64]]?
    public var summary: Summary?
    public var price: Price?
    /// The price divided by that of `bare` for the same workload.
    public var slowdown: Double?
    /// Where exits come from, in the regions of interest, with most exits first.
    public var places: [LedgerDocument.Places]?
    /// How the run went on over its instructions.
    public var series: Report.Series?

    /// How many places of a kind are kept; the ledger, in the folder of results, has more.
    static let mostPlaces = 20

    public init(workload: String, technique: String, identity: String, status: Status) {
        self.workload = workload
        self.technique = technique
        self.identity = identity
        self.status = status
    }
}

extension Cell {
    /// A point of a sweep: what in a comparison is the same for all cells.
    public struct Point: Equatable, Sendable, Codable {
        /// The parameters by name, as the sweep's file has them.
        public var parameters: [String: String]
        /// The guest's options, and those of the run.
        public var guest: [String]
        public var files: [ComparisonDocument.File]
        /// The name of the price profile.
        public var profile: String
    }
}

/// The counts that a comparison is mostly read for, each a sum of the ledger's.
public struct Summary: Equatable, Sendable, Codable {
    public var instructions: UInt64
    /// Exits that have a price: not the engine's own.
    public var exits: UInt64
    /// Writes to page tables that the hypervisor learned of, by an exit or by a record of their own
    /// or another's.
    public var writesNoticed: UInt64
    public var records: UInt64
    public var coalesced: UInt64
    public var drains: UInt64
    public var hiddenFaults: UInt64
    public var trueFaults: UInt64
    public var spuriousFaults: UInt64
    public var walkReferences: UInt64
    public var tlbMisses: UInt64
    /// The most shadow pages at one time, and their memory.
    public var shadowPages: UInt64
    public var shadowBytes: UInt64

    init(_ counts: LedgerDocument.Counts) {
        func sum(_ names: [CountName]) -> UInt64 {
            names.reduce(0) { $0.addingSaturated(counts[$1] ?? 0) }
        }
        func count(_ section: String, _ row: String) -> UInt64 {
            counts[CountName(section, row)] ?? 0
        }
        instructions = count("execution", "instructions")
        exits = sum(Figure.exit.counts)
        records = count("traced-writes", "recorded")
        coalesced = count("traced-writes", "coalesced")
        writesNoticed = count("exits", "table-write")
            .addingSaturated(records).addingSaturated(coalesced)
        drains = sum(Figure.drain.counts)
        hiddenFaults = count("page-faults", "hidden")
        trueFaults = count("page-faults", "true")
        spuriousFaults = count("page-faults", "spurious")
        walkReferences = count("execution", "walk-references")
        tlbMisses = count("execution", "tlb-misses")
        shadowPages = count("shadow-pages", "peak")
        shadowBytes = shadowPages.multipliedReportingOverflow(by: 4096).partialValue
    }
}

extension Cell {
    /// Takes over what a finished run measured.
    mutating func take(_ ledger: LedgerDocument) {
        let interest = ledger.countsOfInterest
        facts = ledger.facts
        outcome = ledger.facts["outcome"]
        digest = ledger.facts["digest"]
        regions = ledger.marked.map(\.key)
        counts = interest.reduce(into: [:]) { sections, count in
            sections[count.key.section, default: [:]][count.key.row] = count.value
        }
        summary = Summary(interest)
        let places = ledger.marked.flatMap(\.places).map { $0.cut(to: Self.mostPlaces) }
        self.places = places.isEmpty ? nil : places
        series = ledger.series
    }

    /// The counts by name, empty where the run has not finished.
    var countsByName: LedgerDocument.Counts {
        var result: LedgerDocument.Counts = [:]
        for (section, rows) in counts ?? [:] {
            for (row, count) in rows { result[CountName(section, row)] = count }
        }
        return result
    }
}
