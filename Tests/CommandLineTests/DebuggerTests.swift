import Foundation
import Glibc
import Testing

extension CommandLineTests {
    /// The real `gdb`, which `make setup` does not install: `Scripts/setup.sh gdb` does.
    @Suite(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/gdb")))
    struct DebuggerTests {
        private let folder: Scratch

        init() throws { folder = try Scratch() }

        /// What a run with a debugger has left.
        private struct Session {
            var debugger: Program.Result
            var ending: Program.Ending
            var output: String
            var errors: String

            var digest: Substring? {
                errors.split(separator: "\n").first { $0.contains("digest ") }
            }
        }

        /// Runs a guest that waits for a debugger, and `gdb` on it with some commands.
        private func debug(
            _ kernel: String, _ arguments: [String] = [], input: String = "", _ commands: [String]
        ) throws -> Session {
            let socket = folder.path("debugger")
            let inputFile = try Program.openFile(folder.file("in", Array(input.utf8)), O_RDONLY)
            let outputFile = try Program.openFile(folder.file("out"), O_RDWR)
            let errorFile = try Program.openFile(folder.file("err"), O_RDWR)
            defer { for file in [inputFile, outputFile, errorFile] { close(file) } }
            let process = try Program.start(
                [
                    Program.path, "run", "--kernel", kernel, "--digest", "-S", "-gdb",
                    "unix:\(socket)", "--device", "isa-debug-exit,iobase=0xf4",
                ] + arguments,
                input: inputFile, output: outputFile, errors: errorFile)
            for _ in 0..<6000 where try !folder.text("err").contains("waiting for a debugger") {
                usleep(10_000)
            }
            let all =
                ["set pagination off", "set confirm off", "target remote \(socket)"] + commands
            let debugger = try Program.runTool(
                ["/usr/bin/gdb", "-batch", "-nx"] + all.flatMap { ["-ex", $0] })
            let ending = Program.wait(for: process)
            return Session(
                debugger: debugger, ending: ending, output: try folder.text("out"),
                errors: try folder.text("err"))
        }

        /// The digest of a run without a debugger.
        private func digest(_ kernel: String, _ arguments: [String] = [], input: String) throws
            -> Substring
        {
            let result = try Program.runTool(
                [
                    Program.path, "run", "--kernel", kernel, "--digest", "--device",
                    "isa-debug-exit,iobase=0xf4",
                ] + arguments, input: input)
            return try #require(
                result.errorLines.first { $0.contains("digest ") }, "\(result.errors)")
        }

        @Test(arguments: ["bare", "traced"])
        func `gdb breaks, watches, steps and looks, and the run is the same as without it`(
            technique: String
        ) throws {
            let kernel = try folder.file("worker.elf", SmallGuest.worker)
            let arguments = ["-m", "16", "--mmu", technique]
            let plain = try digest(kernel, arguments, input: "b\n")
            let session = try debug(
                kernel, arguments, input: "b\n",
                [
                    "info registers rip cr0 efer", "info threads", "x/2i $pc", "stepi", "stepi",
                    // The store before the work, by its place behind "ready" and the marker.
                    "watch *(int*)0x200000", "continue", "print/x $rip",
                    "delete", "hbreak *$pc", "stepi", "delete", "break *$pc", "info registers rip",
                    "delete", "x/4xb 0x100000", "monitor info tlb", "monitor info shadow",
                    "monitor info trace", "monitor info registers", "monitor nothing",
                    "maintenance packet Qqemu.PhyMemMode:1", "x/1xw 0x100054", "detach",
                ])
            // GDB prints a target's texts on standard error.
            let text = session.debugger.output + session.debugger.errors
            #expect(session.debugger.ending == .exited(0), "\(session.debugger.errors)")
            #expect(session.ending == .exited(7), "\(session.errors)")
            #expect(session.digest == plain)
            for words in [
                "Hardware watchpoint", "processor 0, running, 32-bit",
                "0x7f\t0x45\t0x4c\t0x46", "technique \(technique)", "there is no command 'nothing'",
                "0x1badb002",
            ] {
                #expect(text.contains(words), "\(words) in \(text)")
            }
        }

        @Test func `what gdb writes changes the guest, and killing ends the machine`() throws {
            let kernel = try folder.file("worker.elf", SmallGuest.worker)
            let session = try debug(
                kernel, ["-m", "16"], input: "",
                [
                    "set $rax = 0x1234", "print/x $rax", "set *(int*)0x200000 = 0x55aa",
                    "x/1xw 0x200000", "kill",
                ])
            #expect(session.debugger.output.contains("= 0x1234"), "\(session.debugger.output)")
            #expect(session.debugger.output.contains("0x000055aa"))
            #expect(session.ending == .exited(0), "\(session.errors)")
        }

        @Test func `a debugger is told how the machine ended`() throws {
            let kernel = try folder.file("marker.elf", SmallGuest.marker)
            let session = try debug(kernel, ["-m", "16"], ["continue"])
            #expect(session.debugger.output.contains("exited with code 07"))
            #expect(session.ending == .exited(7), "\(session.errors)")
        }
    }
}

extension CommandLineTests {
    @Suite struct DebuggerAddressTests {
        private func run(_ arguments: [String]) throws -> Program.Result {
            let folder = try Scratch()
            let kernel = try folder.file("marker.elf", SmallGuest.marker)
            return try Program.runTool(
                [Program.path, "run", "--kernel", kernel, "-m", "16"] + arguments)
        }

        @Test func `an address for debuggers that cannot be had is refused in one line`() throws {
            for (arguments, status, words) in [
                (["-gdb", "tcp:nowhere:1"], 64, "tcp:HOST:PORT"),
                (["-gdb", "unix:/nonexistent/socket"], 1, "unix:/nonexistent/socket"),
                (["-S"], 64, "-S waits for a debugger"),
                (["-s", "-gdb", "tcp::1"], 64, "give one of them"),
            ] as [([String], Int32, String)] {
                let result = try run(arguments)
                #expect(result.ending == .exited(status), "\(result.errors)")
                #expect(result.errorLines.count == 1, "\(result.errors)")
                #expect(result.errors.contains(words), "\(result.errors)")
            }
        }

        @Test func `a socket that is taken is refused in one line`() throws {
            let folder = try Scratch()
            let path = try folder.file("taken")
            let result = try run(["-gdb", "unix:\(path)"])
            #expect(result.ending == .exited(1))
            #expect(result.errorLines.count == 1, "\(result.errors)")
            #expect(result.errors.contains("in use"), "\(result.errors)")
        }

        @Test func `a machine that a debugger may come to runs to its end without one`() throws {
            let result = try run([
                "-gdb", "tcp::0", "--device", "isa-debug-exit,iobase=0xf4",
            ])
            #expect(result.ending == .exited(7))
            #expect(result.errors.contains("waiting for a debugger at tcp:127.0.0.1:"))
        }
    }
}
