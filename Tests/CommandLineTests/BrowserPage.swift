import Glibc
import Testing

/// A page as a real browser has made it: headless Chromium opens a file, executes its script, and
/// tells what the document has become.
struct BrowserPage {
    /// An element with all that is in it.
    final class Element {
        let name: String
        let attributes: [String: String]
        fileprivate(set) var children: [Element] = []
        /// The text of the element and of those in it.
        fileprivate(set) var text = ""

        fileprivate init(_ name: String, _ attributes: [String: String]) {
            self.name = name
            self.attributes = attributes
        }

        subscript(attribute: String) -> String? { attributes[attribute] }

        /// The elements inside with that name, and these attributes, in the document's order.
        func all(_ name: String? = nil, _ wanted: [String: String] = [:]) -> [Element] {
            children.flatMap { child in
                let fits =
                    (name == nil || child.name == name)
                    && wanted.allSatisfy { child.attributes[$0.key] == $0.value }
                return (fits ? [child] : []) + child.all(name, wanted)
            }
        }
    }

    let root: Element

    /// Opens a page.
    /// - Parameter state: what stands in the address after "#".
    init(_ path: String, state: String = "") throws {
        let folder = try Scratch()
        let names = ["chromium", "chromium-browser", "google-chrome"].map { "/usr/bin/\($0)" }
        let browser = try #require(
            names.first { unsafe access($0, X_OK) == 0 }, "run `Scripts/setup.sh chromium`")
        let result = try Program.runTool([
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--user-data-dir=\(folder.path("profile"))",
            "--window-size=1200,900", "--dump-dom", "file://\(path)#\(state)",
        ])
        try #require(result.ending == .exited(0), "\(result.errors)")
        root = Self.parse(result.output)
    }

    /// The only element with that `id`.
    func element(_ id: String) throws -> Element {
        let found = root.all(nil, ["id": id])
        try #require(found.count == 1, "\(found.count) elements are called \(id)")
        return found[0]
    }

    /// The cells of a table's body, by row and by the name of their column.
    func rows(_ id: String) throws -> [[String: Element]] {
        let body = try #require(try element(id).all("tbody").first)
        return body.all("tr").map { row in
            row.children.reduce(into: [:]) { $0[$1["data-column"] ?? ""] = $1 }
        }
    }

    // MARK: - Reading what the browser wrote

    /// Elements that have no end, and those whose text is not looked at for markup.
    private static let empty: Set = ["meta", "input", "br", "img", "link", "hr"]
    private static let raw: Set = ["script", "style", "noscript"]

    /// Reads a serialized document (HTML Living Standard §13.3), in which all tags are complete and
    /// all values quoted.
    private static func parse(_ text: String) -> Element {
        var bytes = Array(text.utf8)[...]
        func take(until end: String) -> String {
            let end = Array(end.utf8)
            var taken: [UInt8] = []
            while !bytes.isEmpty, !bytes.starts(with: end) { taken.append(bytes.removeFirst()) }
            return String(decoding: taken, as: UTF8.self)
        }
        func skip(_ count: Int) { bytes = bytes.dropFirst(count) }
        var open = [Element("document", [:])]
        func write(_ text: String) { for element in open { element.text += decoded(text) } }
        while !bytes.isEmpty {
            write(take(until: "<"))
            skip(1)
            guard let first = bytes.first else { break }
            if first == UInt8(ascii: "!") {
                _ = take(until: ">")
                skip(1)
            } else if first == UInt8(ascii: "/") {
                _ = take(until: ">")
                skip(1)
                if open.count > 1 { open.removeLast() }
            } else {
                var name: [UInt8] = []
                while let byte = bytes.first, byte != 0x20, byte != UInt8(ascii: ">") {
                    name.append(bytes.removeFirst())
                }
                var attributes: [String: String] = [:]
                while bytes.first == 0x20 {
                    skip(1)
                    let attribute = take(until: "=\"")
                    skip(2)
                    attributes[attribute] = decoded(take(until: "\""))
                    skip(1)
                }
                skip(1)
                let element = Element(String(decoding: name, as: UTF8.self), attributes)
                open[open.count - 1].children.append(element)
                if empty.contains(element.name) { continue }
                open.append(element)
                if raw.contains(element.name) { element.text = take(until: "</\(element.name)>") }
            }
        }
        return open[0]
    }

    private static func decoded(_ text: String) -> String {
        guard text.contains("&") else { return text }
        return [
            ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&nbsp;", "\u{A0}"), ("&amp;", "&"),
        ].reduce(text) { $0.replacing($1.0, with: $1.1) }
    }
}
