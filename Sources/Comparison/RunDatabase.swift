import Foundation
import GRDB

/// The SQLite file that collects runs: one row a run and profile, with all that identifies it.
///
/// Each run is written in a transaction of its own as soon as it is finished, so that nothing that
/// happens later can take it away. Docs/Comparison.md has the columns.
public struct RunDatabase: Sendable {
    private let queue: DatabaseQueue
    private let path: String

    /// `user_version` of a file of this form.
    static let schemaVersion = 2
    /// `application_id` of a file of this program's: "Penu".
    static let applicationID = 0x5065_6E75

    /// Opens a file, or makes it.
    /// - Throws: `ComparisonError.badDatabase`, `cannotWrite`.
    public init(_ path: String) throws(ComparisonError) {
        self.path = path
        do {
            var configuration = Configuration()
            // Another comparison may be writing its row.
            configuration.busyMode = .timeout(10)
            queue = try DatabaseQueue(path: path, configuration: configuration)
            let isNew = try queue.read { try $0.tableExists("runs") == false }
            if isNew {
                let isEmpty = try queue.read {
                    try Int.fetchOne($0, sql: "SELECT count(*) FROM sqlite_master") == 0
                }
                guard isEmpty else {
                    throw ComparisonError.badDatabase(path: path, reason: "holds something else")
                }
                try queue.write { try Self.create($0) }
            } else {
                let version = try queue.read {
                    try (
                        Int.fetchOne($0, sql: "PRAGMA application_id"),
                        Int.fetchOne($0, sql: "PRAGMA user_version")
                    )
                }
                guard version == (Self.applicationID, Self.schemaVersion) else {
                    throw ComparisonError.badDatabase(path: path, reason: "is of another version")
                }
            }
        } catch let error as ComparisonError {
            throw error
        } catch let error as DatabaseError where error.resultCode == .SQLITE_NOTADB {
            throw .badDatabase(path: path, reason: "is no SQLite database")
        } catch {
            throw Self.failure(path, error)
        }
    }

    /// Adds a cell's run; one that is there already with the same identity and profile is replaced.
    public func add(_ cell: Cell, of document: ComparisonDocument) throws(ComparisonError) {
        let values = Self.identity(cell, document) + Cell.columns.map { ($0.name, $0.value(cell)) }
        let names = values.map { "\"\($0.0)\"" }.joined(separator: ", ")
        let places = values.map { _ in "?" }.joined(separator: ", ")
        let arguments = StatementArguments(
            values.map { value -> (any DatabaseValueConvertible)? in
                switch value.1 {
                case .text(let text)?: text
                case .count(let count)?: Int64(clamping: count)
                case .number(let number)?: number
                case nil: nil
                }
            })
        do {
            try queue.write { database in
                try database.execute(
                    sql: "INSERT OR REPLACE INTO runs (\(names)) VALUES (\(places))",
                    arguments: arguments)
            }
        } catch { throw Self.failure(path, error) }
    }

    private static func create(_ database: Database) throws {
        let cell = Cell(workload: "", technique: "", identity: "", status: .missing)
        let document = ComparisonDocument(
            program: "", build: "", guest: [], files: [],
            profile: Profile(
                name: "", description: "", gigahertz: 1, figures: [:], digest: ""),
            workloads: [], techniques: [], cells: [])
        let texts = identity(cell, document).map { "\"\($0.0)\" TEXT" }
        let columns = Cell.columns.map { column in
            "\"\(column.name)\" \(types[column.name] ?? "INTEGER")"
        }
        try database.execute(
            sql: "CREATE TABLE runs (\((texts + columns).joined(separator: ", ")), "
                + "PRIMARY KEY (identity, profile_sha256))")
        try database.execute(sql: "PRAGMA application_id = \(applicationID)")
        try database.execute(sql: "PRAGMA user_version = \(schemaVersion)")
    }

    /// The columns of `Cell.columns` that are no whole numbers.
    private static let types = [
        "workload": "TEXT", "technique": "TEXT", "status": "TEXT", "problem": "TEXT",
        "outcome": "TEXT", "digest": "TEXT", "seconds": "REAL", "slowdown": "REAL",
    ]

    /// What tells one run from others.
    private static func identity(
        _ cell: Cell, _ document: ComparisonDocument
    ) -> [(String, Cell.Value?)] {
        let files = cell.point?.files ?? document.files
        func file(_ role: String) -> String? { files.first { $0.role == role }?.sha256 }
        func fact(_ key: String) -> String? { cell.facts?[key] }
        let profile = document.profile(of: cell)
        let options = cell.point?.guest ?? document.guest
        let texts: [(String, String?)] = [
            ("identity", cell.identity), ("profile", profile.name),
            ("profile_sha256", profile.digest), ("program", document.program),
            ("build_sha256", document.build), ("options", options.joined(separator: "\n")),
            ("parameters", cell.point.flatMap { try? Data.json($0.parameters) }),
            ("configuration", fact("technique")), ("engine", fact("engine")),
            ("processor", fact("processor")), ("hardware", fact("hardware")),
            ("clock", fact("clock")), ("memory", fact("memory")),
            ("processors", fact("processors")), ("quantum", fact("quantum")),
            ("interleaving", fact("interleaving")), ("seed", fact("seed")),
            ("kernel", fact("kernel")), ("kernel_sha256", file("kernel")),
            ("initrd", fact("initrd")), ("initrd_sha256", file("initrd")),
            ("saved_machine_sha256", file("saved-machine")),
            ("from_region", document.fromRegion.map { String($0) }),
            ("command_line", fact("command-line")),
        ]
        return texts.map { ($0.0, $0.1.map { .text($0) }) }
    }

    private static func failure(_ path: String, _ error: any Error) -> ComparisonError {
        guard let error = error as? DatabaseError else { return .writing(path, error) }
        return .cannotWrite(path: path, reason: error.message ?? "SQLite error \(error.resultCode)")
    }
}
