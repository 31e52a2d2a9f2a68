import Foundation
import Glibc

/// Runs the cells of a comparison, some at a time, each in a process of its own.
///
/// *Problem.* A guest may die, a process may crash, the disk may fill up, and the user may want the
/// machine back; none of these may cost a result that was there already.
///
/// *Approach.* A cell is a child process whose results are files in a folder of its own. It counts
/// as done only once `run.json` lies there whole; until then it is run again by the same command.
///
/// *Caveats.* A comparison uses a folder alone. Cells are told apart by what decides them and not by
/// names, so another guest or build in the same folder is measured anew beside the old results.
public struct ComparisonRun {
    /// What is told on the way.
    public struct Observer {
        /// A cell has been finished, or was found finished.
        public var finished: (Cell, ComparisonDocument) throws -> Void
        /// Called some times a second, with what happens now.
        public var progress: (ComparisonProgress) -> Void

        public init(
            finished: @escaping (Cell, ComparisonDocument) throws -> Void,
            progress: @escaping (ComparisonProgress) -> Void
        ) {
            self.finished = finished
            self.progress = progress
        }
    }

    private let plan: RunPlan
    private let folder: ResultFolder
    private let jobs: Int
    private let observer: Observer
    /// The comparison as far as it has got.
    public private(set) var document: ComparisonDocument
    private var progress: ComparisonProgress

    private struct Child {
        var cell: Int
        var process: ChildProcess
        var start: Double
    }

    /// - Parameters:
    ///   - plan: how cells become commands.
    ///   - jobs: how many run at a time, at least 1.
    ///   - output: the folder for results.
    public init(
        _ plan: RunPlan, workloads: [String], techniques: [String], profile: Profile,
        output: String, jobs: Int, observer: Observer
    ) throws(ComparisonError) {
        guard !workloads.isEmpty else { throw .empty("workload") }
        guard !techniques.isEmpty else { throw .empty("technique") }
        self.plan = plan
        self.jobs = max(jobs, 1)
        self.observer = observer
        folder = try ResultFolder(output)
        let cells = workloads.flatMap { workload in
            techniques.map { technique in
                Cell(
                    workload: workload, technique: technique,
                    identity: plan.identity(workload: workload, technique: technique),
                    status: .missing)
            }
        }
        document = ComparisonDocument(
            program: plan.version, build: plan.build, guest: plan.guest,
            fromRegion: plan.region, files: plan.files,
            profile: profile, workloads: workloads, techniques: techniques, cells: cells)
        progress = ComparisonProgress(cells: cells.count)
    }

    /// Takes over what was done before.
    /// - Returns: how many cells that were.
    public mutating func resume() throws -> Int {
        var count = 0
        for index in document.cells.indices {
            guard let cell = folder.finished(document.cells[index]) else { continue }
            document.cells[index] = cell
            try note(index)
            count += 1
        }
        return count
    }

    /// Runs what is not done, until all is or a signal came (`Interruption`).
    ///
    /// Where a result cannot be written, what runs is ended, and the error thrown; what was done
    /// before stays.
    public mutating func run() throws {
        var waiting = document.cells.indices.filter { document.cells[$0].status == .missing }[...]
        if !waiting.isEmpty, let region = plan.region { try saveMachine(region) }
        var children: [Child] = []
        defer { Self.end(children) }
        while Interruption.number == nil {
            while children.count < jobs, let cell = waiting.popFirst() {
                children.append(try start(cell))
            }
            if children.isEmpty { return }
            try attend(to: &children)
            report(children)
            usleep(20_000)
        }
    }

    /// The saved machine that cells start from.
    private var machine: String { folder.machine(plan.machineIdentity) }

    /// Boots the guest to the region and saves it there, where that was not done before.
    private mutating func saveMachine(_ region: UInt16) throws {
        // A file that has the name is whole: it takes the name last.
        guard !FileManager.default.fileExists(atPath: machine) else { return }
        let console = machine + ".console.txt"
        var process = try ChildProcess(
            plan.savingArguments(region, machine: machine, beats: ChildProcess.beats),
            input: "/dev/null", output: console, errors: machine + ".errors.txt")
        while Interruption.number == nil {
            guard let ending = process.poll() else {
                progress.running = [
                    .init(name: "booting the guest", workload: "", retired: process.retired)
                ]
                observer.progress(progress)
                usleep(20_000)
                continue
            }
            guard ending == .exited(0), FileManager.default.fileExists(atPath: machine) else {
                throw ComparisonError.notSaved(
                    CellResult.lastLine(machine + ".errors.txt") ?? "\(ending)", console: console)
            }
            return
        }
        Self.end([Child(cell: 0, process: process, start: 0)])
    }

    private func start(_ index: Int) throws(ComparisonError) -> Child {
        let cell = document.cells[index]
        try folder.prepare(cell.identity, input: plan.input(workload: cell.workload))
        let path = folder.folder(cell.identity)
        let process = try ChildProcess(
            plan.arguments(
                workload: cell.workload, technique: cell.technique, machine: machine,
                ledger: path + "/ledger.json",
                beats: ChildProcess.beats),
            input: path + "/workload.txt", output: path + "/console.txt",
            errors: path + "/errors.txt")
        return Child(cell: index, process: process, start: Self.now)
    }

    /// Takes the results of those that have ended out of the list.
    private mutating func attend(to children: inout [Child]) throws {
        for number in children.indices.reversed() {
            guard let ending = children[number].process.poll() else { continue }
            let child = children.remove(at: number)
            let cell = CellResult.read(
                document.cells[child.cell], ending: ending,
                folder: folder.folder(document.cells[child.cell].identity),
                seconds: Self.now - child.start)
            // The terminal gives Ctrl-C to the children, too.
            if Interruption.number != nil && cell.status == .failed { continue }
            try folder.keep(
                ResultFolder.Run(
                    identity: cell.identity, workload: cell.workload, technique: cell.technique,
                    status: cell.status, problem: cell.problem, seconds: cell.seconds ?? 0))
            document.cells[child.cell] = cell
            try note(child.cell)
        }
    }

    private mutating func note(_ index: Int) throws {
        progress.finished(document.cells[index])
        document.conclude()
        try observer.finished(document.cells[index], document)
    }

    private mutating func report(_ children: [Child]) {
        progress.running = children.map {
            ComparisonProgress.Running(
                name: document.cells[$0.cell].name, workload: document.cells[$0.cell].workload,
                retired: $0.process.retired)
        }
        observer.progress(progress)
    }

    /// Ends processes and waits for them: a moment for those that heed, then by force.
    private static func end(_ children: [Child]) {
        var children = children
        for child in children { child.process.end() }
        let deadline = now + 2
        var isForced = false
        while !children.isEmpty {
            for number in children.indices.reversed()
            where children[number].process.poll() != nil { children.remove(at: number) }
            if now > deadline && !isForced {
                isForced = true
                for child in children { child.process.end(SIGKILL) }
            }
            usleep(5000)
        }
    }

    private static var now: Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
