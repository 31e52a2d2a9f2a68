import Foundation
import Glibc

extension ComparisonRun {
    /// Has Slurm run what is not done, as one job array, and collects each result once its file is
    /// there, until all are or a signal came; then what still waits or runs is cancelled.
    /// - Parameters:
    ///   - program: the program's file, which all nodes see under this name.
    ///   - most: how many tasks may run at a time; nil: as Slurm likes.
    public mutating func run(on slurm: Slurm, program: String, most: Int?) throws {
        let waiting = try prepare()
        guard !waiting.isEmpty, Interruption.number == nil else { return }
        let path = try newArrayFolder()
        var tasks: [SlurmArray.Task] = []
        for index in waiting {
            let cell = document.cells[index]
            tasks.append(
                SlurmArray.Task(
                    identity: cell.identity, workload: cell.workload, technique: cell.technique,
                    arguments: try command(index)))
        }
        let array = SlurmArray(build: document.build, folder: folder.path, tasks: tasks)
        let script = try array.write(to: path, program: program)
        let job = try slurm.submit(
            script, count: tasks.count, most: most, name: "penumbra-sweep", words: path)
        do {
            try WholeFile.write(job, to: path + "/job")
            try collect(waiting, of: job, slurm: slurm, notes: path)
        } catch {
            try? slurm.cancel(job, notes: path)
            throw error
        }
        if Interruption.number != nil {
            try slurm.cancel(job, notes: path)
            try Self.wait(for: job, slurm: slurm, notes: path)
            for index in waiting where document.cells[index].status == .missing {
                try take(index)
            }
        }
        unsafe unlink(path + "/job")
    }

    /// Ends what an earlier sweep, which could not do so itself, left in Slurm's queue. Before
    /// `resume`, which then finds what was finished.
    public func cancelLeftovers(_ slurm: Slurm) throws {
        let folder = folder.path + "/slurm"
        for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
            let path = "\(folder)/\(name)"
            guard let job = try? String(contentsOfFile: path + "/job", encoding: .utf8),
                UInt64(job) != nil
            else { continue }
            try slurm.cancel(job, notes: path)
            try Self.wait(for: job, slurm: slurm, notes: path)
            unsafe unlink(path + "/job")
        }
    }

    private func newArrayFolder() throws(ComparisonError) -> String {
        let parent = folder.path + "/slurm"
        var number = 1
        while FileManager.default.fileExists(atPath: "\(parent)/array-\(number)") { number += 1 }
        let path = "\(parent)/array-\(number)"
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true)
        } catch { throw .writing(path, error) }
        return path
    }

    /// Seconds between two looks at the files, and looks between two questions to Slurm.
    private static let lookEvery: useconds_t = 500_000
    private static let looksBetweenQuestions = 4

    private mutating func collect(
        _ waiting: [Int], of job: String, slurm: Slurm, notes: String
    ) throws {
        var open = Dictionary(uniqueKeysWithValues: waiting.enumerated().map { ($0, $1) })
        // What Slurm knew nothing of when it was asked last.
        var gone: Set<Int> = []
        var looks = 0
        while !open.isEmpty && Interruption.number == nil {
            for task in open.keys.sorted() {
                guard let cell = open[task], try take(cell) else { continue }
                open[task] = nil
            }
            looks += 1
            if looks % Self.looksBetweenQuestions == 0,
                let active = try slurm.active(job, notes: notes)
            {
                let unknown = Set(open.keys.filter { active[$0] == nil })
                // A file may take a moment to be seen from here.
                for task in unknown.intersection(gone).sorted() {
                    guard let cell = open[task], try !take(cell) else { continue }
                    try lose(cell, "\(notes)/output-\(task).txt")
                    open[task] = nil
                }
                gone = unknown
                progress.running = [
                    .init(
                        name:
                            "Slurm's job \(job), \(active.count { $0.value == "RUNNING" }) running",
                        workload: "", retired: 0)
                ]
            }
            observer.progress(progress)
            usleep(Self.lookEvery)
        }
    }

    /// Notes that Slurm ended a task which had not noted its result.
    private mutating func lose(_ index: Int, _ words: String) throws {
        let cell = document.cells[index]
        let reason = CellResult.lastLine(words).map { ": \($0)" } ?? ""
        try folder.keep(
            ResultFolder.Run(
                identity: cell.identity, workload: cell.workload, technique: cell.technique,
                status: .failed, problem: "Slurm ended the task without a result\(reason)",
                seconds: 0))
        try take(index)
    }

    /// Waits until nothing of an array runs; a minute at most.
    private static func wait(for job: String, slurm: Slurm, notes: String) throws {
        for _ in 0..<240 {
            if try slurm.active(job, notes: notes)?.isEmpty == true { return }
            usleep(250_000)
        }
    }
}
