import Foundation
import GRDB
import Testing

/// A sweep over the small guest in a folder of its own.
struct SweepCase: ComparisonCase {
    let folder: Scratch
    let arguments: [String]

    /// - Parameters:
    ///   - points: the file's list of blocks.
    ///   - common: a further parameter of all points.
    init(
        _ points: String, common: String = "memory: 32M", _ arguments: String...
    ) throws {
        folder = try Scratch()
        let kernel = try folder.file("worker.elf", SmallGuest.worker)
        let text = """
            version: 1
            name: test
            common:
              kernel: \(kernel)
              \(common)
              device: isa-debug-exit,iobase=0xf4
            points:
            \(points)
            """
        let file = try folder.file("s.yaml", Array(text.utf8))
        self.arguments =
            [
                Program.path, "sweep", file, "--output", folder.path("out"), "--json",
                folder.path("s.json"),
            ] + arguments
    }

    func document() throws -> Document {
        try JSONDecoder().decode(Document.self, from: Data(folder.text("s.json").utf8))
    }

    /// What the tests look at of the JSON.
    struct Document: Decodable {
        struct Cell: Decodable {
            struct Summary: Decodable { var instructions: UInt64 }
            struct Price: Decodable { var cycles: UInt64 }
            struct Point: Decodable {
                var parameters: [String: String]
                var profile: String
            }
            var workload: String
            var technique: String
            var point: Point
            var identity: String
            var status: String
            var problem: String?
            var facts: [String: String]?
            var summary: Summary?
            var price: Price?
            var slowdown: Double?
        }
        var format: String
        var version: Int
        var workloads: [String]
        var techniques: [String]
        var cells: [Cell]
    }
}

extension CommandLineTests {
    @Suite struct SweepCommandTests {
        @Test func `every point is run, counted, priced, and in every form of the results`() throws
        {
            let points = """
                  - axes:
                      workload: [q, b]
                      memory: [32M, 48M]
                      technique: [bare, trap]
                      profile: [sandy-bridge, cascade-lake]
                  - axes:
                      workload: b
                      memory: 32M
                      technique: traced
                      technique.capacity: [4096, 8192]
                      engine: [interpreter, translator]
                """
            let doubled = try SweepCase(points).run()
            #expect(doubled.ending == .exited(1))
            #expect(
                doubled.errors.contains("s.yaml:8: memory is given twice, in this block or in"))

            let sweep = try SweepCase(points, common: "seed: 5")
            let (csv, database) = (sweep.folder.path("s.csv"), sweep.folder.path("s.db"))
            let page = sweep.folder.path("s.html")
            let result = try sweep.run("--csv", csv, "--sqlite", database, "--report", page)
            #expect(result.ending == .exited(0), "\(result.errors)")
            #expect(result.errors == "")
            let document = try sweep.document()
            #expect(document.format == "penumbra-comparison" && document.version == 1)
            #expect(document.cells.count == 2 * 2 * 2 * 2 + 4)
            for cell in document.cells {
                #expect(cell.status == "done", "\(cell.problem ?? "")")
                #expect(cell.price != nil)
                #expect(cell.slowdown != nil)
                let memory = try #require(cell.point.parameters["memory"])
                #expect(cell.facts?["memory"] == (memory == "48M" ? "48 MiB" : "32 MiB"))
            }
            // A run for two profiles is one run with two prices.
            let priced = document.cells.filter { $0.workload == "b; memory=48M" }
            #expect(priced.count == 4)
            #expect(Set(priced.map(\.identity)).count == 2)
            #expect(Set(priced.compactMap(\.price?.cycles)).count == 4)
            #expect(Set(priced.compactMap(\.summary?.instructions)).count == 1)
            #expect(try sweep.ended().count == 8 + 4)

            let lines = try sweep.folder.text("s.csv").components(separatedBy: "\r\n")
            #expect(lines.count == 1 + 20 + 1)
            #expect(lines[0].hasPrefix("parameter.device,parameter.engine,parameter.kernel,"))
            // The page is that of a comparison with this JSON.
            let same = sweep.folder.path("same.html")
            let report = try Program.runTool(
                [Program.path, "report", sweep.folder.path("s.json"), "--output", same])
            #expect(report.ending == .exited(0), "\(report.errors)")
            #expect(try sweep.folder.text("s.html") == sweep.folder.text("same.html"))
            #expect(try sweep.folder.text("s.html").contains("b; memory=48M"))

            let queue = try DatabaseQueue(path: database)
            let rows = try queue.read {
                try Row.fetchAll(
                    $0,
                    sql: """
                        SELECT * FROM runs
                        WHERE json_extract(parameters, '$."technique.capacity"') = '8192'
                        """)
            }
            #expect(rows.count == 2)
            #expect(Set(rows.map { $0["engine"] as String }) == ["interpreter", "translator"])
            #expect(
                try queue.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM runs") } == 20)

            // Again: nothing runs.
            let noted = try sweep.ended()
            let again = try sweep.run("--sqlite", database)
            #expect(again.errors == "penumbra: 20 of 20 runs were done before\n")
            #expect(try sweep.ended() == noted)
        }

        @Test
        func `what failed stays so until it is to be tried again; what is done is left alone`()
            throws
        {
            let sweep = try SweepCase("  - axes: {workload: [t, q], technique: [bare, trap]}")
            let result = try sweep.run()
            #expect(result.ending == .exited(8))
            let noted = try sweep.ended()
            #expect(noted.count == 4)
            func statuses() throws -> [String] { try sweep.document().cells.map(\.status) }
            #expect(try statuses() == ["failed", "failed", "done", "done"])

            let again = try sweep.run()
            #expect(again.ending == .exited(8))
            #expect(again.output.contains("failed: t × bare: triple fault"))
            #expect(try sweep.ended() == noted)
            #expect(try statuses() == ["failed", "failed", "done", "done"])

            let retried = try sweep.run("--retry-failed")
            #expect(retried.ending == .exited(8))
            #expect(retried.errors == "penumbra: 2 of 4 runs were done before\n")
            let later = try sweep.ended()
            #expect(later.keys.count { later[$0] != noted[$0] } == 2)
        }

        @Test func `after Ctrl-C the same sweep goes on where it was`() throws {
            let sweep = try SweepCase(
                "  - axes: {workload: [b, bb, bbb], technique: [bare, trap, traced, nested]}",
                "--jobs", "1")
            let process = try sweep.start(forEnded: 2)
            kill(process, SIGINT)
            #expect(Program.wait(for: process) == .exited(130))
            let noted = try sweep.ended()
            #expect(noted.count >= 2 && noted.count < 12)
            let result = try sweep.run()
            #expect(result.ending == .exited(0), "\(result.errors)")
            #expect(result.errors == "penumbra: \(noted.count) of 12 runs were done before\n")
            let all = try sweep.ended()
            #expect(all.count == 12)
            #expect(noted.allSatisfy { all[$0.key] == $0.value })
        }

        @Test func `each machine is booted and saved once, and points that only run it share it`()
            throws
        {
            let sweep = try SweepCase(
                """
                  - axes:
                      workload: [q, b]
                      quantum: [100, 200]
                      technique: [bare, trap]
                      engine: [interpreter, translator]
                """)
            let text = try sweep.folder.text("s.yaml") + "\nfrom-region: 9\n"
            _ = try sweep.folder.file("s.yaml", Array(text.utf8))
            let result = try sweep.run()
            #expect(result.ending == .exited(0), "\(result.errors)")
            #expect(try sweep.document().cells.allSatisfy { $0.status == "done" })
            let machines = try FileManager.default.contentsOfDirectory(
                atPath: sweep.folder.path("out/machines"))
            #expect(machines.count { $0.hasSuffix(".pnb") } == 2)
        }

        @Test func `the list of points is all that happens where it is asked for`() throws {
            let sweep = try SweepCase(
                "  - axes: {workload: [q, b], quantum: [1, 2], technique: [bare, trap]}")
            let result = try sweep.run("--list")
            #expect(result.ending == .exited(0), "\(result.errors)")
            #expect(
                result.output == """
                    q; quantum=1 × bare
                    q; quantum=1 × trap
                    q; quantum=2 × bare
                    q; quantum=2 × trap
                    b; quantum=1 × bare
                    b; quantum=1 × trap
                    b; quantum=2 × bare
                    b; quantum=2 × trap

                    """)
            #expect(!FileManager.default.fileExists(atPath: sweep.folder.path("out")))
        }

        @Test func `a mistake is one line with its place, before anything runs`() throws {
            for (points, words) in [
                (
                    "  - axes:\n      workload: q\n      technique: bear",
                    "s.yaml:10: technique: unk"
                ),
                (
                    "  - axes:\n      workload: q\n      technique: bare\n      quantum: [5,\n        0]",
                    "s.yaml:12: quantum: "
                ),
                (
                    "  - axes:\n      workload: q\n      technique: bare\n      hardware: tlb=kept",
                    "s.yaml:11: hardware: "
                ),
                (
                    "  - axes:\n      workload: q\n      technique: bare\n      processors: [1, 17]",
                    "s.yaml:11: processors: "
                ),
                (
                    "  - axes:\n      workload: q\n      technique: bare\n      cpu: i486",
                    "s.yaml:11: cpu: "
                ),
                (
                    "  - axes:\n      workload: q\n      technique: bare\n      engine: steam",
                    "s.yaml:11: engine: "
                ),
                (
                    "  - axes:\n      workload: q\n      technique: bare\n      initrd: /none",
                    "s.yaml:11: /none: cannot be read (there is no such file); give a readable"
                ),
            ] {
                let sweep = try SweepCase(points)
                let result = try sweep.run()
                #expect(result.ending == .exited(1))
                #expect(result.output == "")
                #expect(result.errorLines.count == 1, "\(result.errors)")
                #expect(result.errors.contains(words), "\(result.errors)")
                #expect(!FileManager.default.fileExists(atPath: sweep.folder.path("out")))
            }
        }

        @Test func `a file that cannot grow any more loses no finished point`() throws {
            let sweep = try SweepCase(
                "  - axes: {workload: [q, a, c, d, e, f, g, h], technique: [bare, trap, traced]}")
            let path = sweep.folder.path("s.db")
            let limited = try Program.runTool(
                ["/bin/sh", "-c", "ulimit -f 48; exec \"$@\"", "sh"] + sweep.arguments
                    + ["--sqlite", path])
            #expect(limited.ending == .exited(1), "\(limited.errors)")
            #expect(limited.errors.contains("penumbra: cannot write \(path): "))
            let kept = try sweep.ended().count
            #expect(kept > 2)
            let result = try sweep.run("--sqlite", path)
            #expect(result.ending == .exited(0), "\(result.errors)")
            #expect(result.errors == "penumbra: \(kept) of 24 runs were done before\n")
        }
    }
}
