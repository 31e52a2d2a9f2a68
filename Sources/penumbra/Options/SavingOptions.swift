import ArgumentParser
import Glibc

/// `--save`, `--save-at`, `--save-at-region` and `--restore`.
struct SavingOptions: ParsableArguments {
    @Option(
        help: .init(
            """
            Save the machine in this file: at --save-at or --save-at-region, or at each Ctrl-A S on a \
            terminal.
            """,
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
            "Save the machine, and end, where the guest begins this region: 1 to 65535.",
            valueName: "region"),
        transform: RegionNumber.parse)
    var saveAtRegion: UInt16?

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
        if saveAtRegion != nil && (save == nil || saveAt != nil) {
            throw ValidationError("--save-at-region needs --save FILE, and no --save-at")
        }
        if save != nil && saveAt == nil && saveAtRegion == nil && isatty(STDIN_FILENO) != 1 {
            throw ValidationError(
                "--save needs --save-at INSTRUCTIONS or --save-at-region REGION where standard input "
                    + "is no terminal to press Ctrl-A S on")
        }
    }
}
