import Foundation
import Glibc
import Testing

extension CommandLineTests {
    @Suite struct TerminalTests {
        private let folder: Scratch
        private let terminal: PseudoTerminal
        private let before: [UInt32]

        init() throws {
            folder = try Scratch()
            terminal = try PseudoTerminal()
            before = terminal.settings
            try #require(!before.isEmpty && !terminal.isRaw)
        }

        /// Starts a guest on the terminal, its errors in a file, and waits until it talks.
        private func start(
            _ guest: [UInt8] = SmallGuest.echo, _ more: [String] = []
        ) throws -> pid_t {
            let kernel = try folder.file("echo.elf", guest)
            let errors = try Program.openFile(folder.file("err"), O_RDWR)
            defer { close(errors) }
            let process = try Program.start(
                [
                    Program.path, "run", "--kernel", kernel, "--device",
                    "isa-debug-exit,iobase=0xf4",
                ] + more, input: terminal.terminal, output: terminal.terminal, errors: errors)
            guard terminal.waits(for: "ready\r\n") else {
                kill(process, SIGKILL)
                _ = Program.wait(for: process)
                Issue.record("the guest did not start: \(try folder.text("err"))")
                throw CancellationError()
            }
            return process
        }

        @Test func `the terminal is raw while the guest runs, and restored when it ends`() throws {
            let process = try start()
            #expect(terminal.isRaw)
            // Ctrl-C and Ctrl-Z are the guest's.
            try terminal.type("a\u{3}\u{1A}b")
            #expect(terminal.waits(for: "a\u{3}\u{1A}b"))
            try terminal.type("q")
            #expect(Program.wait(for: process) == .exited(7))
            #expect(terminal.settings == before)
        }

        @Test func `Ctrl-A X ends the machine, twice Ctrl-A sends one, Ctrl-A H helps`() throws {
            let process = try start()
            try terminal.type("\u{1}h\u{1}?\u{1}\u{1}.\u{1}")
            #expect(terminal.waits(for: "\u{1}."))
            try terminal.type("x")
            #expect(Program.wait(for: process) == .exited(0))
            #expect(terminal.settings == before)
            let help = try folder.text("err").components(separatedBy: "Ctrl-A X").count - 1
            #expect(help == 2)
        }

        @Test func `Ctrl-A S saves the machine, which goes on, each time that it is pressed`()
            throws
        {
            let saved = folder.path("saved.pnb")
            let process = try start(SmallGuest.echo, ["-m", "16", "--save", saved])
            try terminal.type("a\u{1}s")
            #expect(terminal.waits(for: "a"))
            #expect(waits(forFile: saved))
            let first = try Data(contentsOf: URL(filePath: saved))
            try terminal.type("b")
            #expect(terminal.waits(for: "b"))
            try terminal.type("\u{1}Sc")
            #expect(terminal.waits(for: "c"))
            try terminal.type("q")
            #expect(Program.wait(for: process) == .exited(7))
            #expect(try Data(contentsOf: URL(filePath: saved)) != first)
            #expect(terminal.settings == before)
            // The saved machine waits for what is typed next.
            let result = try Program.run("run", "--restore", saved, input: "dq")
            #expect(result.ending == .exited(7))
            #expect(result.output.hasSuffix("d"))
        }

        /// Waits until a file is there; false where it is not after a minute.
        private func waits(forFile path: String) -> Bool {
            for _ in 0..<30_000 {
                if FileManager.default.fileExists(atPath: path) { return true }
                usleep(2000)
            }
            return false
        }

        @Test func `without --save, Ctrl-A S says what is missing`() throws {
            let process = try start()
            try terminal.type("\u{1}sa")
            #expect(terminal.waits(for: "a"))
            try terminal.type("q")
            #expect(Program.wait(for: process) == .exited(7))
            #expect(try folder.text("err").contains("give --save FILE"))
        }

        @Test func `Ctrl-A X ends a guest that never reads what was typed`() throws {
            let process = try start(SmallGuest.deaf)
            // More than the serial port holds.
            try terminal.type(String(repeating: "a", count: 100) + "\u{1}x")
            #expect(Program.wait(for: process) == .exited(0))
            #expect(terminal.settings == before)
        }

        @Test(arguments: [SIGHUP, SIGINT, SIGQUIT, SIGTERM])
        func `a signal ends the machine and restores the terminal`(signal: Int32) throws {
            let process = try start()
            #expect(terminal.isRaw)
            kill(process, signal)
            #expect(Program.wait(for: process) == .exited(128 + signal))
            #expect(terminal.settings == before)
            #expect(try folder.text("err").contains("signal \(signal)"))
        }

        @Test(arguments: [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT])
        func `a crash restores the terminal, and is still a crash`(signal: Int32) throws {
            let process = try start()
            kill(process, signal)
            #expect(Program.wait(for: process) == .signaled(signal))
            #expect(terminal.settings == before)
        }

        @Test func `the terminal is restored while the process is paused`() throws {
            let process = try start()
            kill(process, SIGTSTP)
            var status: Int32 = 0
            #expect(unsafe waitpid(process, &status, WUNTRACED) == process)
            #expect(status & 0xFF == 0x7F, "the process has not stopped")
            #expect(terminal.settings == before)
            kill(process, SIGCONT)
            // Before it is raw the terminal itself would echo what is typed.
            #expect(terminal.waitsUntilRaw())
            try terminal.type("still here")
            #expect(terminal.waits(for: "still here"))
            try terminal.type("q")
            #expect(Program.wait(for: process) == .exited(7))
            #expect(terminal.settings == before)
        }

        @Test func `a terminal that hangs up ends the machine`() throws {
            let process = try start()
            terminal.hangUp()
            #expect(Program.wait(for: process) == .exited(1))
            #expect(try folder.text("err").contains("console went away"))
        }

        @Test func `output that nobody reads any more ends the machine`() throws {
            let kernel = try folder.file("flood.elf", SmallGuest.flood)
            let input = try Program.openFile("/dev/null", O_RDONLY)
            let errors = try Program.openFile(folder.file("err"), O_RDWR)
            var ends: [Int32] = [-1, -1]
            try #require(unsafe pipe(&ends) == 0)
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            let process = try Program.start(
                [Program.path, "run", "--kernel", kernel], input: input, output: ends[1],
                errors: errors)
            for descriptor in [input, errors, ends[1]] { close(descriptor) }
            var byte: UInt8 = 0
            #expect(unsafe read(ends[0], &byte, 1) == 1)
            #expect(byte == UInt8(ascii: "A"))
            close(ends[0])
            #expect(Program.wait(for: process) == .exited(1))
            #expect(try folder.text("err").contains("console went away"))
        }
    }
}
