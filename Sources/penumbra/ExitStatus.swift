/// The exit status of `penumbra`. Usage errors have ArgumentParser's (64).
struct ExitStatus: Error, Equatable {
    var rawValue: Int32

    /// The guest powered the machine off, reset it under `--no-reboot`, or the user ended it.
    static let success = ExitStatus(rawValue: 0)
    /// Bad input, or a console that went away; a line on standard error says which.
    static let failure = ExitStatus(rawValue: 1)
    /// The guest's processor shut down (a triple fault). Even, so that it cannot be mistaken for a
    /// status of the debug-exit device.
    static let tripleFault = ExitStatus(rawValue: 2)

    /// `--verify` found a translation that no cache could have held, or a wrong page fault. Even,
    /// for the same reason.
    static let unlawful = ExitStatus(rawValue: 4)

    /// `compare`: runs of one workload did not do the same under all techniques.
    static let different = ExitStatus(rawValue: 6)
    /// `compare`: a run failed; the others are done.
    static let incomplete = ExitStatus(rawValue: 8)

    /// A signal ended the machine: 128 + its number, as shells have it.
    static func signal(_ number: Int32) -> ExitStatus { ExitStatus(rawValue: 128 &+ number) }

    /// The table for `--help`.
    static let help = """
        EXIT STATUS
          0        the guest powered off or (--no-reboot) reset; Ctrl-A X; --stop-at-region
          1        an error, which one line on standard error states
          2        the guest's processor shut down: a triple fault
          4        --verify: a translation or page fault that the architecture does not allow
          64       wrong usage
          128+N    signal N ended the machine
          v*2|1    the guest wrote v to the isa-debug-exit device
        """
}
