import ArgumentParser

/// The files that results go to, beside the folder that keeps them.
struct ResultFiles: ParsableArguments {
    @Option(help: .init("Write everything as JSON.", valueName: "file"))
    var json: String?

    @Option(help: .init("Write a line a run as comma-separated values.", valueName: "file"))
    var csv: String?

    @Option(help: .init("Add a row a run to an SQLite database.", valueName: "file"))
    var sqlite: String?

    @Option(help: .init("Write a page that a browser shows, offline.", valueName: "file.html"))
    var report: String?
}
