import Foundation
import Testing

extension CommandLineTests {
    @Suite struct SavingTests {
        private let folder: Scratch
        private let kernel: String
        private let saved: String

        init() throws {
            folder = try Scratch()
            kernel = try folder.file("echo.elf", SmallGuest.echo)
            saved = folder.path("saved.pnb")
        }

        private var device: [String] { ["--device", "isa-debug-exit,iobase=0xf4"] }

        private func save(_ arguments: String...) throws -> Program.Result {
            try Program.runTool(
                [Program.path, "run", "--kernel", kernel, "-m", "16"] + device + arguments)
        }

        private func digest(_ result: Program.Result) throws -> Substring {
            try #require(
                result.errorLines.first { $0.contains("digest ") }, "\(result.errors)")
        }

        @Test func `a machine is saved at a count and goes on elsewhere, to the same digest`()
            throws
        {
            let whole = try Program.run(
                "run", "--kernel", kernel, "-m", "16", "--device", "isa-debug-exit,iobase=0xf4",
                "--digest", input: "q")
            #expect(whole.ending == .exited(7))
            // In the middle of "ready".
            let first = try save("--save", saved, "--save-at", "6", "--mmu", "trap")
            #expect(first.ending == .exited(0), "\(first.errors)")
            #expect(first.errors.contains("saved the machine at 6 instructions in \(saved)"))
            let second = try Program.run(
                "run", "--restore", saved, "--mmu", "traced", "--digest", input: "q")
            #expect(second.ending == .exited(7), "\(second.errors)")
            #expect(first.output + second.output == whole.output)
            #expect(try digest(second) == digest(whole))
            // Only its owner may read what was in the guest's memory.
            let mode = try FileManager.default.attributesOfItem(atPath: saved)[.posixPermissions]
            #expect(mode as? Int == 0o600)
        }

        @Test func `a restored machine says where it comes from, and its counts begin at zero`()
            throws
        {
            _ = try save("--save", saved, "--save-at", "6")
            let ledger = folder.path("ledger.json")
            let result = try Program.run(
                "run", "--restore", saved, "--ledger", ledger, input: "q")
            #expect(result.ending == .exited(7), "\(result.errors)")
            let json = try #require(
                JSONSerialization.jsonObject(with: Data(folder.text("ledger.json").utf8))
                    as? [String: Any])
            let facts = try #require(json["facts"] as? [String: String])
            #expect(facts["restored"] == saved)
            let counts = try #require(json["ledger"] as? [String: [String: Int]])
            let instructions = try #require(counts["execution"]?["instructions"])
            #expect(try #require(Int(facts["retired"] ?? "")) == instructions + 6)
        }

        @Test(
            arguments: [
                ["-m", "32"], ["-smp", "2"], ["--cpu", "penumbra-v2,+rdrand"], ["--seed", "5"],
                ["--quantum", "9"], ["--interleaving", "1"], ["--device", "pc-testdev"],
                ["--device", "isa-debug-exit,iobase=0x501"],
            ])
        func `options that contradict a saved machine are refused`(options: [String]) throws {
            _ = try save("--save", saved, "--save-at", "6")
            let result = try Program.runTool(
                [Program.path, "run", "--restore", saved] + options)
            #expect(result.ending == .exited(1))
            #expect(result.errorLines.count == 1, "\(result.errors)")
            #expect(result.errors.contains("holds a machine whose"))
        }

        @Test func `options that agree with it, and those that are free, are taken`() throws {
            _ = try save("--save", saved, "--save-at", "6")
            let result = try Program.runTool(
                [
                    Program.path, "run", "--restore", saved, "-m", "16M", "-smp", "1", "--seed",
                    "0", "--cpu", "penumbra-v2", "--quantum", "10000", "--mmu", "nested",
                    "--hardware", "tlb=keep", "--clock", "host", "--verify", "--shadow-memory",
                    "1M",
                ] + device, input: "q")
            #expect(result.ending == .exited(7), "\(result.errors)")
        }

        @Test func `what is no saved machine is refused in one line`() throws {
            _ = try save("--save", saved, "--save-at", "6")
            let whole = try Data(contentsOf: URL(filePath: saved))
            _ = try folder.file("short.pnb", Array(whole.dropLast(1)))
            var other = Array(whole)
            other[8] &+= 1
            _ = try folder.file("other.pnb", other)
            for (name, words) in [
                ("missing.pnb", "missing.pnb"), ("echo.elf", "no saved machine"),
                ("short.pnb", "damaged"), ("other.pnb", "format \(other[8])"),
            ] {
                let result = try Program.run("run", "--restore", folder.path(name))
                #expect(result.ending == .exited(1))
                #expect(result.errorLines.count == 1, "\(result.errors)")
                #expect(result.errors.contains(words), "\(result.errors)")
            }
        }

        @Test func `a guest that ends before it is saved is an error`() throws {
            let result = try Program.run(
                "run", "--kernel", kernel, "-m", "16", "--save", saved, "--save-at", "99999999",
                "--device", "isa-debug-exit,iobase=0xf4", input: "q")
            #expect(result.ending == .exited(1))
            #expect(result.errors.contains("nothing was saved"), "\(result.errors)")
            #expect(!FileManager.default.fileExists(atPath: saved))
        }

        @Test func `a point that is past is refused`() throws {
            _ = try save("--save", saved, "--save-at", "6")
            let result = try Program.run(
                "run", "--restore", saved, "--save", saved, "--save-at", "5")
            #expect(result.ending == .exited(1))
            #expect(result.errors.contains("past"), "\(result.errors)")
        }

        @Test func `saving needs a file and a moment`() throws {
            for arguments in [["--save-at", "5"], ["--save", saved], ["--save-at=x"]] {
                let result = try Program.runTool(
                    [Program.path, "run", "--kernel", kernel] + arguments)
                #expect(result.ending == .exited(64))
                #expect(result.errors.contains("--save-at"), "\(result.errors)")
            }
        }

        @Test func `a file that cannot be written is known before the run`() throws {
            for path in ["/nonexistent/saved.pnb", folder.url.path, "/dev/null"] {
                let result = try save("--save", path, "--save-at", "6")
                #expect(result.ending == .exited(1))
                #expect(result.output == "")
                #expect(result.errors.contains("cannot save the machine in \(path)"))
            }
        }

        @Test func `a full disk leaves the old file and nothing else`() throws {
            _ = try save("--save", saved, "--save-at", "6")
            let old = try Data(contentsOf: URL(filePath: saved))
            // The shell's unit is 512 bytes; the memory alone is larger.
            let result = try Program.runTool([
                "/bin/sh", "-c", "ulimit -f 1; exec \"$@\"", "sh", Program.path, "run", "--kernel",
                kernel, "-m", "16", "--save", saved, "--save-at", "7", "--mmu",
                "bare",
            ])
            #expect(result.ending == .exited(1), "\(result.errors)")
            #expect(result.errors.contains("cannot save the machine in \(saved)"))
            #expect(try Data(contentsOf: URL(filePath: saved)) == old)
            let names = try FileManager.default.contentsOfDirectory(atPath: folder.url.path)
            #expect(names.sorted() == ["echo.elf", "saved.pnb"])
        }

        @Test func `a kill at any moment leaves the old file or the new one`() throws {
            _ = try save("--save", saved, "--save-at", "6")
            let old = try Data(contentsOf: URL(filePath: saved))
            let guest = URL(filePath: #filePath).deletingLastPathComponent()
                .appending(path: "../../Guests/.fetched/vmlinuz").standardized.path
            // At this moment memory holds the kernel, compressed already: it takes a while to write.
            var completed = 0
            for round in 0..<12 {
                let null = try Program.openFile("/dev/null", O_RDWR)
                defer { close(null) }
                let process = try Program.start(
                    [
                        Program.path, "run", "--kernel", guest, "--mmu", "bare", "--save", saved,
                        "--save-at", "3000000",
                    ], input: null, output: null, errors: null)
                usleep(UInt32(20_000 + round * 15_000))
                kill(process, SIGKILL)
                _ = Program.wait(for: process)
                let now = try Data(contentsOf: URL(filePath: saved))
                if now != old {
                    completed += 1
                    let check = try Program.run(
                        "run", "--restore", saved, "--save", folder.path("check"), "--save-at",
                        "3000001")
                    #expect(check.ending == .exited(0), "\(check.errors)")
                    try old.write(to: URL(filePath: saved))
                }
                // What is left behind never looks whole.
                for name in try FileManager.default.contentsOfDirectory(atPath: folder.url.path)
                where name.hasSuffix(".partial") {
                    let result = try Program.run("run", "--restore", folder.path(name))
                    #expect(result.ending == .exited(1))
                    try FileManager.default.removeItem(atPath: folder.path(name))
                }
            }
            // A run that nothing kills saves.
            let last = try Program.run(
                "run", "--kernel", guest, "--mmu", "bare", "--save", saved, "--save-at", "3000000")
            #expect(last.ending == .exited(0), "\(last.errors)")
            #expect(try Data(contentsOf: URL(filePath: saved)) != old)
        }
    }
}
