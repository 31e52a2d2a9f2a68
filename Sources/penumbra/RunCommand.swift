import ArgumentParser
import Hypervisor
import Processor
import Reporting
import VirtualMachine

/// `penumbra run`: boots a guest on the terminal.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Boot a guest; its serial console is the terminal.",
        discussion: """
            Without --kernel it boots the guest that `make setup` fetched to an interactive shell. \
            QEMU's spellings (-kernel FILE) are taken beside the usual ones.

            On a terminal, Ctrl-A X ends the machine, Ctrl-A S saves it, Ctrl-A H helps, and \
            Ctrl-A Ctrl-A sends Ctrl-A; all other keys go to the guest. Where standard input is no terminal, every \
            byte goes to the guest. The virtual clock advances with the guest's instructions, so \
            that every run is the same; --clock host is for interactive use.

            \(ExitStatus.help)
            """)

    @Option(
        name: [.long, .customLong("kernel", withSingleDash: true)],
        help: .init("The kernel: a Linux bzImage or a multiboot ELF file.", valueName: "file"))
    var kernel: String?

    @Option(
        name: [.long, .customLong("bios", withSingleDash: true)],
        help: .init(
            "Firmware (SeaBIOS) to start in place of a kernel: 64 to 256 KiB.",
            valueName: "file"))
    var bios: String?

    @Option(
        name: [.long, .customLong("initrd", withSingleDash: true)],
        help: .init(
            "Linux: the initial ramdisk. Multiboot: modules, 'FILE args,FILE …'.",
            valueName: "file"))
    var initrd: String?

    @Option(
        name: [.long, .customLong("append", withSingleDash: true)], parsing: .unconditional,
        help: .init("The kernel's command line.", valueName: "words"))
    var append: String?

    @Option(
        name: [.long, .customShort("m")],
        help: .init("The guest's memory: 512 (MiB), 512M, 2G. Default: 512M.", valueName: "size"),
        transform: MemorySize.init(parsing:))
    var memory: MemorySize?

    @Option(
        name: [.customLong("smp"), .customLong("smp", withSingleDash: true)],
        help: .init("How many virtual processors: 1 to 16. Default: 1.", valueName: "n"),
        transform: ProcessorCount.parse)
    var processors: Int?

    @Option(
        help: .init(
            "With several processors: the instructions of one's turn. Default: 10000.",
            valueName: "instructions"),
        transform: Quantum.parse)
    var quantum: UInt64?

    @Option(
        help: .init(
            "With several processors: turns of 1 to --quantum instructions, by this seed.",
            valueName: "seed"))
    var interleaving: UInt64?

    @Option(
        name: [.customLong("cpu"), .customLong("cpu", withSingleDash: true)],
        help: .init(
            "The processor's model and changes to it. Default: penumbra-v2.",
            valueName: "model,+f,-f"))
    var processor: String?

    @Option(
        help: .init(
            """
            What the processor does where the architecture leaves a choice: default, or some of \
            tlb=keep, tlb=random:SEED, tlb=speculative, tlb=fragment and erratum=NAME, separated \
            by commas. Errata: \(Erratum.names).
            """, valueName: "hardware"),
        transform: Hardware.init(parsing:))
    var hardware: Hardware?

    @Option(
        help: .init(
            """
            The memory-virtualization technique: bare, unsync, nested, trap, agile or traced. \
            Parameters follow it, as in traced,record=mask,elide=on. Of trap: refill=on|off, \
            stop=WRITES|never. Of traced: these, indication=entry|frame, \
            record=address|value|mask, capacity=BYTES, threshold=RECORDS, coalesce=N, \
            elide=on|off, levels=all|leaf. Of agile: writes=N, quiet=ROOTLOADS. \
            Default: traced.
            """, valueName: "technique"),
        transform: Technique.init(parsing:))
    var mmu: Technique?

    @Option(
        help: """
            What the guest's clocks follow: virtual (its instructions) or host. Default: virtual.
            """)
    var clock: ClockKind?

    @Option(
        help: """
            What executes guest code: interpreter or translator. The guest and the ledger are the \
            same. Default: the translator, where the host allows it.
            """)
    var engine: Engine?

    @Option(
        help: .init(
            "What everything random in the machine follows from. Default: 0.", valueName: "number"))
    var seed: UInt64?

    @OptionGroup var saving: SavingOptions

    @OptionGroup var debugging: DebuggingOptions

    @OptionGroup var translation: TranslationOptions

    @Option(
        help: .init(
            "The ceiling on shadow page tables: 64 (MiB), 64M. Default: 64M.",
            valueName: "size"),
        transform: MemorySize.init(parsing:))
    var shadowMemory: MemorySize?

    @Option(help: .init("Write the ledger of exact counts as JSON.", valueName: "file"))
    var ledger: String?

    @Flag(help: "Print the ledger as a table on standard error at the end.")
    var showLedger = false

    @Option(
        help: .init(
            "The guest kernel's System.map or /proc/kallsyms: the ledger names its functions.",
            valueName: "file"))
    var symbols: String?

    @Option(
        help: .init(
            "End the run where the guest begins this region: 1 to 65535.", valueName: "region"),
        transform: RegionNumber.parse)
    var stopAtRegion: UInt16?

    @Flag(help: "Print a digest of the final registers and memory on standard error.")
    var digest = false

    @Flag(
        help: """
            Judge every translation that a processor takes from a table, and every page fault, by \
            the architecture's rules; a violation ends the run with status 4.
            """)
    var verify = false

    @Flag(help: "Show the speed on a terminal's standard error, where the console is elsewhere.")
    var progress = false

    @Option(
        help: .init(
            "The ledger has a point of the run's series every so many instructions.",
            valueName: "instructions"),
        transform: Quantum.parse)
    var sample: UInt64?

    @Option(
        help: .init(
            "End the run, with status 0, once the console has printed this text.",
            valueName: "text"))
    var until: String?

    @Option(help: .hidden)
    var beats: Int32?

    @Option(
        name: [.customLong("device"), .customLong("device", withSingleDash: true)],
        help: .init(
            """
            isa-debug-exit[,iobase=PORT][,iosize=BYTES], isa-debugcon[,iobase=PORT] or pc-testdev; \
            may be repeated.
            """,
            valueName: "device"),
        transform: DeviceOption.init(parsing:))
    var devices: [DeviceOption] = []

    @Flag(
        name: [.customLong("no-reboot"), .customLong("no-reboot", withSingleDash: true)],
        help: "End the machine where the guest resets it.")
    var noReboot = false

    @OptionGroup var ignored: IgnoredOptions

    func validate() throws {
        if bios != nil && (kernel != nil || initrd != nil || append != nil) {
            throw ValidationError("--bios takes no --kernel, --initrd or --append")
        }
        if until?.isEmpty == true { throw ValidationError("--until needs a text") }
    }

    mutating func run() throws {
        let saved = try saving.restore.map { path throws(SavedMachineError) in
            try SavedMachine(path: path)
        }
        try MachineRun(
            configuration: machineConfiguration(saved), options: self, saved: saved
        ).run()
    }
}

extension ClockKind: ExpressibleByArgument {}
extension Engine: ExpressibleByArgument {}

/// Options of QEMU that ask for what Penumbra does anyway.
struct IgnoredOptions: ParsableArguments {
    @Flag(
        name: [.customLong("nographic"), .customLong("nographic", withSingleDash: true)],
        help: .hidden)
    var noGraphic = false

    @Flag(name: .customLong("nodefaults", withSingleDash: true), help: .hidden)
    var noDefaults = false

    @Option(
        name: [
            .customLong("machine", withSingleDash: true), .customLong("M", withSingleDash: true),
        ], help: .hidden, transform: HarmlessOption.machine)
    var machine: String?

    @Option(
        name: .customLong("accel", withSingleDash: true), help: .hidden,
        transform: HarmlessOption.only("tcg"))
    var accelerator: String?

    @Option(
        name: .customLong("vga", withSingleDash: true), help: .hidden,
        transform: HarmlessOption.only("none"))
    var vga: String?

    @Option(
        name: .customLong("serial", withSingleDash: true), help: .hidden,
        transform: HarmlessOption.only("stdio", "mon:stdio"))
    var serial: String?

    @Option(
        name: .customLong("display", withSingleDash: true), help: .hidden,
        transform: HarmlessOption.only("none"))
    var display: String?

    @Option(
        name: .customLong("monitor", withSingleDash: true), help: .hidden,
        transform: HarmlessOption.only("none"))
    var monitor: String?

    @Option(
        name: .customLong("vnc", withSingleDash: true), help: .hidden,
        transform: HarmlessOption.only("none"))
    var vnc: String?
}
