import Foundation
import Testing

/// Every test that starts processes, one after another: each has the machine to itself.
@Suite(.serialized, .timeLimit(.minutes(5))) struct CommandLineTests {}

extension CommandLineTests {
    @Suite struct BadInputTests {
        /// Expects an error in one line on standard error that holds `words`, and nothing else.
        private func expectError(
            _ result: Program.Result, status: Int32, _ words: String...,
            location: SourceLocation = #_sourceLocation
        ) {
            #expect(result.ending == .exited(status), sourceLocation: location)
            #expect(result.output == "", sourceLocation: location)
            #expect(result.errorLines.count == 1, "\(result.errors)", sourceLocation: location)
            #expect(result.errors.hasPrefix("penumbra: "), sourceLocation: location)
            for word in words {
                #expect(result.errors.contains(word), sourceLocation: location)
            }
        }

        /// The kernel that the set-up fetched.
        private func fetchedKernel() throws -> String {
            let path = URL(filePath: #filePath).deletingLastPathComponent()
                .appending(path: "../../Guests/.fetched/vmlinuz").standardized.path
            try #require(FileManager.default.isReadableFile(atPath: path), "run `make setup`")
            return path
        }

        @Test func `a missing kernel is named`() throws {
            let result = try Program.run("run", "--kernel", "/nonexistent/vmlinuz")
            expectError(result, status: 1, "/nonexistent/vmlinuz")
        }

        @Test func `a directory is no kernel`() throws {
            let folder = try Scratch()
            let result = try Program.run("run", "--kernel", folder.url.path)
            expectError(result, status: 1, folder.url.lastPathComponent)
        }

        @Test(arguments: [0, 1, 511, 600, 4096])
        func `a kernel that ends too soon is refused`(length: Int) throws {
            let folder = try Scratch()
            let whole = try Data(contentsOf: URL(filePath: fetchedKernel()))
            let kernel = try folder.file("vmlinuz", Array(whole.prefix(length)))
            expectError(try Program.run("run", "--kernel", kernel), status: 1, "vmlinuz")
        }

        @Test(arguments: [10, 60, 90, 100])
        func `a multiboot file that ends too soon is refused`(length: Int) throws {
            let folder = try Scratch()
            let kernel = try folder.file("small.elf", Array(SmallGuest.echo.prefix(length)))
            expectError(try Program.run("run", "--kernel", kernel), status: 1, "small.elf")
        }

        @Test func `a file that is no kernel is refused`() throws {
            let folder = try Scratch()
            let text = String(repeating: "This is a text, not a kernel.\n", count: 1000)
            let kernel = try folder.file("text", Array(text.utf8))
            expectError(try Program.run("run", "--kernel", kernel), status: 1, "text")
        }

        @Test func `a missing initrd is named`() throws {
            let result = try Program.run(
                "run", "--kernel", try fetchedKernel(), "--initrd", "/nonexistent/initrd")
            expectError(result, status: 1, "/nonexistent/initrd")
        }

        @Test func `a directory is no initrd`() throws {
            let folder = try Scratch()
            let result = try Program.run(
                "run", "--kernel", try fetchedKernel(), "--initrd", folder.url.path)
            expectError(result, status: 1, folder.url.lastPathComponent)
        }

        @Test(arguments: ["1M", "4M", "16M"])
        func `memory that cannot hold the kernel is refused`(size: String) throws {
            let result = try Program.run("run", "--kernel", try fetchedKernel(), "-m", size)
            expectError(result, status: 1, "memory")
        }

        @Test func `memory that no host has is refused`() throws {
            let result = try Program.run("run", "--kernel", try fetchedKernel(), "-m", "900000G")
            expectError(result, status: 1, "memory")
        }

        @Test(arguments: ["", "0", "-1", "x", "1x", "1.5G", "99999999999999999999", "99999999999T"])
        func `what is no size of memory is refused`(size: String) throws {
            expectError(try Program.run("run", "--memory=\(size)"), status: 64, "memory")
        }

        @Test func `an unknown option is refused`() throws {
            expectError(try Program.run("run", "--frobnicate"), status: 64, "--frobnicate")
        }

        @Test func `an unknown command is refused`() throws {
            expectError(try Program.run("walk"), status: 64, "walk")
        }

        @Test(arguments: ["pentium9", "penumbra-v2,+frobnication", "penumbra-v2,rdrand"])
        func `an unknown processor model or feature is refused`(model: String) throws {
            let folder = try Scratch()
            let kernel = try folder.file("echo.elf", SmallGuest.echo)
            let result = try Program.run("run", "--kernel", kernel, "--cpu=\(model)")
            expectError(result, status: 1)
        }

        @Test(arguments: ["17", "cpus=17", "9223372036854775807"])
        func `more than 16 processors are refused`(count: String) throws {
            expectError(try Program.run("run", "-smp", count), status: 64, "at most 16")
        }

        @Test(arguments: ["0", "-1", "x", "18446744073709551616"])
        func `what is no number of instructions is refused`(count: String) throws {
            expectError(try Program.run("run", "--quantum=\(count)"), status: 64, "quantum")
        }

        @Test(arguments: ["-1", "x", "18446744073709551616"])
        func `what is no seed of an interleaving is refused`(seed: String) throws {
            let result = try Program.run("run", "--interleaving=\(seed)")
            expectError(result, status: 64, "interleaving")
        }

        @Test(arguments: ["0", "-1", "many"])
        func `what is no number of processors is refused`(count: String) throws {
            expectError(try Program.run("run", "--smp=\(count)"), status: 64, "processors")
        }

        @Test(
            arguments: [
                "adaptive", "agile,writes=0", "agile,depth=1", "", "bare,capacity=64K",
                "traced,capacity=5000", "traced,capacity=2048",
                "traced,capacity=4M", "traced,coalesce=9", "traced,threshold=x", "traced,speed=1",
                "traced,record=mask,coalesce=1", "traced,elide=on,elide=on", "trap,elide=on",
                "traced,threshold=513", "traced,stop=0",
            ])
        func `an unknown technique or parameter is refused`(technique: String) throws {
            expectError(try Program.run("run", "--mmu=\(technique)"), status: 64, "--mmu")
        }

        @Test(
            arguments: [
                "keep", "tlb=large", "tlb=keep,tlb=random:1", "tlb=random:x", "erratum=f00f",
                "tlb=keep,tlb=keep",
            ])
        func `unknown or contradictory hardware is refused`(hardware: String) throws {
            let result = try Program.run("run", "--hardware=\(hardware)")
            expectError(result, status: 64, "--hardware", "give")
        }

        @Test(
            arguments: [
                "e1000", "", "isa-debug-exit,iobase=70000", "isa-debug-exit,iosize=8",
                "isa-debug-exit,speed=1", "isa-debug-exit,", "isa-debugcon,iobase=x",
            ])
        func `an unknown device or property is refused`(device: String) throws {
            expectError(try Program.run("run", "--device=\(device)"), status: 64, "-device")
        }

        @Test(arguments: ["--kernel", "--initrd", "--append"])
        func `firmware takes nothing that belongs to a kernel`(option: String) throws {
            let result = try Program.run("run", "--bios", "/dev/null", option, "words")
            expectError(result, status: 64, "--bios takes no --kernel")
        }

        @Test(arguments: [("-serial", "tcp::1"), ("-display", "gtk"), ("-monitor", "stdio")])
        func `QEMU's values that would change something are refused`(
            option: String, value: String
        ) throws {
            expectError(try Program.run("run", option, value), status: 64, option)
        }

        @Test func `without a default guest it says how to get one`() throws {
            let result = try Program.runTool(
                ["/usr/bin/env", "PENUMBRA_GUESTS=/nonexistent/guests", Program.path, "run"])
            expectError(result, status: 1, "/nonexistent/guests", "make setup", "--kernel")
        }

        @Test func `a ledger that cannot be written is known before the run`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("echo.elf", SmallGuest.echo)
            let result = try Program.run(
                "run", "--kernel", kernel, "--ledger", "/nonexistent/ledger.json")
            expectError(result, status: 1, "/nonexistent/ledger.json")
        }

        @Test func `symbols that cannot be read, or are none, are known before the run`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("echo.elf", SmallGuest.echo)
            let missing = try Program.run(
                "run", "--kernel", kernel, "--symbols", "/nonexistent/System.map")
            expectError(missing, status: 1, "--symbols /nonexistent/System.map", "No such file")
            let directory = try Program.run("run", "--kernel", kernel, "--symbols", "/tmp")
            expectError(directory, status: 1, "--symbols /tmp", "directory")
            let bad = try folder.file("map", Array("10 T first\nnonsense\n".utf8))
            let result = try Program.run("run", "--kernel", kernel, "--symbols", bad)
            expectError(result, status: 1, "map: line 2 is no symbol: ADDRESS KIND NAME")
        }

        @Test(arguments: ["0", "-1", "65536", "one"])
        func `what is no region is refused`(region: String) throws {
            expectError(
                try Program.run("run", "--stop-at-region=\(region)"), status: 64,
                "is no region: 1 to 65535")
        }

        @Test func `standard output that is closed is an error`() throws {
            let folder = try Scratch()
            let kernel = try folder.file("echo.elf", SmallGuest.echo)
            let result = try Program.runTool(
                ["/bin/sh", "-c", "exec \"$0\" run --kernel \"$1\" >&-", Program.path, kernel])
            expectError(result, status: 1, "standard output")
        }
    }
}
