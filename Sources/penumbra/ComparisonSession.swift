import ArgumentParser
import Comparison
import Foundation
import Glibc
import VirtualMachine

/// One `penumbra compare` or `penumbra sweep`, from what is to run to the exit status.
struct ComparisonSession {
    /// What executes the runs.
    enum Executor {
        /// So many processes at a time.
        case local(jobs: Int)
        /// Slurm, with so many tasks at a time; nil: as it likes.
        case slurm(Slurm, most: Int?)
    }

    private let plan: ComparisonPlan
    /// The folder that keeps what is done.
    private let output: String
    private let files: ResultFiles
    private let executor: Executor
    private let retriesFailed: Bool

    init(
        _ plan: ComparisonPlan, output: String, files: ResultFiles, executor: Executor,
        retriesFailed: Bool
    ) {
        self.plan = plan
        self.output = output
        self.files = files
        self.executor = executor
        self.retriesFailed = retriesFailed
    }

    /// - Throws: where an option is wrong; nothing has run then.
    init(_ options: CompareCommand) throws {
        let run = try RunCommand.parse(options.guest)
        if let name = run.optionOfComparison {
            throw ValidationError("\(name) is compare's own to give to its runs: leave it out")
        }
        let saved = try run.saving.restore.map { path throws(SavedMachineError) in
            try SavedMachine(path: path)
        }
        var (guest, region) = (options.guest, options.fromRegion)
        if run.kernel == nil && run.append == nil && saved == nil {
            guest += ["--append", DefaultGuest.waitingCommandLine]
            region = region ?? DefaultGuest.waitingRegion
        }
        guard region == nil || saved == nil else {
            throw ValidationError("--from-region and --restore contradict each other: give one")
        }
        let machine = try run.machineConfiguration(saved)
        var files: [ComparisonDocument.File] = []
        for file in Self.files(machine, run) {
            files.append(
                ComparisonDocument.File(
                    role: file.role, path: file.path, sha256: try SHA256Digest.ofFile(file.path)))
        }
        let runs = RunPlan(
            program: Self.program, version: Penumbra.programVersion,
            build: try SHA256Digest.ofFile(Self.program), guest: guest, region: region,
            files: files)
        plan = try ComparisonPlan(
            runs, workloads: options.workloads(), techniques: options.techniques(),
            profile: Profile.named(options.profile))
        output = options.output
        self.files = options.files
        executor = .local(jobs: options.jobs)
        retriesFailed = true
    }

    func run() throws {
        let database = try files.sqlite.map { path throws(ComparisonError) in
            try RunDatabase(path)
        }
        Interruption.watch()
        let line = ProgressLine()
        let observer = ComparisonRun.Observer(
            finished: { cell, document in try database?.add(cell, of: document) },
            progress: { progress in line.update(progress) })
        let jobs = if case .local(let jobs) = executor { jobs } else { 1 }
        var comparison = try ComparisonRun(
            plan, output: output, jobs: jobs, observer: observer)
        if case .slurm(let slurm, _) = executor { try comparison.cancelLeftovers(slurm) }
        let resumed = try comparison.resume(retryingFailed: retriesFailed)
        if resumed > 0 {
            StandardStreams.report(
                "\(resumed) of \(comparison.document.cells.count) runs were done before")
        }
        let failure = Result {
            switch executor {
            case .local: try comparison.run()
            case .slurm(let slurm, let most):
                try comparison.run(on: slurm, program: Self.programFile, most: most)
            }
        }
        line.end()
        let document = comparison.document
        // What is known is shown even where it cannot be written.
        if document.cells.contains(where: { $0.status != .missing }) {
            try StandardStreams.print(document.table())
        }
        if case .failure(let error) = failure {
            StandardStreams.report(goesOn(document))
            throw error
        }
        try write(document, database)
        if let signal = Interruption.number {
            StandardStreams.report("interrupted: \(goesOn(document))")
            throw ExitStatus.signal(signal)
        }
        if !document.disagreements.isEmpty { throw ExitStatus.different }
        if document.cells.contains(where: { $0.status != .done }) { throw ExitStatus.incomplete }
    }

    private func goesOn(_ document: ComparisonDocument) -> String {
        let done = document.cells.count { $0.status == .done }
        return "\(done) of \(document.cells.count) runs are done and kept in \(output); "
            + "the same command goes on"
    }

    private func write(_ document: ComparisonDocument, _ database: RunDatabase?) throws {
        // Once more, as slow-downs are known only when bare has been run.
        for cell in document.cells where cell.slowdown != nil {
            try database?.add(cell, of: document)
        }
        if let path = files.json { try WholeFile.write(document.json(), to: path) }
        if let path = files.csv { try WholeFile.write(document.csv(), to: path) }
        if let path = files.report { try WholeFile.write(document.html(), to: path) }
    }

    /// This program's own file, also where another has taken its name since: children are of the same
    /// build as long as the comparison lasts.
    static let program = "/proc/self/exe"

    /// The same by its name, for other computers.
    private static var programFile: String {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: program)) ?? program
    }

    /// The files that a machine is made from.
    static func files(
        _ machine: MachineConfiguration, _ run: RunCommand
    ) -> [(role: String, path: String)] {
        var files: [(role: String, path: String)] = []
        if let path = run.saving.restore { files.append((role: "saved-machine", path: path)) }
        if let kernel = machine.kernel { files.append((role: "kernel", path: kernel)) }
        return files + Self.files(machine.initrd).map { (role: "initrd", path: $0) }
    }

    /// The files of an initrd: one, or those of Multiboot modules ("FILE args,FILE …").
    private static func files(_ initrd: String?) -> [String] {
        guard let initrd else { return [] }
        if unsafe access(initrd, R_OK) == 0 { return [initrd] }
        return initrd.split(separator: ",").compactMap {
            $0.split(separator: " ").first.map(String.init)
        }
    }
}

extension RunCommand {
    /// The name of an option that is not the guest's, if one is given.
    fileprivate var optionOfComparison: String? {
        if mmu != nil { return "--mmu" }
        if ledger != nil { return "--ledger" }
        if showLedger { return "--show-ledger" }
        if digest { return "--digest" }
        if progress { return "--progress" }
        if sample != nil { return "--sample" }
        if saving.save != nil || saving.saveAt != nil { return "--save" }
        if saving.saveAtRegion != nil { return "--save-at-region" }
        if stopAtRegion != nil { return "--stop-at-region" }
        if beats != nil { return "--beats" }
        return nil
    }
}

/// The progress of a comparison on one line of a terminal, renewed twice a second.
final class ProgressLine {
    private let isWanted = isatty(STDERR_FILENO) == 1
    private var shownAt = ProgressLine.now
    private var retired: [String: UInt64] = [:]
    private var isShown = false

    func update(_ progress: ComparisonProgress) {
        let now = ProgressLine.now
        let elapsed = now - shownAt
        guard isWanted, elapsed >= 0.5 else { return }
        let executed = progress.running.reduce(0.0) { sum, run in
            sum + Double(run.retired &- (retired[run.name] ?? 0))
        }
        retired = progress.running.reduce(into: [:]) { $0[$1.name] = $1.retired }
        let line = progress.line(speed: executed / elapsed, columns: columns - 1)
        StandardStreams.writeError("\r\u{1B}[K\(line)")
        (shownAt, isShown) = (now, true)
    }

    /// Takes the line away again.
    func end() {
        if isShown { StandardStreams.writeError("\r\u{1B}[K") }
    }

    private var columns: Int {
        var size = winsize()
        guard unsafe ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
            return 80
        }
        return Int(size.ws_col)
    }

    /// Seconds of the host's monotonic clock.
    private static var now: Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
