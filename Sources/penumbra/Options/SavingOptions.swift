import ArgumentParser
import Glibc

/// `--save`, `--save-at` and `--restore`.
struct SavingOptions: ParsableArguments {
    @Option(
        help: .init(
            "Save the machine in this file: at --save-at, or at each Ctrl-A S on a terminal.",
            valueName: "file"))
    var save: String?

    @Option(
        help: .init(
            """
            Save the machine, and end, once its processors together have retired so many \
            instructions.
            """, valueName: "instructions"))
    var saveAt: UInt64?

    @Option(
        help: .init(
            """
            Go on with the machine that this file holds, in place of booting one. What belongs to \
            it (-m, -smp, --cpu, --quantum, --interleaving, --seed, --device) may be left out; \
            everything else is free. --kernel, --initrd and --append name what it boots where the \
            guest resets it.
            """, valueName: "file"))
    var restore: String?

    func validate() throws {
        if saveAt != nil && save == nil {
            throw ValidationError("--save-at needs --save FILE: where to save the machine")
        }
        if save != nil && saveAt == nil && isatty(STDIN_FILENO) != 1 {
            throw ValidationError(
                "--save needs --save-at INSTRUCTIONS where standard input is no terminal to press "
                    + "Ctrl-A S on")
        }
    }
}
