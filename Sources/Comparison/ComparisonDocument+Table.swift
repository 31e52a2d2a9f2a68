import Reporting

extension ComparisonDocument {
    /// For a terminal: a block a workload, a line a technique, within 100 columns where techniques have
    /// short names. The JSON and CSV forms have every count.
    public func table() -> String {
        var text = ""
        let nameWidth = min(max(23, (techniques.map(\.count).max() ?? 0) + 1), 80)
        for workload in workloads {
            let cells = cells.filter { $0.workload == workload }
            if !text.isEmpty { text += "\n" }
            let instructions = cells.compactMap { $0.summary?.instructions }.max()
            text += workload.shortened(to: 60)
            text += instructions.map { ": \(Report.grouped($0)) instructions\n" } ?? "\n"
            text += Self.line(Self.titles, nameWidth)
            for cell in cells { text += Self.line(of: cell, nameWidth) }
        }
        let problems = cells.filter { $0.status == .failed }
        if !problems.isEmpty { text += "\n" }
        for cell in problems {
            text += "failed: \(cell.name): \(cell.problem ?? "")\n"
        }
        for disagreement in disagreements {
            text +=
                "\nDIFFERENT: \(disagreement.workload) × \(disagreement.technique) did not do what "
                + "\(disagreement.reference) did:\n"
                + "  \(disagreement.reference): \(disagreement.referenceDigest)\n"
                + "  \(disagreement.technique): \(disagreement.digest)\n"
        }
        return text
    }

    private static let titles = [
        "technique", "exits", "writes", "hidden", "true", "drains", "walks", "misses", "shadow",
        "cycles", "× bare", "s",
    ]

    private static func line(of cell: Cell, _ nameWidth: Int) -> String {
        guard cell.status == .done, let summary = cell.summary else {
            let name = cell.technique.shortened(to: nameWidth - 1).padded(to: nameWidth)
            return name + (cell.status == .failed ? "failed, see below" : "not run") + "\n"
        }
        let columns: [String] = [
            cell.technique, abbreviated(summary.exits), abbreviated(summary.writesNoticed),
            abbreviated(summary.hiddenFaults), abbreviated(summary.trueFaults),
            abbreviated(summary.drains), abbreviated(summary.walkReferences),
            abbreviated(summary.tlbMisses), abbreviated(summary.shadowBytes),
            abbreviated(cell.price?.cycles ?? 0),
            cell.slowdown.map { PriceReport.decimal(($0 * 100).rounded() / 100) } ?? "–",
            cell.seconds.map { PriceReport.decimal(($0 * 10).rounded() / 10) } ?? "–",
        ]
        return line(columns, nameWidth)
    }

    private static let columnWidth = 7

    private static func line(_ columns: [String], _ nameWidth: Int) -> String {
        let name = (columns.first ?? "").shortened(to: nameWidth - 1).padded(to: nameWidth)
        return name + columns.dropFirst().map { $0.padded(to: -columnWidth) }.joined() + "\n"
    }

    /// `999`, `1.2k`, `35M`, `7.9G`: at most five characters.
    package static func abbreviated(_ count: UInt64) -> String {
        guard count >= 1000 else { return String(count) }
        var (unit, name) = (UInt64(1000), "k")
        for (next, nextName) in [
            (UInt64(1_000_000), "M"), (1_000_000_000, "G"), (1_000_000_000_000, "T"),
            (1_000_000_000_000_000, "P"), (1_000_000_000_000_000_000, "E"),
        ] where count >= next {
            (unit, name) = (next, nextName)
        }
        let (whole, rest) = count.quotientAndRemainder(dividingBy: unit)
        return whole < 10 ? "\(whole).\(rest / (unit / 10))\(name)" : "\(whole)\(name)"
    }
}

extension Cell {
    /// Its place in the comparison.
    public var name: String { "\(workload) × \(technique)" }
}

extension String {
    /// The text cut to a width, with an ellipsis where something is missing.
    func shortened(to width: Int) -> String {
        count <= width ? self : prefix(width - 1) + "…"
    }
}
