import ArgumentParser
import Comparison

/// `penumbra price`: what the counts of a ledger cost by a profile.
struct PriceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "price",
        abstract: "Price a ledger: count × figure = cycles.",
        discussion: """
            A ledger is what `penumbra run --ledger FILE` writes; it can be priced again at any time. \
            Profiles that come with the program: \(Profile.names.joined(separator: ", ")).
            """)

    @Argument(help: .init("The ledger's file.", valueName: "ledger.json"))
    var ledger: String

    @Option(
        help: .init(
            "The price profile: one that comes with the program, or a file (NAME.yaml).",
            valueName: "profile"))
    var profile = "cascade-lake"

    @Flag(help: "Print JSON in place of the table.")
    var json = false

    func run() throws {
        let report = try PriceReport(
            LedgerDocument.read(ledger), file: ledger, profile: Profile.named(profile))
        try StandardStreams.print(json ? report.json() : report.table())
    }
}
