import Boot
import SystemPackage
import Testing
import X86

@Suite struct ELFTests {
    @Test func `a PVH kernel starts at its note's address with its start information`() throws {
        let contents = [UInt8](repeating: 0x33, count: 100)
        try withFile(contents) { initrd in
            let memory = TestMemory(megabytes: 4, filledWith: 0xaa)
            let state = try BootLoader.load(
                ImageFile(path: "vmlinux", bytes: SyntheticELF.pvh(entry: 0x10_0002).bytes),
                request(initrd: initrd.string, commandLine: "quiet"), into: memory)
            #expect(state.mode == .protected32)
            #expect(state.instructionPointer == 0x10_0002)
            #expect(state.task.attributes == 0x8b && state.task.limit == 0x67)
            let info = state[.rbx]
            #expect(memory.u32(info) == 0x336e_c578)
            #expect(memory.u32(info + 4) == 1)
            #expect(memory.u32(info + 12) == 1)
            let module = memory.u64(info + 16)
            #expect(memory.u64(module) == 0x3f_f000)
            #expect(memory.u64(module + 8) == 100)
            #expect(memory.slice(0x3f_f000, 100) == contents)
            #expect(memory.string(memory.u64(info + 24)) == "quiet")
            #expect(memory.u64(info + 32) == Layout.acpiTables)
            let map = MemoryRegion.map(memoryBytes: 4 << 20)
            #expect(memory.u32(info + 48) == UInt32(map.count))
            for (index, region) in map.enumerated() {
                let entry = memory.u64(info + 40) + 24 * UInt64(index)
                #expect(memory.u64(entry) == region.start)
                #expect(memory.u64(entry + 8) == region.size)
                #expect(memory.u32(entry + 16) == region.kind.rawValue)
            }
        }
    }

    @Test func `an ELF file without an entry protocol is told from no kernel at all`() {
        var elf = SyntheticELF.pvh()
        elf.segments.removeLast()
        #expect(bootError(elf.bytes) == .noEntryProtocol(path: "kernel"))
        #expect(bootError(Array("#!/bin/sh\n".utf8)) == .unknownFormat(path: "kernel"))
        #expect(bootError([0x7f]) == .unknownFormat(path: "kernel"))
        #expect(bootError([]) == .unknownFormat(path: "kernel"))
    }

    @Test func `headers that make no x86 executable are refused`() {
        func error(_ change: (inout SyntheticELF) -> Void) -> BootError? {
            var elf = SyntheticELF.multiboot()
            change(&elf)
            return bootError(elf.bytes)
        }
        #expect(error { $0.machine = 40 } == .badImage(path: "kernel", .notX86(40)))
        #expect(error { $0.type = 1 } == .badImage(path: "kernel", .notExecutable(1)))
        #expect(
            error { $0.entry = 0x20_0000 } == .badImage(path: "kernel", .entryOutside(0x20_0000)))
        #expect(error { $0.segments[0].type = 6 } == .badImage(path: "kernel", .noSegments))
        var bytes = SyntheticELF.multiboot().bytes
        bytes.put(UInt16(31), at: 42)
        #expect(bootError(bytes) == .badImage(path: "kernel", .badProgramHeaderSize(31)))
        bytes.put(UInt16(257), at: 44)
        #expect(bootError(bytes) == .badImage(path: "kernel", .tooManySegments(257)))
    }

    @Test func `a PVH entry outside the segments is refused`() {
        for entry in [0, 0xf_ffff, 0x10_2000, .max] as [UInt64] {
            #expect(
                bootError(SyntheticELF.pvh(entry: entry).bytes)
                    == .badImage(path: "kernel", .entryOutside(entry)))
        }
        #expect(bootError(SyntheticELF.pvh(entry: 0x10_1fff).bytes) == nil)
    }

    @Test func `kernel files that cannot be read have their own errors`() throws {
        func error(_ path: FilePath) -> BootError? {
            var request = request()
            request.kernel = path
            do throws(BootError) {
                _ = try BootLoader.load(request, into: TestMemory(megabytes: 4))
                return nil
            } catch {
                return error
            }
        }
        #expect(error("/no/kernel") == .cannotOpen(path: "/no/kernel", .noSuchFileOrDirectory))
        #expect(error("/") == .cannotRead(path: "/", .isDirectory))
        #expect(error("/dev/null") == .emptyFile(path: "/dev/null"))
        try withFile(SyntheticLinux().bytes) { #expect(error($0) == nil) }
    }

    @Test func `every error is one line`() {
        let errors: [BootError] = [
            .cannotOpen(path: "f", .permissionDenied), .cannotRead(path: "f", .ioError),
            .emptyFile(path: "f"), .fileTooLarge(path: "f", limit: 1),
            .truncated(path: "f", needed: 2, actual: 1), .unknownFormat(path: "f"),
            .noEntryProtocol(path: "f"), .badImage(path: "f", .noSegments),
            .oldBootProtocol(path: "f", version: 0x204),
            .unsupportedMultiboot(path: "f", flags: 8), .noRAM(path: "f", start: 0, end: 1),
            .overlap(path: "f", address: 1), .doesNotFit(path: "f", bytes: 1, limit: 1),
        ]
        for error in errors {
            #expect(error.description.contains("f"))
            #expect(!error.description.contains("\n"))
        }
        #expect(
            BootError.oldBootProtocol(path: "f", version: 0x204).description
                .contains("protocol 2.4:"))
    }
}
