import Foundation

extension ComparisonDocument {
    /// The report: one page of HTML that needs nothing else, with the whole comparison in it as JSON.
    ///
    /// Names in a comparison may come from a guest. The JSON holds none of the characters that end
    /// or begin markup; the page shows texts as texts; and its policy lets a browser execute its own
    /// script and no other, by digest, and load nothing.
    public func html() throws -> String {
        let style = Self.text(PackageResources.page_css)
        let script = [
            PackageResources.elements_js, PackageResources.charts_js, PackageResources.tables_js,
            PackageResources.sections_js, PackageResources.page_js,
        ].map(Self.text).joined()
        let parts = [
            "style": style, "style-digest": SHA256Digest.source(style),
            "script": script, "script-digest": SHA256Digest.source(script),
            "data": try embeddedJSON(),
        ]
        // `{{name}}` stands for a part. What is put in is not looked at again.
        return Self.text(PackageResources.page_html).split(separator: "{{")
            .enumerated().map { index, piece in
                guard index > 0, let end = piece.firstRange(of: "}}") else { return String(piece) }
                return (parts[String(piece[..<end.lowerBound])] ?? "") + piece[end.upperBound...]
            }.joined()
    }

    /// The JSON form on one line, which can stand in an HTML script element: `<`, `>` and `&`, which
    /// JSON has in strings alone, are written as escapes.
    package func embeddedJSON() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        var text = ""
        for scalar in String(decoding: try encoder.encode(self), as: UTF8.self).unicodeScalars {
            switch scalar {
            case "<": text += "\\u003c"
            case ">": text += "\\u003e"
            case "&": text += "\\u0026"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
}
