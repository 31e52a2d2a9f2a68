import ArgumentParser
import Comparison

/// `penumbra sweep`: a comparison over any parameters, from a file.
struct SweepCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sweep",
        abstract: "Measure a guest at many points: techniques, hardware, memory, workloads …",
        discussion: """
            The file says which values each parameter takes (Docs/Sweeps.md). All of it is checked \
            before anything runs. Each point is a run in a process of its own, or a task of Slurm's; \
            results are those of `penumbra compare`.

            What is done is kept in --output, and never run again: after Ctrl-C, a full disk or a \
            change of the file the same command goes on. What failed stays so without \
            --retry-failed.

            EXIT STATUS
              0        every point is done, and all runs agree that have to
              1        an error, which one line on standard error states
              6        runs of one workload differ: the table says which
              8        a point failed: the table says which, and why
              64       wrong usage
              128+N    signal N ended the sweep; what was done is kept
            """)

    enum ExecutorKind: String, ExpressibleByArgument, CaseIterable { case local, slurm }

    @Argument(help: .init("The sweep's file.", valueName: "file.yaml"))
    var file: String

    @Option(
        help: .init(
            """
            The price profile where the file names none: \(Profile.names.joined(separator: ", ")) or \
            a file (NAME.yaml).
            """, valueName: "profile"))
    var profile = "cascade-lake"

    @Option(help: .init("The folder that keeps what is done.", valueName: "folder"))
    var output = "sweep"

    @Option(
        help: """
            What executes the runs: local (processes here) or slurm (a job array, with the settings \
            of Slurm's SBATCH_ variables).
            """)
    var executor = ExecutorKind.local

    @Option(
        help: .init(
            "How many run at a time: 1 to 64. Default: 2; with Slurm: as it likes.", valueName: "n"
        ),
        transform: JobCount.parse)
    var jobs: Int?

    @Flag(help: "Run again what failed before.")
    var retryFailed = false

    @Flag(help: "Check the file, print its points, and run nothing.")
    var list = false

    @OptionGroup var files: ResultFiles

    func run() throws {
        let plan = try SweepPlanner(Sweep.read(file)).plan(profile: Profile.named(profile))
        if list {
            try StandardStreams.print(plan.document.cells.map { $0.name + "\n" }.joined())
            return
        }
        let executor: ComparisonSession.Executor
        switch self.executor {
        case .local: executor = .local(jobs: jobs ?? 2)
        case .slurm: executor = .slurm(try Slurm(), most: jobs)
        }
        try ComparisonSession(
            plan,
            output: output, files: files, executor: executor, retriesFailed: retryFailed
        ).run()
    }
}

/// What Slurm starts for each point of a sweep; not for people.
struct SlurmTaskCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "slurm-task", abstract: "Run one point of a sweep.", shouldDisplay: false)

    @Argument var tasks: String
    @Argument var index: Int

    func run() throws {
        Interruption.watch()
        if let signal = try SlurmTask.run(tasks, index: index) { throw ExitStatus.signal(signal) }
    }
}
