import Foundation
import Hypervisor

/// A comparison as a whole: what its JSON holds, and what tables and reports are made from.
///
/// Docs/Comparison.md documents the form. `version` grows whenever a key changes its meaning or
/// goes away; keys may be added.
public struct ComparisonDocument: Equatable, Sendable, Codable {
    public static let formatVersion = 1

    /// A file that the guest is made from.
    public struct File: Equatable, Sendable, Codable {
        /// `kernel`, `initrd` or `saved-machine`.
        public var role: String
        public var path: String
        public var sha256: String

        public init(role: String, path: String, sha256: String) {
            self.role = role
            self.path = path
            self.sha256 = sha256
        }
    }

    /// Two runs of one workload that did not do the same.
    public struct Disagreement: Equatable, Sendable, Codable {
        public var workload: String
        /// The technique that the others are compared with.
        public var reference: String
        public var technique: String
        public var referenceDigest: String
        public var digest: String
    }

    public var format = "penumbra-comparison"
    public var version = formatVersion
    /// The program's name and version.
    public var program: String
    /// SHA-256 of the program's own file.
    public var build: String
    /// The options that say what the guest is, as the user gave them.
    public var guest: [String]
    /// The region at whose beginning every run started, from a saved machine; nil: they booted.
    public var fromRegion: UInt16?
    public var files: [File]
    public var profile: Profile
    /// In a sweep over profiles, all of them: `profile` is the first, and cells name theirs.
    public var profiles: [Profile]?
    public var workloads: [String]
    public var techniques: [String]
    /// Workload by workload, in each technique by technique, in the user's order.
    public var cells: [Cell]
    public var disagreements: [Disagreement] = []

    /// Prices every finished cell, and compares digests and prices.
    mutating func conclude() {
        for index in cells.indices where cells[index].status == .done {
            guard
                let technique = try? Technique(
                    parsing: cells[index].facts?["technique"] ?? cells[index].technique)
            else { continue }
            cells[index].price = Price(
                cells[index].countsByName, technique: technique,
                profile: profile(of: cells[index]))
        }
        disagreements = []
        for workload in workloads {
            let indices = cells.indices.filter {
                cells[$0].workload == workload && cells[$0].status == .done
            }
            let baselines = indices.filter { cells[$0].isBaseline }
            for index in indices {
                let baseline = baselines.first {
                    cells[$0].point?.profile == cells[index].point?.profile
                }
                guard let base = baseline.flatMap({ cells[$0].price?.cycles }), base > 0 else {
                    continue
                }
                cells[index].slowdown = cells[index].price.map { Double($0.cycles) / Double(base) }
            }
            let baseline = baselines.first
            guard let reference = baseline ?? indices.first else { continue }
            for index in indices where cells[index].evidence != cells[reference].evidence {
                disagreements.append(
                    Disagreement(
                        workload: workload, reference: cells[reference].technique,
                        technique: cells[index].technique,
                        referenceDigest: cells[reference].evidence,
                        digest: cells[index].evidence))
            }
        }
    }

    /// The profile that prices a cell.
    func profile(of cell: Cell) -> Profile {
        profiles?.first { $0.name == cell.point?.profile } ?? profile
    }

    /// The JSON form.
    public func json() throws -> String { try Data.json(self) }
}

extension Cell {
    /// Whether slow-downs are relative to this cell.
    fileprivate var isBaseline: Bool {
        (point?.parameters[SweepParameter.technique.rawValue] ?? technique) == "bare"
    }

    /// What every technique must agree on.
    fileprivate var evidence: String { "\(digest ?? "no digest"); \(outcome ?? "no outcome")" }
}
