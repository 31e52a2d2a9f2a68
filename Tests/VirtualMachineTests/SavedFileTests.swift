import Glibc
import Hypervisor
import Snapshot
import SystemPackage
import Testing
import VirtualMachine

/// Files that are not as they were written, or never were saved machines.
@Suite struct SavedFileTests {
    /// A small machine, saved in the middle of its work.
    private static func saved(
        _ folder: SavingFolder, processors: Int = 2
    ) throws -> MachineConfiguration {
        let kernel = try SmallKernel.write(StartupGuest.code)
        defer { unsafe unlink(kernel) }
        var configuration = MachineConfiguration(kernel: kernel)
        configuration.memoryBytes = 16 << 20
        configuration.debugExitPort = 0xf4
        configuration.processors = processors
        let machine = try VirtualMachine(configuration, console: RecordingConsole())
        machine.pausePoint = 400
        #expect(machine.run() == .paused)
        try machine.save(to: folder.file("saved"))
        configuration.kernel = nil
        return configuration
    }

    /// Restores a file and lets it run a little, whatever it does.
    private static func use(_ path: String, runs: Bool = true) throws {
        let saved = try SavedMachine(path: path)
        var configuration = saved.configuration
        configuration.technique = try Technique(parsing: "traced")
        configuration.shadowMemoryBytes = 1 << 20
        let console = RecordingConsole()
        let machine = try VirtualMachine(restoring: saved, configuration, console: console)
        guard runs else { return }
        console.onIdle = { [flag = machine.stopFlag] in flag.requestStop() }
        var polls = 0
        console.onPoll = { [flag = machine.stopFlag] in
            polls += 1
            if polls > 20 { flag.requestStop() }
        }
        machine.pausePoint = machine.retired + 20_000
        _ = machine.run()
    }

    /// Why a file is refused; nil if it is not.
    private static func refusal(_ path: String, runs: Bool = false) -> SavedMachineError? {
        do {
            try use(path, runs: runs)
            return nil
        } catch let error as SavedMachineError {
            return error
        } catch MachineError.saved(let error) {
            return error
        } catch {
            Issue.record("\(error)")
            return nil
        }
    }

    @Test("a file that ends anywhere before its end is refused in one line")
    func truncated() throws {
        let folder = SavingFolder()
        _ = try Self.saved(folder)
        let bytes = folder.bytes("saved")
        #expect(Self.refusal(folder.file("saved")) == nil)
        let lengths =
            Array(0..<120) + Array(stride(from: 120, to: bytes.count, by: 97))
            + Array(bytes.count - 300..<bytes.count)
        for length in lengths {
            folder.write("cut", Array(bytes.prefix(length)))
            let error = try #require(Self.refusal(folder.file("cut")), "\(length) bytes")
            #expect(!error.description.contains("\n"))
            if length >= SavedFile.headerBytes {
                guard case .damaged = error else {
                    Issue.record("\(length): \(error)")
                    return
                }
            }
        }
        folder.write("longer", bytes + [0])
        #expect(Self.refusal(folder.file("longer")) != nil)
    }

    @Test("a file with any byte changed is refused")
    func altered() throws {
        let folder = SavingFolder()
        _ = try Self.saved(folder)
        let bytes = folder.bytes("saved")
        // Everything but most of the memory, and that here and there.
        let places =
            Array(0..<min(4000, bytes.count)) + Array(stride(from: 4000, to: bytes.count, by: 41))
            + Array(bytes.count - 300..<bytes.count)
        for (index, place) in places.enumerated() {
            var changed = bytes
            changed[place] ^= 1 << UInt8(index & 7)
            folder.write("changed", changed)
            #expect(Self.refusal(folder.file("changed")) != nil, "byte \(place)")
        }
    }

    @Test("a file of another version says which, and other files are no saved machines")
    func alien() throws {
        let folder = SavingFolder()
        _ = try Self.saved(folder)
        var bytes = folder.bytes("saved")
        bytes[8] = 99
        folder.write("new", bytes)
        #expect(
            Self.refusal(folder.file("new")) == .otherVersion(path: folder.file("new"), 99))
        folder.write("empty", [])
        folder.write("text", Array("This is no machine, and never was one.\n".utf8))
        folder.write("zeroes", [UInt8](repeating: 0, count: 100_000))
        for name in ["empty", "text", "zeroes"] {
            let path = folder.file(name)
            #expect(Self.refusal(path) == .noSavedMachine(path: path))
        }
        unsafe mkfifo(folder.file("pipe"), 0o600)
        #expect(
            Self.refusal(folder.file("pipe")) == .noSavedMachine(path: folder.file("pipe")))
        #expect(Self.refusal(folder.path) != nil)
        let missing = folder.file("missing")
        #expect(Self.refusal(missing) == .cannotRead(path: missing, .noSuchFileOrDirectory))
    }

    // MARK: Files whose checksums are right

    /// Takes a file apart.
    private static func sections(_ bytes: [UInt8]) throws -> [(name: String, bytes: [UInt8])] {
        let count = SavedFile.names(processors: 2).count
        let start = bytes.count - count * SavedFile.entryBytes
        let table = try #require(SavedFile.sections(Array(bytes[start...]), end: UInt64(start)))
        return table.map {
            ($0.name, Array(bytes[Int($0.offset)..<Int($0.offset + $0.length)]))
        }
    }

    /// Puts one together, with the checksums that it must have.
    private static func file(_ sections: [(name: String, bytes: [UInt8])]) -> [UInt8] {
        var contents: [UInt8] = []
        var entries: [SavedFile.Section] = []
        for section in sections {
            entries.append(
                SavedFile.Section(
                    name: section.name, offset: UInt64(SavedFile.headerBytes + contents.count),
                    length: UInt64(section.bytes.count), checksum: Checksum.of(section.bytes)))
            contents += section.bytes
        }
        let table = SavedFile.table(entries)
        let end = UInt64(SavedFile.headerBytes + contents.count)
        return SavedFile.header(sections: entries.count, at: end, table: table) + contents + table
    }

    @Test("what is put together from a file's parts is the file")
    func rebuilt() throws {
        let folder = SavingFolder()
        _ = try Self.saved(folder)
        let bytes = folder.bytes("saved")
        #expect(try Self.file(Self.sections(bytes)) == bytes)
    }

    @Test("whatever the fields hold, they are refused or run, and nothing traps")
    func forgedFields() throws {
        let folder = SavingFolder()
        _ = try Self.saved(folder)
        let sections = try Self.sections(folder.bytes("saved"))
        var refused = 0
        var accepted = 0
        var bits: UInt64 = 1
        for index in sections.indices where sections[index].name != SavedFile.memory {
            for place in sections[index].bytes.indices {
                bits = bits &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                for value in [0, 0xff, UInt8(truncatingIfNeeded: bits >> 40)]
                where sections[index].bytes[place] != value {
                    var forged = sections
                    forged[index].bytes[place] = value
                    folder.write("forged", Self.file(forged))
                    if let error = Self.refusal(folder.file("forged"), runs: true) {
                        guard case .impossible = error else {
                            Issue.record("\(sections[index].name) \(place): \(error)")
                            continue
                        }
                        refused += 1
                    } else {
                        accepted += 1
                    }
                }
            }
        }
        // Fields with rules, and fields that may hold anything.
        #expect(refused > 1000)
        #expect(accepted > 1000)
    }

    @Test("sections that are missing, too short, too long or doubled are refused")
    func forgedSections() throws {
        let folder = SavingFolder()
        _ = try Self.saved(folder)
        let sections = try Self.sections(folder.bytes("saved"))
        func check(
            _ forged: [(name: String, bytes: [UInt8])],
            location: SourceLocation = #_sourceLocation
        ) {
            folder.write("forged", Self.file(forged))
            let error = Self.refusal(folder.file("forged"))
            #expect(error != nil, sourceLocation: location)
        }
        for index in sections.indices {
            var forged = sections
            forged.remove(at: index)
            check(forged)
            forged = sections
            forged.append(forged[index])
            check(forged)
            forged = sections
            forged[index].bytes.append(0)
            check(forged)
            for length in [0, 1, sections[index].bytes.count - 1] {
                forged = sections
                forged[index].bytes = Array(sections[index].bytes.prefix(length))
                check(forged)
            }
            forged = sections
            forged[index].bytes = [UInt8](repeating: 0, count: 2 << 20)
            check(forged)
        }
        check([])
    }

    /// A section of memory that holds these words and bytes.
    private static func memory(_ contents: [UInt8]) throws -> [UInt8] {
        let compressor = try #require(Compressor())
        var bytes: [UInt8] = []
        let isDone = unsafe contents.withUnsafeBytes { contents in
            unsafe compressor.add(contents, ends: true) { unsafe bytes += $0 }
        }
        #expect(isDone)
        return bytes
    }

    @Test("pages elsewhere than in RAM, out of order or too many at once are refused")
    func forgedMemory() throws {
        let folder = SavingFolder()
        let configuration = try Self.saved(folder)
        var sections = try Self.sections(folder.bytes("saved"))
        func words(_ words: UInt64...) -> [UInt8] {
            var writer = FieldWriter()
            for word in words { writer.put(word) }
            return writer.bytes
        }
        let page = [UInt8](repeating: 0x5a, count: 4096)
        let end = words(.max, 0)
        let last = configuration.memoryBytes / 4096 - 1
        func refusal(_ contents: [UInt8], more: [UInt8] = []) throws -> SavedMachineError? {
            sections[sections.count - 1].bytes = try Self.memory(contents) + more
            folder.write("forged", Self.file(sections))
            return Self.refusal(folder.file("forged"))
        }
        #expect(try refusal(end) == nil)
        #expect(try refusal(words(last, 1) + page + end) == nil)
        for contents in [
            [], words(last, 1) + page, words(last + 1, 1) + page + end,
            words(last, 2) + page + page + end, words(.max, 1) + page + end,
            words(.max - 1, 2) + page + page + end, words(5, 0) + end, words(0, 257) + end,
            words(0, .max) + end, words(3, 1) + page + words(3, 1) + page + end,
            words(3, 1) + page + words(2, 1) + page + end, words(0, 1) + end, end + end,
            words(1 << 20, 1) + page + end, end + [0],
        ] {
            #expect(try refusal(contents) != nil, "\(contents.prefix(16)) …")
        }
        #expect(try refusal(end, more: [0]) != nil)
        #expect(try refusal(end, more: Self.memory(end)) != nil)
        // Compressed a thousandfold, it is still no more than the machine's memory.
        let bomb = [UInt8](repeating: 0, count: 64 << 20)
        #expect(try refusal(words(0, 256) + bomb) != nil)
    }

    // MARK: Writing

    @Test("what cannot be written leaves the old file and nothing else")
    func unwritable() throws {
        let folder = SavingFolder()
        _ = try Self.saved(folder)
        let old = folder.bytes("saved")
        let saved = try SavedMachine(path: folder.file("saved"))
        let machine = try VirtualMachine(
            restoring: saved, saved.configuration, console: RecordingConsole())
        for path in ["/nonexistent/saved", folder.file("saved") + "/x", "/proc/saved"] {
            do {
                try machine.save(to: path)
                Issue.record("\(path)")
            } catch {
                guard case .cannotWrite(path, _) = error else {
                    Issue.record("\(error)")
                    continue
                }
            }
        }
        for path in [folder.path, "/dev/null"] {
            #expect(throws: SavedMachineError.noFile(path: path)) { try machine.save(to: path) }
        }
        // A machine that is saved over the file that it comes from is the same machine.
        try machine.save(to: folder.file("saved"))
        #expect(folder.bytes("saved") == old)
        #expect(folder.names == ["saved"])
    }

    @Test("a machine that is not the saved one is refused, and says in what it differs")
    func otherMachines() throws {
        let folder = SavingFolder()
        _ = try Self.saved(folder)
        func check(_ property: String, _ change: (inout MachineConfiguration) -> Void) throws {
            let saved = try SavedMachine(path: folder.file("saved"))
            var configuration = saved.configuration
            change(&configuration)
            do {
                _ = try VirtualMachine(
                    restoring: saved, configuration, console: RecordingConsole())
                Issue.record("\(property)")
            } catch {
                #expect(error.description.contains(property), "\(error)")
            }
        }
        try check("memory") { $0.memoryBytes = 32 << 20 }
        try check("number of processors") { $0.processors = 1 }
        try check("quantum") { $0.quantum = 77 }
        try check("interleaving") { $0.interleaving = 1 }
        try check("processor model") { $0.processorModel = "penumbra-v2,+rdrand" }
        try check("debug-exit port") { $0.debugExitPort = nil }
        try check("debug-exit size") { $0.debugExitSize = 1 }
        try check("debug console's port") { $0.debugConsolePort = 0x402 }
        try check("test device") { $0.hasTestDevice = true }
        try check("seed") { $0.seed = 1 }
        try check("start time") { $0.startTime = 1 }
    }
}
