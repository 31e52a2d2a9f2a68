import Foundation

/// How a cell of a comparison becomes a command: the one place that knows `penumbra run`'s options.
public struct RunPlan: Sendable {
    /// The program's own file.
    public var program: String
    /// The options that say what the guest is, or which saved machine it is.
    public var guest: [String]
    /// Further options of runs that the guest cannot notice: one saved machine serves them all.
    public var run: [String] = []
    /// The files that the guest is made from.
    public var files: [ComparisonDocument.File]
    /// The region at whose beginning the guest is saved once, for every cell to start from; nil:
    /// every cell starts where the options say.
    public var region: UInt16?
    /// The program's name and version.
    public var version: String
    /// SHA-256 of the program's file: another build may count otherwise.
    public var build: String

    public init(
        program: String, version: String, build: String, guest: [String], run: [String] = [],
        region: UInt16?, files: [ComparisonDocument.File]
    ) {
        self.program = program
        self.version = version
        self.build = build
        self.guest = guest
        self.run = run
        self.region = region
        self.files = files
    }

    /// SHA-256 of all that decides what a cell's run does and counts. The guest's paths are part of
    /// it, as they stand in its options.
    func identity(workload: String, technique: String) -> String {
        Self.digest([machineIdentity, workload, technique] + run)
    }

    /// SHA-256 of all that decides what the machine is that cells start from.
    var machineIdentity: String {
        Self.digest(
            [version, build, region.map { String($0) } ?? "", String(guest.count)] + guest
                + files.flatMap { [$0.role, $0.sha256] })
    }

    private static func digest(_ parts: [String]) -> String {
        // Lengths keep lists apart that read alike when they are joined.
        SHA256Digest.of(parts.map { "\($0.utf8.count):\($0)" }.joined())
    }

    /// The command that boots the guest and saves it at the region.
    func savingArguments(_ region: UInt16, machine: String, beats: Int32) -> [String] {
        [program, "run"] + guest + run
            + [
                "--mmu", "bare", "--save", machine, "--save-at-region", String(region),
                "--no-reboot", "--beats", String(beats),
            ]
    }

    /// The instructions between two points of a run's series, to begin with.
    static let sampleInterval = 100_000

    /// Stands for the workload in the guest's options, for guests that do not read their console.
    public static let placeholder = "{workload}"

    /// The command of a cell. Its standard input is `input(workload:)`.
    func arguments(
        workload: String, technique: String, machine: String, ledger: String, beats: Int32
    ) -> [String] {
        var words = [program, "run"]
        words += guest.map { $0.replacing(Self.placeholder, with: workload) }
        words += run
        if region != nil { words += ["--restore", machine] }
        words += [
            "--mmu", technique, "--ledger", ledger, "--digest", "--no-reboot",
            "--sample", String(Self.sampleInterval), "--beats", String(beats),
        ]
        return words
    }

    /// What the guest reads on its console: the workload's line.
    func input(workload: String) -> String { workload + "\n" }
}
