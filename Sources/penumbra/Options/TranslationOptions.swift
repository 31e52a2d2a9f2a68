import ArgumentParser

/// `--log`, `--log-file` and `--perf-map`: what the translator does, for those who work on it or
/// measure a guest with it.
struct TranslationOptions: ParsableArguments {
    /// What can be logged.
    enum Log: String, CaseIterable, ExpressibleByArgument {
        /// Each block that is translated: the guest's code and, beside it, the host's.
        case translate
    }

    @Option(
        help: """
            Log what the run does: translate (each block that is translated, guest and host code side \
            by side).
            """)
    var log: Log?

    @Option(
        help: .init(
            "Where --log writes. Default: standard error.", valueName: "file"))
    var logFile: String?

    @Flag(
        help: """
            Write /tmp/perf-PID.map, by which Linux' perf names generated code after the guest's.
            """)
    var perfMap = false

    func validate() throws {
        if logFile != nil && log == nil {
            throw ValidationError("--log-file is where --log writes: give --log translate")
        }
    }
}
