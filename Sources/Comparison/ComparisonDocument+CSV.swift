extension ComparisonDocument {
    /// As comma-separated values (RFC 4180): a line of names, and a line a cell. What a cell lacks
    /// is empty. Of a sweep, the parameters come first.
    public func csv() -> String {
        let names = Set(cells.flatMap { $0.point?.parameters.keys.map { $0 } ?? [] }).sorted()
        var text = Self.line(names.map { "parameter.\($0)" } + Cell.columns.map(\.name))
        for cell in cells {
            text += Self.line(
                names.map { cell.point?.parameters[$0] ?? "" }
                    + Cell.columns.map { $0.value(cell)?.text ?? "" })
        }
        return text
    }

    private static func line(_ fields: [String]) -> String {
        fields.map { field in
            field.contains { "\",\r\n".contains($0) }
                ? "\""
                    + field.split(separator: "\"", omittingEmptySubsequences: false)
                    .joined(separator: "\"\"") + "\""
                : field
        }.joined(separator: ",") + "\r\n"
    }
}

extension Cell {
    /// A value in a row about a cell.
    enum Value {
        case text(String)
        case count(UInt64)
        case number(Double)

        var text: String {
            switch self {
            case .text(let text): text
            case .count(let count): String(count)
            case .number(let number): String(number)
            }
        }
    }

    /// A column of such rows.
    typealias Column = (name: String, value: @Sendable (Cell) -> Value?)

    /// What a row about a cell has: in CSV, and in the database.
    static let columns: [Column] = {
        var columns: [Column] = [
            ("workload", { .text($0.workload) }),
            ("technique", { .text($0.technique) }),
            ("status", { .text($0.status.rawValue) }),
            ("problem", { $0.problem.map { .text($0) } }),
            ("outcome", { $0.outcome.map { .text($0) } }),
            ("digest", { $0.digest.map { .text($0) } }),
            ("seconds", { $0.seconds.map { .number($0) } }),
            ("cycles", { $0.price.map { .count($0.cycles) } }),
            ("slowdown", { $0.slowdown.map { .number($0) } }),
            ("exits", { $0.summary.map { .count($0.exits) } }),
            ("writes_noticed", { $0.summary.map { .count($0.writesNoticed) } }),
            ("drains", { $0.summary.map { .count($0.drains) } }),
            ("shadow_bytes", { $0.summary.map { .count($0.shadowBytes) } }),
        ]
        for name in CountName.all {
            columns.append(
                (name.column, { $0.counts?[name.section]?[name.row].map { .count($0) } }))
        }
        return columns
    }()
}

extension CountName {
    /// The name as a column has it: `exits_page_fault`.
    var column: String { String("\(section)_\(row)".map { $0 == "-" ? "_" : $0 }) }
}
