import Foundation
import GRDB
import Testing

extension CommandLineTests {
    @Suite struct CompareTests {
        /// A comparison of the small guest in a folder of its own.
        private struct Case: ComparisonCase {
            let folder: Scratch
            let arguments: [String]

            init(_ arguments: String...) throws {
                folder = try Scratch()
                let kernel = try folder.file("worker.elf", SmallGuest.worker)
                self.arguments =
                    [
                        Program.path, "compare", "-kernel", kernel, "-m", "32", "-device",
                        "isa-debug-exit,iobase=0xf4", "--output", folder.path("out"), "--json",
                        folder.path("c.json"),
                    ] + arguments
            }

            func document() throws -> Document {
                try JSONDecoder().decode(Document.self, from: Data(folder.text("c.json").utf8))
            }
        }

        /// What the tests look at of the comparison's JSON.
        private struct Document: Decodable {
            struct Cell: Decodable {
                struct Summary: Decodable {
                    var instructions: UInt64
                    var hiddenFaults: UInt64
                }
                struct Price: Decodable { var cycles: UInt64 }
                struct Series: Decodable {
                    var interval: UInt64
                    var columns: [String]
                    var points: [[UInt64]]
                }
                var workload: String
                var technique: String
                var status: String
                var problem: String?
                var facts: [String: String]?
                var summary: Summary?
                var price: Price?
                var slowdown: Double?
                var series: Series?
            }
            struct Disagreement: Decodable {
                var workload: String
                var reference: String
                var technique: String
            }
            var format: String
            var version: Int
            var fromRegion: Int?
            var cells: [Cell]
            var disagreements: [Disagreement]
        }

        private static let techniques = ["bare", "trap", "unsync", "traced", "nested", "agile"]

        @Test func `every workload runs under every technique, and all agree`() throws {
            let comparison = try Case(
                "--workload", "q; b  b", "--workload", "zz", "--profile", "sandy-bridge")
            let result = try comparison.run(
                "--csv", comparison.folder.path("c.csv"), "--sqlite",
                comparison.folder.path("c.db"), "--report", comparison.folder.path("c.html"))
            #expect(result.ending == .exited(0), "\(result.errors)")
            #expect(result.errors == "")
            let document = try comparison.document()
            #expect(document.format == "penumbra-comparison" && document.version == 1)
            #expect(document.disagreements.isEmpty)
            #expect(
                document.cells.map { "\($0.workload)/\($0.technique)" }
                    == ["q", "b b", "zz"].flatMap { workload in
                        Self.techniques.map { "\(workload)/\($0)" }
                    })
            for cell in document.cells {
                #expect(cell.status == "done", "\(cell.problem ?? "")")
                let summary = try #require(cell.summary)
                #expect(summary.instructions > (cell.workload == "b b" ? 20_000_000 : 20))
                #expect(summary.instructions < 30_000_000)
                let slowdown = try #require(cell.slowdown)
                guard cell.workload == "b b" else { continue }
                // The store is the first to its large page.
                #expect((summary.hiddenFaults > 0) == !["bare", "nested"].contains(cell.technique))
                #expect(cell.technique == "bare" ? slowdown == 1 : slowdown > 1)
            }
            for workload in ["q", "b b", "zz"] {
                let cells = document.cells.filter { $0.workload == workload }
                #expect(Set(cells.compactMap { $0.summary?.instructions }).count == 1)
                for cell in cells {
                    let series = try #require(cell.series)
                    #expect(series.interval == 100_000)
                    #expect(series.columns.first == "instructions")
                    let retired = try #require(cell.facts?["retired"].flatMap { UInt64($0) })
                    let count = retired / 100_000
                    #expect(
                        series.points.compactMap(\.first)
                            == (0..<count).map { ($0 + 1) * 100_000 })
                }
            }
            let lines = result.output.split(separator: "\n")
            #expect(lines.count == 3 * 8)
            for line in lines { #expect(line.count <= 100) }

            let report = try Program.run(
                "report", comparison.folder.path("c.json"), "--output",
                comparison.folder.path("later.html"))
            #expect(report.ending == .exited(0), "\(report.errors)")
            #expect(
                try comparison.folder.text("later.html") == comparison.folder.text("c.html"))

            let csv = try comparison.folder.text("c.csv").components(separatedBy: "\r\n")
            #expect(csv.count == 1 + 18 + 1)
            #expect(csv[0].hasPrefix("workload,technique,status,problem,outcome,digest,seconds,"))
            #expect(csv[7].hasPrefix("b b,bare,done,,debug exit 7,console "))

            let database = try DatabaseQueue(path: comparison.folder.path("c.db"))
            let rows = try database.read {
                try Row.fetchAll($0, sql: "SELECT * FROM runs ORDER BY rowid")
            }
            #expect(rows.count == 18)
            let row = try #require(
                rows.first { $0["workload"] == "b b" && $0["technique"] == "traced" })
            let cell = try #require(
                document.cells.first { $0.workload == "b b" && $0.technique == "traced" })
            #expect(row["cycles"] == Int64(try #require(cell.price).cycles))
            #expect(row["slowdown"] == cell.slowdown)
            #expect(row["execution_instructions"] == Int64(try #require(cell.summary).instructions))
            #expect(row["profile"] == "sandy-bridge")
            #expect(row["program"] == "penumbra 0.1.0")
            #expect(row["memory"] == "32 MiB")
            let hash = try Program.runTool(
                ["/usr/bin/sha256sum", comparison.folder.path("worker.elf")])
            #expect(row["kernel_sha256"] == String(hash.output.prefix(64)))
            #expect((row["configuration"] as String).hasPrefix("traced,indication=entry,"))

            // Again: nothing runs, and another profile changes prices alone.
            let noted = try comparison.ended()
            #expect(noted.count == 18)
            let again = try comparison.run(
                "--sqlite", comparison.folder.path("c.db"), "--profile", "nested-cloud")
            #expect(again.ending == .exited(0))
            #expect(again.errors == "penumbra: 18 of 18 runs were done before\n")
            #expect(try comparison.ended() == noted)
            let count = try database.read {
                try Int.fetchOne($0, sql: "SELECT count(*) FROM runs")
            }
            #expect(count == 36)
        }

        @Test func `the guest boots once, and every run starts from the machine that was saved`()
            throws
        {
            let comparison = try Case(
                "--workload", "b;q", "--mmu", "bare;traced;nested", "--from-region", "9")
            let result = try comparison.run()
            #expect(result.ending == .exited(0), "\(result.errors)")
            let document = try comparison.document()
            #expect(document.fromRegion == 9)
            #expect(document.cells.count == 6)
            for cell in document.cells { #expect(cell.status == "done", "\(cell.problem ?? "")") }
            let machines = comparison.folder.path("out/machines")
            func saved() throws -> [String] {
                try FileManager.default.contentsOfDirectory(atPath: machines)
                    .filter { $0.hasSuffix(".pnb") }
            }
            #expect(try saved().count == 1)
            let path = machines + "/" + (try #require(saved().first))
            func date() throws -> Date? {
                try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
            }
            let noted = try date()
            // More of it starts from there, too; and so does a run that names the file itself.
            let more = try comparison.run("--workload", "bb")
            #expect(more.ending == .exited(0))
            #expect(more.errors == "penumbra: 6 of 9 runs were done before\n")
            #expect(try saved().count == 1)
            #expect(try date() == noted)
            let named = try Program.runTool([
                Program.path, "compare", "--restore", path, "--workload", "q", "--output",
                comparison.folder.path("other"),
            ])
            #expect(named.ending == .exited(0), "\(named.errors)")
        }

        @Test func `a guest that ends before it can be saved is one line`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("triple.elf", SmallGuest.tripleFault)
            let result = try Program.run(
                "compare", "--kernel", kernel, "--from-region", "9", "--workload", "q", "--output",
                folder.path("out"))
            #expect(result.ending == .exited(1))
            #expect(
                result.errorLines.last?.contains(
                    "the guest was not saved: the guest's processor shut down: triple fault")
                    == true)
        }

        @Test func `a guest that dies loses its own cells alone, which say so`() throws {
            let comparison = try Case("--workload", "t;q", "--mmu", "trap ;traced,record=mask")
            let result = try comparison.run()
            #expect(result.ending == .exited(8))
            let cells = try comparison.document().cells
            #expect(cells.map(\.status) == ["failed", "failed", "done", "done"])
            for cell in cells.prefix(2) {
                #expect(cell.problem?.hasPrefix("triple fault: the guest's processor shut") == true)
            }
            #expect(result.output.contains("failed: t × traced,record=mask: triple fault: "))
            // Failed runs are run again, the others are not.
            let again = try comparison.run()
            #expect(again.ending == .exited(8))
            #expect(again.errors == "penumbra: 2 of 4 runs were done before\n")
        }

        @Test func `a process that is killed loses its own cell alone`() throws {
            let comparison = try Case("--workload", "q;l", "--mmu", "bare", "--jobs", "1")
            let process = try comparison.start()
            try comparison.wait(forEnded: 1)
            var child: pid_t?
            for _ in 0..<2000 {
                let path = "/proc/\(process)/task/\(process)/children"
                let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
                child = text.split(separator: " ").first.flatMap { pid_t($0) }
                if child != nil { break }
                usleep(5000)
            }
            let victim = try #require(child)
            kill(victim, SIGKILL)
            #expect(Program.wait(for: process) == .exited(8))
            let cells = try comparison.document().cells
            #expect(cells.map(\.status) == ["done", "failed"])
            #expect(cells[1].problem == "the process was ended by signal 9 (Killed)")
        }

        @Test func `every run is of the program that began, whatever becomes of its file`() throws {
            let comparison = try Case("--workload", "b;bb;bbb", "--jobs", "1")
            let copy = comparison.folder.path("penumbra")
            try FileManager.default.copyItem(atPath: Program.path, toPath: copy)
            let null = try Program.openFile("/dev/null", O_RDWR)
            defer { close(null) }
            let process = try Program.start(
                [copy] + comparison.arguments.dropFirst(), input: null, output: null, errors: null)
            try comparison.wait(forEnded: 1)
            try FileManager.default.removeItem(atPath: copy)
            #expect(Program.wait(for: process) == .exited(0))
            #expect(try comparison.document().cells.allSatisfy { $0.status == "done" })
        }

        @Test func `runs that differ are named, with a status of their own`() throws {
            let comparison = try Case(
                "--workload", "r;q", "--mmu", "traced;bare", "--clock", "host")
            let result = try comparison.run()
            #expect(result.ending == .exited(6))
            #expect(
                result.output.contains("DIFFERENT: r × traced did not do what bare did:\n  bare: "))
            let disagreements = try comparison.document().disagreements
            #expect(disagreements.contains { $0.workload == "r" && $0.technique == "traced" })
            #expect(disagreements.allSatisfy { $0.reference == "bare" })
        }

        @Test func `after Ctrl-C the same command goes on where it was`() throws {
            let comparison = try Case("--workload", "b;bb;bbb", "--jobs", "1")
            let process = try comparison.start()
            try comparison.wait(forEnded: 2)
            kill(process, SIGINT)
            #expect(Program.wait(for: process) == .exited(130))
            let errors = try comparison.folder.text("err")
            #expect(errors.contains("of 18 runs are done and kept in "), "\(errors)")
            #expect(errors.hasSuffix("; the same command goes on\n"))
            let interrupted = try comparison.document().cells
            let done = interrupted.count { $0.status == "done" }
            #expect(done >= 2 && done < 18)
            #expect(interrupted.count { $0.status == "missing" } == 18 - done)
            let noted = try comparison.ended()
            #expect(noted.count == done)

            let result = try comparison.run("--jobs", "2")
            #expect(result.ending == .exited(0))
            #expect(result.errors == "penumbra: \(done) of 18 runs were done before\n")
            #expect(try comparison.document().cells.allSatisfy { $0.status == "done" })
            let all = try comparison.ended()
            #expect(all.count == 18)
            #expect(noted.allSatisfy { all[$0.key] == $0.value })
        }

        @Test func `a file that cannot grow any more loses no finished result`() throws {
            let comparison = try Case("--workload", "q;a;c;d;e;f;g;h")
            let path = comparison.folder.path("c.db")
            // In units of 512 or 1024 bytes: no other file of a comparison becomes so long.
            let limited = try Program.runTool(
                ["/bin/sh", "-c", "ulimit -f 48; exec \"$@\"", "sh"] + comparison.arguments
                    + ["--sqlite", path])
            #expect(limited.ending == .exited(1), "\(limited.errors)")
            #expect(
                limited.errors.contains("penumbra: cannot write \(path): "), "\(limited.errors)")
            #expect(limited.errors.contains("of 48 runs are done and kept in"))
            let database = try DatabaseQueue(path: path)
            func count() throws -> Int? {
                try database.read {
                    try Int.fetchOne($0, sql: "SELECT count(*) FROM runs WHERE status = 'done'")
                }
            }
            let kept = try #require(try count())
            #expect(kept > 2 && kept < 48)
            #expect(
                try database.read { try String.fetchOne($0, sql: "PRAGMA integrity_check") } == "ok"
            )
            let result = try comparison.run("--sqlite", path)
            #expect(result.ending == .exited(0), "\(result.errors)")
            #expect(result.errors.contains("of 48 runs were done before"))
            #expect(try count() == 48)
        }

        @Test func `a terminal shows what runs, how fast, and how long it will take`() throws {
            let comparison = try Case(
                "--workload", "bbbbbbbbbbbbbbbb;bbbbbbbbbbbbbbbbb", "--mmu", "bare", "--jobs", "1")
            let terminal = try PseudoTerminal()
            let null = try Program.openFile("/dev/null", O_RDWR)
            defer { close(null) }
            let process = try Program.start(
                comparison.arguments, input: null, output: null, errors: terminal.terminal)
            #expect(terminal.waits(for: "0 of 2 done, "))
            #expect(terminal.waits(for: " million instructions/s"))
            #expect(terminal.waits(for: ": bbbbbbbbbbbbbbbb × bare"))
            #expect(terminal.waits(for: "1 of 2 done, "))
            #expect(terminal.waits(for: " left: bbbbbbbbbbbbbbbbb × bare"))
            #expect(Program.wait(for: process) == .exited(0))
        }

        @Test func `bad input is one line, before anything runs`() throws {
            let comparison = try Case()
            let text = try comparison.folder.file("text.db", Array("no database at all".utf8))
            for (arguments, words) in [
                (
                    ["--workload", "q", "--mmu", "bare;magic"],
                    "unknown technique 'magic': give bare,"
                ),
                (["--workload", "q", "--mmu", "bare;bare"], "the technique 'bare' is given twice"),
                (
                    ["--workload", "q", "--mmu", "traced;traced,record=address"],
                    "the technique 'traced,record=address' is given twice: give it once"
                ),
                (["--workload", "q;q"], "the workload 'q' is given twice: give it once"),
                ([], "there is no workload to compare: give at least one"),
                (
                    ["--workload", "q", "--profile", "none"],
                    "none: is no profile; give sandy-bridge,"
                ),
                (["--workload", "q", "--sqlite", text], "is no SQLite database: give a new file,"),
                (["--workload", "q", "--digest"], "--digest is compare's own to give to its runs"),
                (
                    ["--workload", "q", "--restore", text],
                    "is no saved machine"
                ),
                (["--workload", "q", "--from-region", "0"], "'0' is no region: 1 to 65535"),
                (["--workload", "q", "--jobs", "0"], "'0' jobs are not possible: give 1 to 64"),
                (["--workload", "q", "--wrokload", "q"], "--wrokload"),
                (["--workload", "q", "-smp", "17"], "17"),
            ] {
                let result = try Program.runTool(comparison.arguments + arguments)
                #expect(result.ending != .exited(0))
                #expect(result.output == "")
                #expect(result.errorLines.count == 1, "\(result.errors)")
                #expect(result.errors.contains(words), "\(result.errors)")
                #expect(try comparison.ended().isEmpty)
            }
        }

        @Test func `price prices a ledger anew, and refuses what is none`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("worker.elf", SmallGuest.worker)
            let ledger = folder.path("l.json")
            let run = try Program.run(
                "run", "--kernel", kernel, "-m", "32", "--ledger", ledger, "--mmu", "traced",
                "--device", "isa-debug-exit,iobase=0xf4", input: "b\n")
            #expect(run.ending == .exited(7))
            let table = try Program.run("price", ledger, "--profile", "nested-cloud")
            #expect(table.ending == .exited(0), "\(table.errors)")
            #expect(table.output.hasPrefix("priced by nested-cloud: traced,indication=entry,"))
            #expect(table.output.contains("  instruction "))
            let json = try Program.run("price", ledger, "--json")
            let document = try #require(
                JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
            #expect(document["format"] as? String == "penumbra-price")

            for (arguments, words) in [
                ([kernel], "is not UTF-8 text; give a ledger"),
                ([folder.path("none")], "cannot be read (there is no such file); give a readable"),
                ([ledger, "--profile", "nehalem"], "nehalem: is no profile; give sandy-bridge"),
                ([ledger, "--profile", ledger], "l.json:2: a profile has no 'facts'; allowed are"),
            ] {
                let result = try Program.runTool([Program.path, "price"] + arguments)
                #expect(result.ending == .exited(1))
                #expect(result.errorLines.count == 1)
                #expect(result.errors.contains(words), "\(result.errors)")
            }
        }
    }
}
