import Hypervisor
import Reporting

/// The name of one of the ledger's counts, as its JSON has it: a section's key and a row's.
public struct CountName: Hashable, Sendable, CustomStringConvertible {
    public var section: String
    public var row: String

    public init(_ section: String, _ row: String) {
        self.section = section
        self.row = row
    }

    public var description: String { "\(section)/\(row)" }

    /// Every count that a ledger of this version has, in the order of the ledger.
    public static let all: [CountName] = Report(ledger: Ledger(), facts: []).sections
        .flatMap { section in section.rows.map { CountName(section.key, $0.key) } }

    /// All counts of a breakdown.
    static func each<Key: TallyKey>(_ section: String, _ keys: Key.Type) -> [CountName] {
        Key.allCases.map { CountName(section, $0.rawValue) }
    }
}
