import Foundation
import Glibc
import Processor
import Testing

extension CommandLineTests {
    /// `--log translate` and `--perf-map`.
    @Suite struct TranslationLogTests {
        private let folder: Scratch
        private static let testKernel = URL(filePath: Program.path)
            .appending(path: "../../../../Guests/.fetched/testkernel.elf").standardized.path

        init() throws { folder = try Scratch() }

        /// Runs a list of the test kernel, and returns how it ended, what it said and its number.
        private func run(_ arguments: String...) throws -> (Program.Ending, String, pid_t) {
            let input = try Program.openFile("/dev/null", O_RDONLY)
            let output = try Program.openFile(folder.file("out"), O_RDWR)
            let errors = try Program.openFile(folder.file("err"), O_RDWR)
            defer { for file in [input, output, errors] { close(file) } }
            let process = try Program.start(
                [
                    Program.path, "run", "--kernel", Self.testKernel, "--append", "timers",
                    "--device", "isa-debug-exit,iobase=0xf4",
                ] + arguments, input: input, output: output, errors: errors)
            return (Program.wait(for: process), try folder.text("err"), process)
        }

        @Test(.enabled(if: Engine.translatorLack == nil))
        func `the listing and perf's map name the same blocks`() throws {
            let log = folder.path("listing")
            let (ending, errors, process) = try run(
                "--log", "translate", "--log-file", log, "--perf-map")
            let map = "/tmp/perf-\(process).map"
            defer { _ = unsafe unlink(map) }
            #expect(ending == .exited(1), "\(errors)")
            // ADDRESS SIZE NAME; no two meet, since the test kernel does not fill the memory.
            let lines = try String(contentsOfFile: map, encoding: .utf8).split(separator: "\n")
                .map { $0.split(separator: " ", maxSplits: 2) }
            #expect(lines.allSatisfy { $0.count == 3 })
            let spans = lines.compactMap { line -> Range<UInt64>? in
                guard let start = UInt64(line[0], radix: 16), let size = UInt64(line[1], radix: 16)
                else { return nil }
                return start..<start + size
            }
            #expect(spans.count == lines.count)
            let sorted = spans.sorted { $0.lowerBound < $1.lowerBound }
            #expect(zip(sorted, sorted.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
            let mapped = lines.map { String($0[2]) }
                .filter { $0.hasPrefix("guest") && !$0.hasSuffix(".cold") }
            #expect(lines.contains { $0[2] == "penumbra:enter" })

            let listing = try String(contentsOfFile: log, encoding: .utf8)
            let headings = listing.split(separator: "\n")
                .filter { $0.hasSuffix(" cold") && $0.contains("of host code") }
            let listed = headings.map { line in
                let words = line.split(separator: " ")
                return "guest\(words[1].hasPrefix("user") ? "-user" : ""):0x\(words[0])"
            }
            #expect(listed.count > 20)
            #expect(listed == mapped)
        }

        @Test func `under the interpreter it says that nothing is translated`() throws {
            let (ending, errors, _) = try run("--log", "translate", "--engine", "interpreter")
            #expect(ending == .exited(1))
            #expect(errors.contains("nothing is translated: the interpreter is in use"))
        }

        @Test func `what cannot be logged is refused, and so is a file for nothing`() throws {
            let unknown = try Program.run("run", "--log", "everything")
            #expect(unknown.ending == .exited(64))
            #expect(unknown.errors.contains("translate"))
            let file = try Program.run("run", "--log-file", folder.path("x"))
            #expect(file.ending == .exited(64))
            #expect(file.errors.contains("--log translate"))
        }

        @Test func `a file that cannot be written is named before the run`() throws {
            let result = try Program.run(
                "run", "--log", "translate", "--log-file", "/nowhere/log", "--kernel",
                Self.testKernel)
            #expect(result.errors.contains("cannot write /nowhere/log"))
            #expect(result.output.isEmpty)
        }
    }
}
