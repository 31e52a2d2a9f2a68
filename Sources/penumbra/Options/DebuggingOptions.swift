import ArgumentParser
import Debugger

/// `-gdb`, `-s` and `-S`.
struct DebuggingOptions: ParsableArguments {
    @Option(
        name: [.customLong("gdb"), .customLong("gdb", withSingleDash: true)],
        help: .init(
            """
            Let a debugger (GDB's remote protocol) connect: tcp::PORT, tcp:HOST:PORT or unix:PATH. \
            Where no host is named, only from this machine.
            """, valueName: "address"),
        transform: DebugEndpoint.init(parsing:))
    var gdb: DebugEndpoint?

    @Flag(name: .customShort("s"), help: "Short for --gdb tcp::1234.")
    var standard = false

    @Flag(
        name: .customShort("S"),
        help: "Wait for the debugger before the first instruction; with --gdb or -s.")
    var waits = false

    /// Where a debugger is waited for; nil: nowhere.
    var endpoint: DebugEndpoint? { gdb ?? (standard ? .standard : nil) }

    func validate() throws {
        if standard && gdb != nil {
            throw ValidationError("-s is --gdb tcp::1234: give one of them")
        }
        if waits && endpoint == nil {
            throw ValidationError("-S waits for a debugger: give --gdb ADDRESS or -s")
        }
    }
}
