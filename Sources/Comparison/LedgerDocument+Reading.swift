import Foundation
import Reporting

extension LedgerDocument {
    /// Reads a ledger's file. One of another version, or with a key that no ledger of this version
    /// has, or without a count that all have, is refused.
    public static func read(_ path: String) throws(InputError) -> LedgerDocument {
        try LedgerDocument(InputNode.read(path, "a ledger"))
    }

    /// Parses a ledger's text.
    public static func parse(_ text: String, file: String) throws(InputError) -> LedgerDocument {
        try LedgerDocument(InputNode.parse(text, file: file, "a ledger"))
    }

    private init(_ root: InputNode) throws(InputError) {
        let members = try root.members(
            "a ledger", allowed: ["facts", "ledger", "regions", "series", "version"])
        guard let version = members["version"], let facts = members["facts"],
            let ledger = members["ledger"]
        else {
            throw root.error(
                "is no ledger; give what 'penumbra run --ledger' writes: version, facts, ledger")
        }
        guard try version.count("version") == UInt64(Report.formatVersion) else {
            throw version.error(
                "is a ledger of another version; this program reads version "
                    + "\(Report.formatVersion)")
        }
        var texts: [String: String] = [:]
        for (key, value) in try facts.members("facts") { texts[key] = try value.anyText(key) }
        self.facts = texts
        counts = try Self.counts(ledger)
        regions = []
        if let node = members["regions"] {
            for (key, value) in try node.members("regions") {
                regions.append(try Self.region(key, value))
            }
        }
        series = try members["series"].map { node throws(InputError) in try Self.series(node) }
    }

    private static func counts(_ node: InputNode) throws(InputError) -> Counts {
        var counts: Counts = [:]
        let sections = Dictionary(grouping: CountName.all, by: \.section)
        let members = try node.members("ledger", allowed: Self.sections)
        for section in Self.sections {
            guard let names = sections[section], let member = members[section] else {
                throw node.error("the ledger misses '\(section)'; give the whole ledger")
            }
            let rows = try member.members(section, allowed: names.map(\.row))
            for name in names {
                guard let row = rows[name.row] else {
                    throw member.error("the ledger misses '\(name)'; give the whole ledger")
                }
                counts[name] = try row.count(name.description)
            }
        }
        return counts
    }

    /// The sections in the ledger's order.
    private static let sections = CountName.all.reduce(into: [String]()) { sections, name in
        if sections.last != name.section { sections.append(name.section) }
    }

    private static func region(_ key: String, _ node: InputNode) throws(InputError) -> Region {
        let kinds = ["exits-by-code", "exits-by-function", "exits-by-process"]
        let members = try node.members("region \(key)", allowed: ["begun", "ledger"] + kinds)
        guard let begun = members["begun"], let ledger = members["ledger"] else {
            throw node.error("region \(key) misses a part; give begun and ledger")
        }
        var region = Region(
            key: key, begun: try begun.count("begun"), counts: try counts(ledger), places: [])
        for kind in kinds {
            guard let node = members[kind] else { continue }
            region.places.append(try places(kind, node))
        }
        return region
    }

    private static func places(_ kind: String, _ node: InputNode) throws(InputError) -> Places {
        let members = try node.members(kind, allowed: ["others", "top"])
        guard let others = members["others"], let top = members["top"] else {
            throw node.error("\(kind) misses a part; give others and top")
        }
        var places = Places(kind: kind, top: [], others: try others.count("others"))
        for element in try top.elements("top") {
            let parts = try element.members(
                "a place", allowed: ["count", "place", "reasons", "symbol"])
            guard let count = parts["count"], let name = parts["place"],
                let reasons = parts["reasons"]
            else { throw element.error("a place misses a part; give count, place, reasons") }
            var byReason: [String: UInt64] = [:]
            for (reason, value) in try reasons.members("reasons") {
                byReason[reason] = try value.count(reason)
            }
            places.top.append(
                Place(
                    place: try name.text("place"),
                    symbol: try parts["symbol"].map { node throws(InputError) in
                        try node.text("symbol")
                    },
                    count: try count.count("count"), reasons: byReason))
        }
        return places
    }

    private static func series(_ node: InputNode) throws(InputError) -> Report.Series {
        let members = try node.members("series", allowed: ["columns", "interval", "points"])
        guard let columns = members["columns"], let interval = members["interval"],
            let points = members["points"]
        else { throw node.error("series misses a part; give columns, interval, points") }
        var series = Report.Series(
            interval: try interval.count("interval"), columns: [], points: [])
        for column in try columns.elements("columns") {
            series.columns.append(try column.text("a column"))
        }
        for point in try points.elements("points") {
            var numbers: [UInt64] = []
            for number in try point.elements("a point") {
                numbers.append(try number.count("a point's number"))
            }
            guard numbers.count == series.columns.count else {
                throw point.error(
                    "a point has \(numbers.count) numbers; give \(series.columns.count)")
            }
            series.points.append(numbers)
        }
        return series
    }
}
