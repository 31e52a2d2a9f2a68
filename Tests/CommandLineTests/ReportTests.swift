import Foundation
import Testing

extension CommandLineTests {
    /// The report, made by the program and shown by a browser.
    @Suite struct ReportTests {
        private typealias Object = [String: Any]

        private let folder: Scratch
        /// The comparison in the documents.
        private let sample: Data

        init() throws {
            folder = try Scratch()
            sample = try Data(
                contentsOf: URL(filePath: #filePath).deletingLastPathComponent()
                    .appending(path: "../../Docs/Comparison/sample.json").standardized)
        }

        /// Makes the report of a comparison, and opens it.
        private func open(_ comparison: Data, state: String = "") throws -> BrowserPage {
            let json = try folder.file("comparison.json", Array(comparison))
            let result = try Program.run(
                "report", json, "--output", folder.path("report.html"))
            #expect(result.ending == .exited(0), "\(result.errors)")
            #expect(result.output + result.errors == "")
            return try BrowserPage(folder.path("report.html"), state: state)
        }

        private func runs(of comparison: Data) throws -> [Object] {
            let object = try JSONSerialization.jsonObject(with: comparison) as? Object
            return try #require(object?["cells"] as? [Object])
        }

        /// The cells' slow-downs, of which JSONSerialization loses the last digit.
        private func slowdowns(of comparison: Data) throws -> [Double] {
            struct Document: Decodable {
                struct Cell: Decodable { var slowdown: Double }
                var cells: [Cell]
            }
            return try JSONDecoder().decode(Document.self, from: comparison).cells.map(\.slowdown)
        }

        /// `12,345`.
        private func grouped(_ number: Int) -> String {
            let digits = Array(String(number))
            return digits.indices.map {
                ($0 > 0 && (digits.count - $0) % 3 == 0 ? "," : "") + String(digits[$0])
            }.joined()
        }

        @Test func `the table has every figure of the comparison, and every count`() throws {
            let page = try open(sample, state: "counts=all")
            let (rows, cells) = (try page.rows("runs"), try runs(of: sample))
            let slowdowns = try slowdowns(of: sample)
            #expect(rows.count == 6 && cells.count == 6 && slowdowns.count == 6)
            let compared = try #require(try page.rows("slowdown").first)
            for ((row, cell), slowdown) in zip(zip(rows, cells), slowdowns) {
                #expect(row["workload"]?.text == cell["workload"] as? String)
                #expect(row["technique"]?.text == cell["technique"] as? String)
                let price = try #require(cell["price"] as? Object)
                #expect(row["cycles"]?.text == grouped(try #require(price["cycles"] as? Int)))
                #expect(row["slowdown"]?["data-value"].flatMap(Double.init) == slowdown)
                #expect(row["slowdown"]?.text == String(format: "%.3f", slowdown))
                let technique = try #require(cell["technique"] as? String)
                #expect(compared[technique]?["data-value"].flatMap(Double.init) == slowdown)
                let summary = try #require(cell["summary"] as? [String: Int])
                #expect(summary.count == 13)
                for (name, count) in summary {
                    #expect(row[name]?.text == grouped(count), "\(name)")
                }
                let counts = try #require(cell["counts"] as? [String: [String: Int]])
                #expect(!counts.isEmpty)
                for (section, entries) in counts {
                    for (name, count) in entries {
                        #expect(row["\(section)/\(name)"]?.text == grouped(count), "\(name)")
                    }
                }
            }
        }

        @Test func `bars are as long as the comparison's figures say`() throws {
            let page = try open(sample)
            var scales: [String: [Double]] = [:]
            /// Checks a chart's bar: its parts' figures, and collects their scale.
            func check(_ id: String, _ technique: String, _ expected: [String: Int]) throws {
                let chart = try page.element(id)
                let row = try #require(chart.all("g", ["data-row": technique]).first)
                let marks = row.all("rect")
                #expect(Set(marks.compactMap { $0["data-part"] }).count == marks.count)
                let shown = marks.reduce(into: [String: Int]()) {
                    $0[$1["data-part"] ?? ""] = $1["data-value"].flatMap { Int($0) }
                }
                #expect(shown == expected.filter { $0.value > 0 }, "\(id), \(technique)")
                for mark in marks {
                    let width = try #require(mark["width"].flatMap(Double.init))
                    let value = try #require(mark["data-value"].flatMap(Double.init))
                    scales[id, default: []].append(width / value)
                }
            }
            for cell in try runs(of: sample) {
                let technique = try #require(cell["technique"] as? String)
                let price = try #require(cell["price"] as? Object)
                var (items, groups): ([String: Int], [String: Int]) = ([:], [:])
                for item in try #require(price["items"] as? [Object]) {
                    let cycles = try #require(item["cycles"] as? Int)
                    items[try #require(item["figure"] as? String)] = cycles
                    groups[try #require(item["group"] as? String), default: 0] += cycles
                }
                try check("cycles", technique, items)
                try check("panels", technique, groups)
                let counts = try #require(cell["counts"] as? [String: [String: Int]])
                let engine: Set = ["limit", "halted", "stopped"]
                try check(
                    "exits", technique,
                    (counts["exits"] ?? [:]).filter { !engine.contains($0.key) })
                try check(
                    "writes", technique,
                    [
                        "exit": counts["exits"]?["table-write"] ?? 0,
                        "recorded": counts["traced-writes"]?["recorded"] ?? 0,
                        "coalesced": counts["traced-writes"]?["coalesced"] ?? 0,
                    ])
            }
            #expect(Set(scales.keys) == ["cycles", "panels", "exits", "writes"])
            for (id, all) in scales {
                let (least, most) = (try #require(all.min()), try #require(all.max()))
                #expect(least > 0 && most < least * 1.0001, "one scale in \(id)")
            }
        }

        @Test func `charts over the run have a column for each point of the series`() throws {
            let page = try open(sample)
            for (id, column) in [("buffer", 1), ("shadow", 2)] {
                let charts = try page.element(id).all("svg", ["role": "img"])
                let expected = try runs(of: sample).map { cell in
                    let series = try #require(cell["series"] as? Object)
                    return try #require(series["points"] as? [[Int]])
                        .map { $0[column] }.filter { $0 > 0 }
                }.filter { !$0.isEmpty }
                #expect(!expected.isEmpty)
                let shown = charts.map { chart in
                    chart.all("rect").compactMap { $0["data-value"].flatMap { Int($0) } }
                }
                #expect(shown == expected, "\(id)")
                let scales = charts.flatMap { $0.all("rect") }.compactMap { mark in
                    mark["height"].flatMap(Double.init).flatMap { height in
                        mark["data-value"].flatMap(Double.init).map { height / $0 }
                    }
                }
                let (least, most) = (try #require(scales.min()), try #require(scales.max()))
                #expect(most < least * 1.0001, "one scale in \(id)")
            }
        }

        @Test(arguments: ["ascending", "descending"])
        func `tables are sorted as the address says`(order: String) throws {
            for column in ["cycles", "technique"] {
                let page = try open(sample, state: "sort=\(column)&order=\(order)")
                let shown = try page.rows("runs").compactMap { $0["technique"]?.text }
                let cells = try runs(of: sample)
                let sorted = try cells.sorted { a, b in
                    let cycles = try [a, b].map {
                        try #require(($0["price"] as? Object)?["cycles"] as? Int)
                    }
                    let names = [a, b].compactMap { $0["technique"] as? String }
                    return column == "cycles" ? cycles[0] < cycles[1] : names[0] < names[1]
                }.compactMap { $0["technique"] as? String }
                #expect(shown == (order == "ascending" ? sorted : sorted.reversed()), "\(column)")
                let heads = try page.element("runs").all("th", ["aria-sort": order])
                #expect(heads.map { $0["data-column"] } == [column])
            }
        }

        @Test func `the address chooses the filter and the theme`() throws {
            let page = try open(sample, state: "filter=tra&theme=dark")
            #expect(
                try page.rows("runs").compactMap { $0["technique"]?.text } == ["trap", "traced"])
            #expect(page.root.all("html").first?["data-theme"] == "dark")
            #expect(try page.element("theme").text.contains("Light"))
        }

        @Test func `names from a guest stay text`() throws {
            let name = #"</script><img src=x onerror="document.title='broken'">{{data}}&amp;"#
            var object = try #require(
                try JSONSerialization.jsonObject(with: sample) as? Object)
            object["workloads"] = [name]
            var renamed = try runs(of: sample).map { cell in
                var cell = cell
                cell["workload"] = name
                let places = (cell["places"] as? [Object] ?? []).map { places in
                    var places = places
                    places["top"] = (places["top"] as? [Object] ?? []).map { entry in
                        entry.merging(["symbol": name, "place": name]) { $1 }
                    }
                    return places
                }
                cell["places"] = places
                return cell
            }
            renamed[5]["status"] = "failed"
            renamed[5]["problem"] = name
            object["cells"] = renamed
            let page = try open(JSONSerialization.data(withJSONObject: object))
            #expect(page.root.all("img").isEmpty)
            #expect(page.root.all("script").count == 2)
            #expect(page.root.all("title").first?.text == "Penumbra: comparison")
            #expect(try page.rows("runs").allSatisfy { $0["workload"]?.text == name })
            #expect(try page.element("workload").all("option").map(\.text) == [name])
            #expect(try page.rows("places").first?["place"]?.text == "\(name) (\(name))")
            #expect(try page.element("agreement").text.contains("agile: \(name)"))
        }

        @Test func `what failed, was not run or differs is said first, and in the tables`() throws {
            var object = try #require(
                try JSONSerialization.jsonObject(with: sample) as? Object)
            var cells = try runs(of: sample)
            for (index, status) in [(1, "failed"), (2, "missing")] {
                cells[index] = cells[index].filter {
                    ["workload", "technique", "identity"].contains($0.key)
                }
                cells[index]["status"] = status
            }
            cells[1]["problem"] = "a triple fault"
            object["cells"] = cells
            object["disagreements"] = [
                [
                    "workload": "fork 20", "reference": "bare", "technique": "agile",
                    "referenceDigest": "one digest", "digest": "another",
                ]
            ]
            let page = try open(JSONSerialization.data(withJSONObject: object))
            let lines = try page.element("agreement").all("p").map(\.text)
            #expect(lines.count == 3)
            #expect(lines.first?.hasPrefix("Different: fork 20 × agile") == true)
            #expect(lines.dropFirst().first == "Failed: fork 20 × trap: a triple fault")
            #expect(lines.last == "Not run: 1 of 6.")
            let slowdown = try #require(try page.rows("slowdown").first)
            #expect(slowdown["trap"]?.text == "failed" && slowdown["unsync"]?.text == "not run")
            let rows = try page.rows("runs")
            #expect(rows.compactMap { $0["cycles"]?.text }[1...2] == ["failed", "not run"])
            #expect(
                try page.element("cycles").all("g").compactMap { $0["data-row"] }
                    == ["bare", "traced", "nested", "agile"])
        }

        @Test func `the page loads nothing and lets no other script execute`() throws {
            let page = try open(sample)
            #expect(page.root.all().allSatisfy { $0["src"] == nil })
            #expect(page.root.all("link").isEmpty)
            let policy = page.root.all(
                "meta", ["http-equiv": "Content-Security-Policy"]
            ).first?["content"]
            #expect(policy?.hasPrefix("default-src 'none'; style-src 'sha256-") == true)
            #expect(policy?.contains("script-src 'sha256-") == true)
            #expect(policy?.contains("unsafe") == false)
        }

        @Test(arguments: [
            ("", "is no comparison"), ("[]", "is no comparison"),
            (#"{"format": "penumbra-ledger", "version": 1}"#, "is no comparison"),
            (#"{"format": "penumbra-comparison", "version": 99}"#, "version 99"),
            (#"{"format": "penumbra-comparison", "version": 1}"#, "misses"),
        ])
        func `what is no comparison is one line, and no page`(text: String, words: String) throws {
            let json = try folder.file("bad.json", Array(text.utf8))
            let page = folder.path("bad.html")
            let result = try Program.run("report", json, "--output", page)
            #expect(result.ending == .exited(1))
            #expect(result.errorLines.count == 1, "\(result.errors)")
            #expect(result.errors.contains("bad.json") && result.errors.contains(words))
            #expect(!FileManager.default.fileExists(atPath: page))
        }
    }
}
