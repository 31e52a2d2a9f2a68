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

    /// A point a cell.
    let points: [ComparisonPlan.Point]
    let folder: ResultFolder
    let jobs: Int
    let observer: Observer
    /// The comparison as far as it has got.
    public internal(set) var document: ComparisonDocument
    var progress: ComparisonProgress

    private struct Child {
        var cell: Int
        var process: ChildProcess
        var start: Double
    }

    /// - Parameters:
    ///   - output: the folder for results.
    ///   - jobs: how many run at a time, at least 1.
    /// - Throws: `ComparisonError.cannotWrite` or `busy`.
    public init(
        _ plan: ComparisonPlan, output: String, jobs: Int, observer: Observer
    ) throws(ComparisonError) {
        points = plan.points
        document = plan.document
        self.jobs = max(jobs, 1)
        self.observer = observer
        folder = try ResultFolder(output)
        progress = ComparisonProgress(cells: document.cells.count)
    }

    /// Takes over what was done before, and what failed before unless it is to be tried again.
    /// - Returns: how many cells that were.
    public mutating func resume(retryingFailed: Bool = true) throws -> Int {
        var count = 0
        for index in document.cells.indices where document.cells[index].status == .missing {
            guard let cell = folder.ended(document.cells[index]),
                cell.status == .done || !retryingFailed
            else { continue }
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
        var waiting = try prepare()[...]
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

    /// Makes the saved machines that cells start from.
    /// - Returns: what is to run: of cells that are the same run, the first.
    mutating func prepare() throws -> [Int] {
        var machines: Set<String> = []
        var identities: Set<String> = []
        var waiting: [Int] = []
        let isOnlyMachine = Set(points.map(\.plan.guest)).count == 1
        for index in document.cells.indices where document.cells[index].status == .missing {
            guard Interruption.number == nil else { return [] }
            let plan = points[index].plan
            if let region = plan.region, machines.insert(plan.machineIdentity).inserted {
                do { try saveMachine(plan, region) } catch let error as ComparisonError {
                    guard case .notSaved = error, !isOnlyMachine else { throw error }
                    try fail(plan, "\(error)")
                }
            }
            guard document.cells[index].status == .missing,
                identities.insert(document.cells[index].identity).inserted
            else { continue }
            waiting.append(index)
        }
        return waiting
    }

    /// Says of each cell that starts from a machine that there is none.
    private mutating func fail(_ plan: RunPlan, _ problem: String) throws {
        let machine = plan.machineIdentity
        for index in points.indices
        where points[index].plan.machineIdentity == machine
            && document.cells[index].status == .missing
        {
            document.cells[index].status = .failed
            document.cells[index].problem = problem
            try note(index)
        }
    }

    /// The saved machine that a plan's cells start from.
    func machine(_ plan: RunPlan) -> String { folder.machine(plan.machineIdentity) }

    /// Boots the guest to the region and saves it there, where that was not done before.
    private mutating func saveMachine(_ plan: RunPlan, _ region: UInt16) throws {
        let machine = machine(plan)
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
        let path = folder.folder(document.cells[index].identity)
        let process = try ChildProcess(
            command(index), input: path + "/workload.txt", output: path + "/console.txt",
            errors: path + "/errors.txt")
        return Child(cell: index, process: process, start: Self.now)
    }

    /// Makes the folder of a cell, for its process to run in.
    /// - Returns: its command.
    func command(_ index: Int) throws(ComparisonError) -> [String] {
        let (point, identity) = (points[index], document.cells[index].identity)
        try folder.prepare(identity, input: point.plan.input(workload: point.workload))
        return point.plan.arguments(
            workload: point.workload, technique: point.technique, machine: machine(point.plan),
            ledger: folder.folder(identity) + "/ledger.json", beats: ChildProcess.beats)
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
            try take(child.cell)
        }
    }

    /// Takes over a run that has been noted, for each cell that is this run.
    /// - Returns: whether there is one.
    @discardableResult
    mutating func take(_ index: Int) throws -> Bool {
        let identity = document.cells[index].identity
        var isThere = false
        for index in document.cells.indices where document.cells[index].identity == identity {
            guard let cell = folder.ended(document.cells[index]) else { return false }
            document.cells[index] = cell
            try note(index)
            isThere = true
        }
        return isThere
    }

    mutating func note(_ index: Int) throws {
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

    static var now: Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
