import Glibc
import Processor
import Reporting
import SystemPackage
import VirtualMachine

/// What `--log translate` and `--perf-map` write while the machine runs.
final class TranslationLog {
    /// Neither file grows beyond this: a guest that writes code without end is translated without
    /// end.
    private static let mostBytes = 1 << 30

    private var listing: TextFile?
    private var map: TextFile?
    private var names: CodeNames

    /// Opens the files; nil where none is asked for.
    /// - Throws: `Failure.cannotWrite`.
    init?(_ options: TranslationOptions, _ symbols: SymbolTable?) throws(Failure) {
        names = CodeNames(symbols)
        if options.log == .translate {
            listing =
                try options.logFile.map { path throws(Failure) in
                    try TextFile(path, mostBytes: Self.mostBytes)
                } ?? TextFile(standardError: Self.mostBytes)
        }
        if options.perfMap {
            // Whoever else can write to /tmp must not choose where this goes.
            map = try TextFile(
                "/tmp/perf-\(getpid()).map", mostBytes: Self.mostBytes, isOwn: true)
        }
        if listing == nil && map == nil { return nil }
    }

    /// Writes of every block that the machine translates from now on.
    func attach(_ machine: VirtualMachine) {
        if machine.engine == .interpreter {
            StandardStreams.report("nothing is translated: the interpreter is in use")
        }
        let shared = machine.sharedHostCode
        for code in shared { map?.append(PerfMap.line(code)) }
        let texts = CodeListing(shared: shared)
        machine.observeTranslations { [unowned machine] block in
            let name = self.names.name(block, machine.systemCallEntry)
            if self.listing != nil { self.listing?.append(texts.text(block, name: name)) }
            self.map?.append(PerfMap.lines(block, name: name))
        }
    }

    /// Writes what is left, once the machine has ended.
    /// - Throws: `Failure.cannotWrite` where a file does not hold everything.
    func end() throws(Failure) {
        try listing?.close()
        try map?.close()
    }
}

/// The guest's names for its code.
private struct CodeNames {
    private var symbols: SymbolTable?
    private var entry: UInt64 = 0

    init(_ symbols: SymbolTable?) { self.symbols = symbols }

    /// The function of the guest's kernel that a block belongs to, and how far in it begins.
    /// - Parameter entry: where the kernel takes system calls now, which tells where it lies.
    mutating func name(_ block: TranslatedBlock, _ entry: UInt64) -> String? {
        guard symbols != nil, !block.isUser else { return nil }
        if entry != self.entry {
            symbols?.follow(systemCallEntry: entry)
            self.entry = entry
        }
        return symbols?.symbol(at: block.address.rawValue).map { name, offset in
            offset == 0 ? name : "\(name)+0x\(String(offset, radix: 16))"
        }
    }
}
