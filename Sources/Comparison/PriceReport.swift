import Foundation
import Hypervisor
import Reporting

/// A ledger priced by a profile, the whole run and each of its regions: what `penumbra price` shows.
public struct PriceReport: Equatable, Sendable {
    /// The whole run, or one of its regions.
    public struct Part: Equatable, Sendable, Codable {
        /// `run`, or the region's number or name.
        public var name: String
        public var price: Price
    }

    public var profile: Profile
    /// The technique of the run, as the ledger has it.
    public var technique: String
    /// The whole run, and then its regions where the ledger tells them.
    public var parts: [Part]

    /// - Throws: `InputError` where the ledger does not say its technique, or names none.
    public init(
        _ ledger: LedgerDocument, file: String, profile: Profile
    ) throws(InputError) {
        let technique = try ledger.technique(file: file)
        self.profile = profile
        self.technique = ledger.facts["technique"] ?? ""
        parts = [
            Part(name: "run", price: Price(ledger.counts, technique: technique, profile: profile))
        ]
        for region in ledger.regions {
            parts.append(
                Part(
                    name: "region \(region.key)",
                    price: Price(region.counts, technique: technique, profile: profile)))
        }
    }

    /// For a terminal: of each part each item that happened, as count × figure = cycles and share,
    /// within 100 columns.
    public func table() -> String {
        var text = "priced by \(profile.name): \(technique)\n"
        for part in parts {
            text += Self.row(part.name, "count", "cycles each", "cycles", "   share")
            let price = part.price
            for item in price.items where item.count > 0 {
                text += Self.row(
                    "  " + item.figure, Report.grouped(item.count), Self.decimal(item.each),
                    Report.grouped(item.cycles), Report.share(of: item.cycles, in: price.cycles))
            }
            text += Self.row("  all", "", "", Report.grouped(price.cycles), "")
        }
        return text
    }

    private static func row(
        _ name: String, _ count: String, _ each: String, _ cycles: String, _ share: String
    ) -> String {
        let line =
            name.padded(to: 26) + count.padded(to: -20) + each.padded(to: -14)
            + cycles.padded(to: -22) + share
        return line.trimmedAtEnd + "\n"
    }

    /// `2.5`, `784`, `22.74`: at most two decimals.
    static func decimal(_ value: Double) -> String {
        let hundredths = (value * 100).rounded()
        guard let number = Int64(exactly: hundredths), number >= 0 else { return String(value) }
        let (whole, rest) = number.quotientAndRemainder(dividingBy: 100)
        if rest == 0 { return String(whole) }
        return rest % 10 == 0
            ? "\(whole).\(rest / 10)" : "\(whole)." + (rest < 10 ? "0" : "") + "\(rest)"
    }

    /// The JSON form; Docs/Comparison.md has the keys.
    public func json() throws -> String {
        struct Document: Encodable {
            struct Unpriced: Encodable {
                var count: String
                var reason: String
            }
            var format = "penumbra-price"
            var version = 1
            var profile: Profile
            var technique: String
            var parts: [Part]
            var unpriced: [Unpriced]
        }
        return try Data.json(
            Document(
                profile: profile, technique: technique, parts: parts,
                unpriced: Unpriced.all.map {
                    Document.Unpriced(count: $0.count.description, reason: $0.reason)
                }))
    }
}

extension LedgerDocument {
    /// The technique that the run was made with.
    func technique(file: String) throws(InputError) -> Technique {
        guard let text = facts["technique"] else {
            throw InputError(
                file: file, line: nil, "does not say its technique; give the whole ledger")
        }
        do throws(TechniqueError) { return try Technique(parsing: text) } catch {
            throw InputError(file: file, line: nil, "\(error)")
        }
    }
}

extension String {
    /// The text filled with spaces to a width: behind it, or before it where the width is negative.
    func padded(to width: Int) -> String {
        let space = String(repeating: " ", count: max(0, abs(width) - count))
        return width < 0 ? space + self : self + space
    }

    /// Without the spaces at its end.
    var trimmedAtEnd: String {
        String(self[..<(lastIndex { $0 != " " }.map { index(after: $0) } ?? startIndex)])
    }
}

extension Data {
    /// A value as JSON: keys sorted, indented, a newline at the end; equal values give equal texts.
    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
    }
}
