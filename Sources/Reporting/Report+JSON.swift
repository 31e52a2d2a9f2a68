extension Report {
    /// The whole report as JSON (RFC 8259): keys sorted, two spaces an indentation, newline at the
    /// end, so that two equal reports give equal bytes.
    ///
    /// ```json
    /// {
    ///   "facts": { "technique": "traced" },
    ///   "ledger": { "exits": { "page-fault": 12 } },
    ///   "regions": {
    ///     "7": {
    ///       "begun": 1,
    ///       "exits-by-code": {
    ///         "others": 0,
    ///         "top": [
    ///           { "count": 12, "place": "0xffffffff81000010", "reasons": { "page-fault": 12 },
    ///             "symbol": "clear_page_rep+0x7" }
    ///         ]
    ///       },
    ///       "ledger": { "exits": { "page-fault": 12 } }
    ///     }
    ///   },
    ///   "version": 1
    /// }
    /// ```
    /// Counts are exact integers up to 2⁶⁴ − 1: read them with a parser that keeps 64-bit integers.
    public func json() -> String {
        var members: [(key: String, value: JSONValue)] = [
            ("facts", .object(facts.map { ($0.key, .string($0.value)) })),
            ("ledger", Self.value(sections)),
            ("version", .number(UInt64(Report.formatVersion))),
        ]
        if !regions.isEmpty {
            members.append(("regions", .object(regions.map { ($0.key, Self.value($0)) })))
        }
        if let series { members.append(("series", Self.value(series))) }
        return JSONValue.object(members).rendered() + "\n"
    }

    private static func value(_ sections: [Section]) -> JSONValue {
        .object(sections.map { ($0.key, value($0.rows)) })
    }

    private static func value(_ rows: [Row]) -> JSONValue {
        .object(rows.map { ($0.key, .number($0.count)) })
    }

    private static func value(_ region: Region) -> JSONValue {
        .object(
            [("begun", .number(region.begun)), ("ledger", value(region.sections))]
                + region.places.map { places in
                    (
                        places.key,
                        .object([
                            ("others", .number(places.others)),
                            ("top", .array(places.top.map { value($0) })),
                        ])
                    )
                })
    }

    private static func value(_ series: Series) -> JSONValue {
        .object([
            ("columns", .array(series.columns.map { .string($0) })),
            ("interval", .number(series.interval)),
            ("points", .array(series.points.map { .row($0) })),
        ])
    }

    private static func value(_ place: Place) -> JSONValue {
        let symbol = place.symbol.map { [("symbol", JSONValue.string($0))] } ?? []
        return .object(
            [
                ("count", .number(place.count)), ("place", .string(place.name)),
                ("reasons", value(place.rows)),
            ] + symbol)
    }
}

/// The part of JSON that a report needs.
package enum JSONValue {
    case number(UInt64)
    case string(String)
    case array([JSONValue])
    /// Numbers, all on one line.
    case row([UInt64])
    case object([(key: String, value: JSONValue)])

    /// The value as text; lines after the first are indented by `indentation` spaces and more.
    package func rendered(indentation: Int = 0) -> String {
        switch self {
        case .number(let number):
            return String(number)
        case .string(let text):
            return JSONValue.quoted(text)
        case .array(let elements):
            return JSONValue.bracketed(
                "[", elements.map { $0.rendered(indentation: indentation + 2) }, "]", indentation)
        case .row(let numbers):
            return "[" + numbers.map { String($0) }.joined(separator: ", ") + "]"
        case .object(let members):
            let lines = members.sorted { $0.key < $1.key }.map { member in
                JSONValue.quoted(member.key) + ": "
                    + member.value.rendered(indentation: indentation + 2)
            }
            return JSONValue.bracketed("{", lines, "}", indentation)
        }
    }

    /// Elements, each on a line of its own, between brackets.
    private static func bracketed(
        _ opening: String, _ elements: [String], _ closing: String, _ indentation: Int
    ) -> String {
        guard !elements.isEmpty else { return opening + closing }
        let margin = String(repeating: " ", count: indentation + 2)
        return opening + "\n" + elements.map { margin + $0 }.joined(separator: ",\n") + "\n"
            + String(repeating: " ", count: indentation) + closing
    }

    /// A JSON string: quotation marks, backslashes and control characters escaped (RFC 8259 §7).
    package static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
