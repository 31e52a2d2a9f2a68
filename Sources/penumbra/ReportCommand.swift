import ArgumentParser
import Comparison

/// `penumbra report`: a comparison as a page to look at.
struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Make a page of a comparison that any browser shows, offline.",
        discussion: """
            A comparison is what `penumbra compare --json FILE` writes; its --report FILE makes the \
            page at once. The page is one file that loads nothing from elsewhere.
            """)

    @Argument(help: .init("The comparison's file.", valueName: "comparison.json"))
    var comparison: String

    @Option(name: .shortAndLong, help: .init("The page to write.", valueName: "file.html"))
    var output: String

    func run() throws {
        try WholeFile.write(ComparisonDocument.read(comparison).html(), to: output)
    }
}
