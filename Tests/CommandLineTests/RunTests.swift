import Foundation
import Processor
import Testing

extension CommandLineTests {
    @Suite struct RunTests {
        @Test func `the debug-exit device gives the status, in QEMU's spelling`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("echo.elf", SmallGuest.echo)
            let result = try Program.run(
                "run", "-kernel", kernel, "-append", "-v words", "-m", "32", "-smp", "1",
                "-nographic", "-no-reboot", "-serial", "mon:stdio", "-display", "none",
                "-monitor", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
                input: "abc\u{1}xq")
            #expect(result.ending == .exited(7))
            // Standard input is no terminal: Ctrl-A is a byte as any other.
            #expect(result.output == "ready\r\nabc\u{1}x")
        }

        @Test func `every run states engine, technique, processor, clock and memory`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("echo.elf", SmallGuest.echo)
            let result = try Program.run(
                "run", "--kernel", kernel, "--memory", "64M", "--mmu", "traced,capacity=8192",
                "--hardware", "tlb=fragment,tlb=keep", "--device", "isa-debug-exit,iobase=244",
                input: "q")
            #expect(result.ending == .exited(7))
            #expect(result.errorLines.count == 1)
            for words in [
                "engine \(Engine.standard)",
                "technique traced,indication=entry,record=address,capacity=8192,",
                "processor penumbra-v2", "hardware tlb=keep,tlb=fragment", "clock virtual",
                "memory 64 MiB",
            ] {
                #expect(result.errors.contains(words), "\(result.errors)")
            }
        }

        @Test func `the ledger is written as JSON and shown as a table`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("echo.elf", SmallGuest.echo)
            // What was there is longer than the ledger, and is replaced whole.
            let path = try folder.file("ledger.json", Array(repeating: 0x78, count: 100_000))
            let result = try Program.run(
                "run", "--kernel", kernel, "--mmu", "bare", "--ledger", path, "--show-ledger",
                "--device", "isa-debug-exit,iobase=0xf4", input: "q")
            #expect(result.ending == .exited(7))
            #expect(result.errors.contains("Exits by reason"))
            let text = try folder.text("ledger.json")
            let json = try #require(
                JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
            #expect(json["version"] as? Int == 1)
            let facts = try #require(json["facts"] as? [String: String])
            #expect(facts["technique"] == "bare")
            #expect(facts["hardware"] == "default")
            #expect(facts["outcome"] == "debug exit 7")
            let ledger = try #require(json["ledger"] as? [String: [String: Int]])
            #expect(try #require(ledger["execution"]?["instructions"]) > 20)
        }

        @Test func `the ledger is in parts, by region and by the guest's functions`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("marker.elf", SmallGuest.marker)
            let symbols = try folder.file("map", Array("100000 T begin_here\n".utf8))
            let path = folder.path("ledger.json")
            let result = try Program.run(
                "run", "--kernel", kernel, "--mmu", "traced", "--ledger", path, "--symbols",
                symbols, "--device", "isa-debug-exit,iobase=0xf4")
            #expect(result.ending == .exited(7))
            let json = try #require(
                JSONSerialization.jsonObject(with: Data(folder.text("ledger.json").utf8))
                    as? [String: Any])
            let regions = try #require(json["regions"] as? [String: [String: Any]])
            #expect(Set(regions.keys) == ["outside", "9"])
            let ledger = try #require(regions["9"]?["ledger"] as? [String: [String: Int]])
            #expect(ledger["execution"]?["instructions"] == 2)
            let functions = try #require(
                regions["outside"]?["exits-by-function"] as? [String: Any])
            let top = try #require(functions["top"] as? [[String: Any]])
            #expect(top.first?["place"] as? String == "begin_here")
        }

        @Test func `a run can end where a region begins`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("marker.elf", SmallGuest.marker)
            let result = try Program.run(
                "run", "--kernel", kernel, "--stop-at-region", "9", "--show-ledger", "--device",
                "isa-debug-exit,iobase=0xf4")
            #expect(result.ending == .exited(0))
            #expect(result.errors.contains("Region 9, begun 1 times"))
        }

        @Test func `a violation under --verify has its own status and lines`() throws {
            let kernel = URL(filePath: #filePath).deletingLastPathComponent()
                .appending(path: "../../Guests/.fetched/testkernel.elf").standardized.path
            let sound = try Program.run(
                "run", "--verify", "--kernel", kernel, "--append", "lawful step=200", "--mmu",
                "bare", "--device", "isa-debug-exit,iobase=0xf4")
            #expect(sound.ending == .exited(1))
            #expect(sound.errors.contains("--verify: judged"))
            let faulty = try Program.run(
                "run", "--verify", "--kernel", kernel, "--append", "lawful step=200", "--mmu",
                "bare", "--hardware", "erratum=cached-not-accessed", "--device",
                "isa-debug-exit,iobase=0xf4")
            #expect(faulty.ending == .exited(4))
            #expect(
                faulty.errors.contains(
                    "unlawful translation: an entry whose A is clear is never cached\n  taken"))
        }

        @Test func `a triple fault has its own status and line`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("triple.elf", SmallGuest.tripleFault)
            let result = try Program.run("run", "--kernel", kernel, "--no-reboot")
            #expect(result.ending == .exited(2))
            #expect(result.errorLines.last?.contains("shut down") == true, "\(result.errors)")
        }

        @Test func `two runs have one digest`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("echo.elf", SmallGuest.echo)
            func digest() throws -> Substring {
                let result = try Program.run(
                    "run", "--kernel", kernel, "--digest", "--device", "isa-debug-exit,iobase=0xf4",
                    input: "q")
                return try #require(result.errorLines.first { $0.contains("penumbra: digest ") })
            }
            #expect(try digest() == digest())
        }

        @Test func `help and version are no errors`() throws {
            for arguments in [["--help"], ["run", "--help"], ["--version"], ["help", "doctor"]] {
                let result = try Program.runTool([Program.path] + arguments)
                #expect(result.ending == .exited(0))
                #expect(!result.output.isEmpty)
                #expect(result.errors == "")
            }
        }

        @Test func `the doctor checks one thing a line`() throws {
            let result = try Program.run("doctor")
            #expect(result.ending == .exited(0), "\(result.output)")
            let lines = result.output.split(separator: "\n")
            #expect(lines.count == 6)
            for subject in ["executable memory", "decoder", "memory", "default guest", "terminal"] {
                #expect(lines.contains { $0.dropFirst(6).hasPrefix(subject + ":") })
            }
        }
    }
}
