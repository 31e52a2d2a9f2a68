import ArgumentParser
import Comparison
import Hypervisor

/// `penumbra compare`: the same workloads under several techniques, counted and priced.
struct CompareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare",
        abstract: "Run workloads under several techniques, check that they agree, and price them.",
        discussion: """
            All other options are the guest's, as `penumbra run` takes them. Without --kernel, \
            --append and --restore it is the default guest, which boots once and then waits for \
            workloads: --workload "fork 1000; touch 500 all". Each workload is a line \
            that the guest reads on its console, and takes the place of \(RunPlan.placeholder) in \
            its options; each runs under each technique in a process of its own, and must do the \
            same under all, to the bit.

            What is done is kept in --output: after Ctrl-C, a full disk or a change of the lists the \
            same command goes on, and runs nothing again whose guest, workload, technique and \
            program are the same.

            EXIT STATUS
              0        every run is done, and all agree
              1        an error, which one line on standard error states
              6        runs of one workload differ: the table says which
              8        a run failed: the table says which, and why
              64       wrong usage
              128+N    signal N ended the comparison; what was done is kept
            """)

    @Option(
        parsing: .singleValue,
        help: .init(
            """
            A technique with its parameters, as for run; may be repeated, and several may be \
            separated by semicolons. Default: bare; trap; unsync; traced; nested; agile.
            """, valueName: "techniques"))
    var mmu: [String] = []

    @Option(
        parsing: .singleValue,
        help: .init(
            "A workload; may be repeated, and several may be separated by semicolons.",
            valueName: "workloads"))
    var workload: [String] = []

    @Option(
        help: .init(
            """
            Boot the guest once, save it where it begins this region, and start every run there. \
            --restore FILE starts them from a machine that was saved before.
            """, valueName: "region"),
        transform: RegionNumber.parse)
    var fromRegion: UInt16?

    @Option(
        help: .init(
            "The price profile: \(Profile.names.joined(separator: ", ")) or a file (NAME.yaml).",
            valueName: "profile"))
    var profile = "cascade-lake"

    @Option(help: .init("The folder that keeps what is done.", valueName: "folder"))
    var output = "comparison"

    @Option(
        help: .init("How many run at a time: 1 to 64. Default: 2.", valueName: "n"),
        transform: JobCount.parse)
    var jobs = 2

    @OptionGroup var files: ResultFiles

    @Argument(
        parsing: .allUnrecognized, help: .init("The guest's options.", valueName: "guest options"))
    var guest: [String] = []

    mutating func run() throws { try ComparisonSession(self).run() }

    /// The techniques, in the user's order.
    /// - Throws: `TechniqueError`, `ComparisonError.doubled`.
    func techniques() throws -> [String] {
        let names =
            mmu.isEmpty
            ? ["bare", "trap", "unsync", "traced", "nested", "agile"] : Self.split(mmu)
        var seen: Set<String> = []
        for name in names {
            let technique = try Technique(parsing: name).description
            guard seen.insert(technique).inserted else {
                throw ComparisonError.doubled("technique", name)
            }
        }
        return names
    }

    /// The workloads, in the user's order.
    /// - Throws: `ComparisonError.doubled`.
    func workloads() throws(ComparisonError) -> [String] {
        let names = Self.split(workload)
        var seen: Set<String> = []
        for name in names where !seen.insert(name).inserted {
            throw .doubled("workload", name)
        }
        return names
    }

    private static func split(_ lists: [String]) -> [String] {
        lists.flatMap { $0.split(separator: ";") }
            .map { part in
                let words = part.split(separator: " ")
                return words.joined(separator: " ")
            }
            .filter { !$0.isEmpty }
    }
}

/// `--jobs`.
enum JobCount {
    static func parse(_ text: String) throws -> Int {
        guard let count = Int(text), 1...64 ~= count else {
            throw ValidationError("'\(text)' jobs are not possible: give 1 to 64")
        }
        return count
    }
}
