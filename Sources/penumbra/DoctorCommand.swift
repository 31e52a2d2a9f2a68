import ArgumentParser

/// `penumbra doctor`: checks the host and says what to do.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Check this machine, and say what to do.",
        discussion: """
            Each line starts with ok, note (something is missing that not every run needs) or fail. \
            The exit status is 0 where nothing failed, 1 otherwise.
            """)

    func run() throws {
        let checks = HostCheck.all()
        for check in checks { print(check.line) }
        if checks.contains(where: { $0.verdict == .fail }) { throw ExitStatus.failure }
    }
}
