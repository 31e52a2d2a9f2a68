extension Report {
    /// The sections as a table for a terminal: one line a count, digits grouped by threes, and for
    /// breakdowns the total and each part's share.
    ///
    /// Parts that are zero are left out of a breakdown; the JSON form has them all. The counts of the
    /// regions that the guest has marked follow, with the places from which most exits come. Every
    /// line ends with a newline.
    public func table() -> String {
        var text = Self.table(sections)
        for region in regions where region.key != "outside" || regions.count == 1 {
            if regions.count > 1 {
                text += "\nRegion \(region.key), begun \(Report.grouped(region.begun)) times\n"
                let sections = region.sections.map { section in
                    var section = section
                    section.rows.removeAll { $0.count == 0 }
                    return section
                }
                text += Self.table(sections.filter { !$0.rows.isEmpty })
            }
            text += Self.table(region.places.map { Self.section($0) })
        }
        return text
    }

    /// How many places of a kind the table shows.
    private static let shownPlaces = 12

    private static func section(_ places: Places) -> Section {
        let shown = places.top.prefix(shownPlaces)
        let others = places.top.dropFirst(shownPlaces).reduce(places.others) { $0 &+ $1.count }
        return Section(
            places.key, places.title, isBreakdown: true,
            rows: shown.map { Row($0.name, $0.count, title: $0.symbol ?? $0.name) }
                + [Row("others", others)])
    }

    private static func table(_ sections: [Section]) -> String {
        let titles = sections.flatMap { [$0.title.count] + $0.rows.map { $0.title.count + 2 } }
        let counts = sections.flatMap { section in
            section.rows.map(\.count) + (section.isBreakdown ? [section.total] : [])
        }
        let titleWidth = titles.max() ?? 0
        let countWidth = counts.map { Report.grouped($0).count }.max() ?? 0

        func line(_ title: String, _ count: String, _ share: String = "") -> String {
            let gap = titleWidth - title.count + 2 + countWidth - count.count
            return title + String(repeating: " ", count: gap) + count + share + "\n"
        }

        var text = ""
        for section in sections {
            let total = section.total
            text +=
                section.isBreakdown
                ? line(section.title, Report.grouped(total)) : section.title + "\n"
            for row in section.rows where !section.isBreakdown || row.count > 0 {
                let share = section.isBreakdown ? Report.share(of: row.count, in: total) : ""
                text += line("  " + row.title, Report.grouped(row.count), share)
            }
        }
        return text
    }

    /// `1234567` as `1,234,567`.
    package static func grouped(_ count: UInt64) -> String {
        let digits = Array(String(count))
        var text = ""
        for (index, digit) in digits.enumerated() {
            if index > 0 && (digits.count - index) % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return text
    }

    /// A part's share as `  12.3 %`, rounded to the nearest tenth, nine characters wide.
    package static func share(of part: UInt64, in total: UInt64) -> String {
        guard total > 0 else { return "" }
        // 128-bit arithmetic, so that no count overflows; at most 1000, as part ≤ total.
        let (high, low) = part.multipliedFullWidth(by: 1000)
        let (sum, carry) = low.addingReportingOverflow(total / 2)
        let dividend = (high: high + (carry ? 1 : 0), low: sum)
        guard dividend.high < total else { return "" }
        let tenths = total.dividingFullWidth(dividend).quotient
        let text = "\(tenths / 10).\(tenths % 10) %"
        return String(repeating: " ", count: max(1, 9 - text.count)) + text
    }
}
