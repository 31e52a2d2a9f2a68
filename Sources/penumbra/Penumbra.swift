import ArgumentParser
import Glibc

/// The command line: `penumbra run`, `penumbra compare`, `penumbra sweep`, `penumbra price`,
/// `penumbra report`, `penumbra doctor`.
///
/// Whatever goes wrong is said in one line on standard error that starts with `penumbra:`; how a
/// run ended is told by the exit status (`ExitStatus`).
@main struct Penumbra: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "penumbra",
        abstract: "A virtual machine monitor that needs no hardware virtualization.",
        discussion: """
            Penumbra boots unmodified x86 operating systems on a processor that it models in \
            software, and counts exactly what a memory-virtualization technique does for them.
            """,
        version: programVersion,
        subcommands: [
            RunCommand.self, CompareCommand.self, SweepCommand.self, PriceCommand.self,
            ReportCommand.self, DoctorCommand.self, SlurmTaskCommand.self,
        ])

    /// The program's name and version.
    static let programVersion = "penumbra 0.1.0"

    static func main() {
        StandardStreams.prepare()
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let status as ExitStatus {
            Glibc.exit(status.rawValue)
        } catch let failure as Failure {
            StandardStreams.report("\(failure)")
            Glibc.exit(ExitStatus.failure.rawValue)
        } catch {
            let code = exitCode(for: error)
            if code.isSuccess {
                print(fullMessage(for: error))
            } else {
                StandardStreams.report(message(for: error))
            }
            Glibc.exit(code.rawValue)
        }
    }
}
