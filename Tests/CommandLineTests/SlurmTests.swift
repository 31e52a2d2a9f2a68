import Foundation
import Synchronization
import Testing

/// A Slurm of one node for a test, gone with the value.
private final class OneNodeSlurm {
    private let folder: Scratch
    /// The variable that Slurm's commands need.
    let setting: String

    private static let script = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../Scripts/slurm.sh").standardized.path

    /// Another two ports for each, also of test runs at the same time.
    private static let ports = Mutex(20_000 + Int(getpid() % 5000) * 8)

    init() throws {
        folder = try Scratch()
        let port = Self.ports.withLock { port in
            port += 2
            return port
        }
        let result = try Program.runTool([
            "/bin/bash", Self.script, "start", folder.path("slurm"), String(port),
        ])
        #expect(result.ending == .exited(0), "\(result.errors)")
        setting = result.output.trimmingCharacters(in: .newlines)
    }

    deinit {
        _ = try? Program.runTool(["/bin/bash", Self.script, "stop", folder.path("slurm")])
    }

    /// Runs a command of Slurm's, or one that uses them.
    func run(_ arguments: [String]) throws -> Program.Result {
        try Program.runTool(["/usr/bin/env", setting] + arguments)
    }

    func queue() throws -> [Substring] {
        try run(["squeue", "--noheader", "--array", "--format=%i %T"]).output
            .split(separator: "\n")
    }

    /// Whether Slurm's programs are here, and the rights that its daemons need.
    static var isPossible: Bool {
        getuid() == 0
            && ["/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/bin/sbatch", "/usr/sbin/munged"]
                .allSatisfy { FileManager.default.isExecutableFile(atPath: $0) }
    }
}

extension CommandLineTests {
    @Suite(
        .enabled(
            if: OneNodeSlurm.isPossible,
            "Slurm is not here: as root, Scripts/setup.sh slurm-wlm munge"))
    struct SlurmTests {
        @Test func `a job array runs each point as a task, and gives what processes here give`()
            throws
        {
            let slurm = try OneNodeSlurm()
            let points = """
                  - axes: {workload: [q, t, b], technique: [bare, traced]}
                """
            // The same file, since a guest may see its kernel's name in memory.
            let there = try SweepCase(points)
            #expect(try there.run().ending == .exited(8))
            let expected = try there.document().cells
            try FileManager.default.removeItem(atPath: there.folder.path("out"))
            let arguments = there.arguments + ["--executor", "slurm"]
            let result = try slurm.run(arguments)
            #expect(result.ending == .exited(8), "\(result.errors)")
            let cells = try there.document().cells
            #expect(cells.map(\.status) == ["done", "done", "failed", "failed", "done", "done"])
            for (cell, other) in zip(cells, expected) {
                #expect(cell.workload == other.workload && cell.technique == other.technique)
                #expect(cell.status == other.status)
                #expect(cell.summary?.instructions == other.summary?.instructions)
                #expect(cell.facts?["digest"] == other.facts?["digest"])
                #expect(cell.price?.cycles == other.price?.cycles)
            }
            // They were Slurm's: tasks 0 to 5 of its first job.
            let jobs = try slurm.run([
                "squeue", "--noheader", "--array", "--states=all",
                "--format=%K %T",
            ]).output.split(separator: "\n").map(String.init).sorted()
            #expect(jobs == (0..<6).map { "\($0) COMPLETED" })

            // Nothing is submitted for what is done, and failed points alone when they are to be.
            let again = try slurm.run(arguments)
            #expect(again.errors == "penumbra: 6 of 6 runs were done before\n")
            let noted = try there.ended()
            let retried = try slurm.run(arguments + ["--retry-failed"])
            #expect(retried.ending == .exited(8))
            let later = try there.ended()
            #expect(later.keys.count { later[$0] != noted[$0] } == 2)
        }

        @Test func `after Ctrl-C nothing is left in the queue, and the same sweep goes on`() throws
        {
            let slurm = try OneNodeSlurm()
            let points = "  - axes: {workload: [q, a, c, l, d], technique: bare}"
            let sweep = try SweepCase(points, "--executor", "slurm", "--jobs", "1")
            let other = SweepCase(sweep, slurm.setting)
            // The fourth never ends.
            let process = try other.start(forEnded: 3)
            kill(process, SIGINT)
            #expect(Program.wait(for: process) == .exited(130))
            #expect(try slurm.queue().isEmpty)
            #expect(try sweep.ended().count == 3)
            let noted = try sweep.ended()
            let text = try sweep.folder.text("s.yaml").replacing(" l,", with: "")
            _ = try sweep.folder.file("s.yaml", Array(text.utf8))
            let result = try slurm.run(sweep.arguments)
            #expect(result.ending == .exited(0), "\(result.errors)")
            #expect(result.errors == "penumbra: 3 of 4 runs were done before\n")
            let all = try sweep.ended()
            #expect(noted.allSatisfy { all[$0.key] == $0.value })
        }

        @Test func `a sweep that was killed is taken up by the next, which ends what it left`()
            throws
        {
            let slurm = try OneNodeSlurm()
            let points = "  - axes: {workload: [q, a, l, d], technique: bare}"
            let sweep = try SweepCase(points, "--executor", "slurm", "--jobs", "1")
            let process = try SweepCase(sweep, slurm.setting).start(forEnded: 2)
            kill(process, SIGKILL)
            #expect(Program.wait(for: process) == .signaled(SIGKILL))
            #expect(try !slurm.queue().isEmpty)
            let text = try sweep.folder.text("s.yaml").replacing(" l,", with: "")
            _ = try sweep.folder.file("s.yaml", Array(text.utf8))
            let result = try slurm.run(sweep.arguments)
            #expect(result.ending == .exited(0), "\(result.errors)")
            #expect(result.errors == "penumbra: 2 of 3 runs were done before\n")
            #expect(try slurm.queue().isEmpty)
        }

        @Test func `a task that Slurm ends loses its own point alone, which says so`() throws {
            let slurm = try OneNodeSlurm()
            let sweep = try SweepCase(
                "  - axes: {workload: [q, l, a], technique: bare}", "--executor", "slurm", "--jobs",
                "1")
            let process = try SweepCase(sweep, slurm.setting).start(forEnded: 1)
            var running: Substring?
            for _ in 0..<600 where running == nil {
                running = try slurm.queue().first { $0.hasSuffix("_1 RUNNING") }
                usleep(100_000)
            }
            let task = try #require(running?.split(separator: " ").first)
            #expect(try slurm.run(["scancel", String(task)]).ending == .exited(0))
            #expect(Program.wait(for: process) == .exited(8))
            let cells = try sweep.document().cells
            #expect(cells.map(\.status) == ["done", "failed", "done"])
            #expect(cells[1].problem?.hasPrefix("Slurm ended the task without a result") == true)
        }

    }

    @Suite struct WithoutSlurmTests {
        @Test func `where Slurm's commands are missing, one line says so, before anything runs`()
            throws
        {
            let sweep = try SweepCase(
                "  - axes: {workload: q, technique: bare}", "--executor", "slurm")
            let result = try Program.runTool(["/usr/bin/env", "PATH=/none"] + sweep.arguments)
            #expect(result.ending == .exited(1))
            #expect(
                result.errors == "penumbra: there is no sbatch: run this where Slurm's commands "
                    + "are, or give --executor local\n")
            #expect(!FileManager.default.fileExists(atPath: sweep.folder.path("out")))
        }
    }
}

extension SweepCase {
    /// The same with a variable of the environment.
    fileprivate init(_ other: SweepCase, _ setting: String) {
        folder = other.folder
        arguments = ["/usr/bin/env", setting] + other.arguments
    }
}
