import Boot
import Testing
import X86

@Suite struct MultibootTests {
    private func load(
        _ bytes: [UInt8], _ request: BootRequest = request(), into memory: TestMemory
    ) throws -> BootState {
        try BootLoader.load(ImageFile(path: "dir/kernel", bytes: bytes), request, into: memory)
    }

    @Test func `a kernel starts in flat 32-bit mode with its registers set`() throws {
        let state = try load(
            SyntheticELF.multiboot().bytes, into: TestMemory(megabytes: 4))
        #expect(state.mode == .protected32)
        #expect(state.instructionPointer == 0x10_000c)
        #expect(state[.rax] == 0x2bad_b002)
        #expect(state[.rbx] == Layout.startInfo)
        #expect(state.cr0 == 0x11)
        #expect(state.cr3 == 0 && state.cr4 == 0 && state.efer == 0)
        #expect(state.flags == 2)
        for segment in [state.code, state.data] {
            #expect(segment.base == 0 && segment.limit == .max)
            // Present, ring 0, 4 KiB granularity, 32-bit, not 64-bit.
            #expect(segment.attributes & 0xe0f0 == 0xc090)
        }
        #expect(state.code.attributes & 0xa == 0xa && state.data.attributes & 0xa == 0x2)
    }

    @Test func `what follows a segment in memory is cleared and nothing else is`() throws {
        let memory = TestMemory(megabytes: 4, filledWith: 0xaa)
        _ = try load(SyntheticELF.multiboot().bytes, into: memory)
        #expect(memory.slice(0x10_000c, 4) == [0xf4, 0xf4, 0xf4, 0xf4])
        #expect(memory.slice(0x10_0010, 4096) == [UInt8](repeating: 0, count: 4096))
        #expect(memory.u8(0x10_1010) == 0xaa)
    }

    @Test func `the information structure describes memory, command line and loader`() throws {
        let memory = TestMemory(megabytes: 4, filledWith: 0xaa)
        let state = try load(
            SyntheticELF.multiboot().bytes, request(commandLine: "one two"), into: memory)
        let info = state[.rbx]
        #expect(memory.u32(info) == 0b10_0100_1101)
        #expect(memory.u32(info + 4) == 639)
        #expect(memory.u32(info + 8) == 3 * 1024)
        #expect(memory.string(UInt64(memory.u32(info + 16))) == "dir/kernel one two")
        #expect(memory.u32(info + 20) == 0)
        #expect(memory.string(UInt64(memory.u32(info + 64))) == "Penumbra")

        var entry = UInt64(memory.u32(info + 48))
        let end = entry + UInt64(memory.u32(info + 44))
        var regions: [MemoryRegion] = []
        while entry < end {
            regions.append(
                MemoryRegion(
                    start: memory.u64(entry + 4), size: memory.u64(entry + 12),
                    kind: memory.u32(entry + 20) == 1 ? .usable : .reserved))
            entry += UInt64(memory.u32(entry)) + 4
        }
        #expect(entry == end)
        #expect(regions == MemoryRegion.map(memoryBytes: 4 << 20))
    }

    @Test func `modules follow the kernel at pages, each with its own string`() throws {
        let first = [UInt8](repeating: 0x11, count: 5000)
        let second: [UInt8] = [0x22]
        try withFile(first) { one in
            try withFile(second) { two in
                let memory = TestMemory(megabytes: 4)
                let list = "\(one) a=1 b,,c, \(two)"
                let state = try load(
                    SyntheticELF.multiboot().bytes, request(initrd: list), into: memory)
                let info = state[.rbx]
                #expect(memory.u32(info + 20) == 2)
                let modules = UInt64(memory.u32(info + 24))
                let expected: [(UInt32, [UInt8], String)] = [
                    (0x10_2000, first, "\(one) a=1 b,c"), (0x10_4000, second, "\(two)"),
                ]
                for (index, module) in expected.enumerated() {
                    let entry = modules + 16 * UInt64(index)
                    #expect(memory.u32(entry) == module.0)
                    #expect(memory.u32(entry + 4) == module.0 + UInt32(module.1.count))
                    #expect(memory.string(UInt64(memory.u32(entry + 8))) == module.2)
                    #expect(memory.u32(entry + 12) == 0)
                    #expect(memory.slice(UInt64(module.0), module.1.count) == module.1)
                }
            }
        }
    }

    @Test func `a module list is taken apart at single commas`() {
        #expect(ModuleRequest.parse("") == [])
        #expect(ModuleRequest.parse("a") == [ModuleRequest(path: "a", string: "a")])
        #expect(
            ModuleRequest.parse("a,,b x=1,,2,  c  d ") == [
                ModuleRequest(path: "a,b", string: "a,b x=1,2"),
                ModuleRequest(path: "c", string: "c  d "),
            ])
        #expect(ModuleRequest.parse("a,").map(\.path) == ["a", ""])
        #expect(ModuleRequest.parse(",,,").map(\.path) == [",", ""])
    }

    @Test func `bad module lists have their own errors`() throws {
        let kernel = SyntheticELF.multiboot().bytes
        #expect(
            bootError(kernel, request(initrd: "/no/such arg"))
                == .cannotOpen(path: "/no/such", .noSuchFileOrDirectory))
        #expect(bootError(kernel, request(initrd: " ")) == .noInitrdName)
        try withFile([UInt8](repeating: 1, count: 4 << 20)) { path in
            #expect(
                bootError(kernel, request(initrd: path.string))
                    == .doesNotFit(path: path.string, bytes: 4 << 20, limit: 4 << 20))
        }
        try withFile([1]) { path in
            let long = String(repeating: "y", count: 65536)
            let error = bootError(kernel, request(initrd: "\(path) \(long)"))
            guard case .tooManyModules(let bytes, 65536)? = error else {
                Issue.record("got \(String(describing: error))")
                return
            }
            #expect(bytes > 65536)
        }
    }

    @Test func `a 64-bit ELF file with physical addresses below 4 GiB loads`() throws {
        var elf = SyntheticELF.multiboot()
        elf.wide = true
        elf.machine = 62
        elf.segments[0].virtualAddress = 0xffff_ffff_8000_0000
        elf.entry = 0xffff_ffff_8000_000c
        let memory = TestMemory(megabytes: 4)
        let state = try load(elf.bytes, into: memory)
        #expect(state.instructionPointer == 0x10_000c)
        #expect(memory.u8(0x10_000c) == 0xf4)
    }

    @Test func `a file with addresses in its header needs no ELF headers`() throws {
        /// A header at file offset 64 whose file is loaded from offset 32 to `load`.
        func image(
            header: UInt32, load: UInt32, loadEnd: UInt32, zeroEnd: UInt32, entry: UInt32
        ) -> [UInt8] {
            var file = [UInt8](repeating: 0x5a, count: 64)
            file += SyntheticELF.multibootHeader(flags: 1 << 16)
            for field in [header, load, loadEnd, zeroEnd, entry] {
                file.append(littleEndian: field)
            }
            return file + [UInt8](repeating: 0xf4, count: 32)
        }
        let base: UInt32 = 0x20_0000
        let memory = TestMemory(megabytes: 4, filledWith: 0xaa)
        let good = image(
            header: base + 32, load: base, loadEnd: base + 80, zeroEnd: base + 100,
            entry: base + 64)
        #expect(try load(good, into: memory).instructionPointer == UInt64(base) + 64)
        #expect(memory.slice(UInt64(base), 80) == Array(good[32..<112]))
        #expect(memory.slice(UInt64(base) + 80, 21) == [UInt8](repeating: 0, count: 20) + [0xaa])

        let whole = image(
            header: base + 32, load: base, loadEnd: 0, zeroEnd: 0, entry: base)
        #expect(bootError(whole) == nil)
        let contradictions = [
            image(header: base - 1, load: base, loadEnd: 0, zeroEnd: 0, entry: base),
            image(header: base + 65, load: base, loadEnd: 0, zeroEnd: 0, entry: base),
            image(header: base + 32, load: base, loadEnd: base, zeroEnd: 0, entry: base),
            image(header: base + 32, load: base, loadEnd: base + 80, zeroEnd: 1, entry: base),
        ]
        for file in contradictions {
            #expect(bootError(file) == .badImage(path: "kernel", .badMultibootAddresses))
        }
        #expect(
            bootError(
                image(header: base + 32, load: base, loadEnd: 0, zeroEnd: 0, entry: 1))
                == .badImage(path: "kernel", .entryOutside(1)))
        #expect(
            bootError(
                image(
                    header: base + 32, load: base, loadEnd: base + 200, zeroEnd: 0, entry: base))
                == .truncated(path: "kernel", needed: 232, actual: 128))
        #expect(
            bootError(
                image(
                    header: base + 32, load: base, loadEnd: 0, zeroEnd: 0xffff_ffff, entry: base))
                == .noRAM(path: "kernel", start: UInt64(base), end: 0xffff_ffff))
    }

    @Test func `the header is found at multiples of 4 in the first 8192 bytes only`() {
        /// A file with padding before a header that carries all its addresses.
        func image(padding: Int) -> [UInt8] {
            var file = [UInt8](repeating: 0, count: padding)
            file += SyntheticELF.multibootHeader(flags: 1 << 16)
            for field in [0x10_0000, 0x10_0000, 0, 0, 0x10_0000] as [UInt32] {
                file.append(littleEndian: field)
            }
            return file
        }
        #expect(bootError(image(padding: 0)) == nil)
        #expect(bootError(image(padding: 8180)) == nil)
        #expect(bootError(image(padding: 8184)) == .unknownFormat(path: "kernel"))
        #expect(bootError(image(padding: 6)) == .unknownFormat(path: "kernel"))
        var wrong = image(padding: 0)
        wrong[8] ^= 1
        #expect(bootError(wrong) == .unknownFormat(path: "kernel"))
    }

    @Test func `features that are required and unknown are refused`() {
        #expect(bootError(SyntheticELF.multiboot(flags: 7).bytes) == nil)
        #expect(
            bootError(SyntheticELF.multiboot(flags: 0x8008).bytes)
                == .unsupportedMultiboot(path: "kernel", flags: 0x8008))
        // Bits 17…31 are optional: they may be ignored.
        #expect(bootError(SyntheticELF.multiboot(flags: 0x8000_0000).bytes) == nil)
    }

    @Test func `segments have to lie in free RAM and apart`() {
        let good = SyntheticELF.multiboot()
        func error(
            at address: UInt64, size: UInt64? = nil, contents: [UInt8] = [1]
        ) -> BootError? {
            var elf = good
            elf.segments.append(
                .init(
                    virtualAddress: address, physicalAddress: address, contents: contents,
                    memorySize: size ?? UInt64(contents.count)))
            return bootError(elf.bytes)
        }
        #expect(error(at: 0x20_0000) == nil)
        #expect(error(at: 0x3_0000) == nil, "low memory that nobody uses")
        #expect(error(at: 0x10_1010) == nil, "just behind the first segment")
        #expect(error(at: 0x10_100f) == .overlap(path: "kernel", address: 0x10_100f))
        for address in [0, 0x1000, 0x2_ffff, 0x9_fc00, 0xb_8000, 0xe_0000, 0xf_ffff] as [UInt64] {
            #expect(
                error(at: address) == .noRAM(path: "kernel", start: address, end: address + 1))
        }
        #expect(error(at: 0x3f_ffff) == nil)
        #expect(
            error(at: 0x40_0000) == .noRAM(path: "kernel", start: 0x40_0000, end: 0x40_0001))
        #expect(
            error(at: 0x20_0000, size: 0xffff_ffff)
                == .noRAM(path: "kernel", start: 0x20_0000, end: 0x1_001f_ffff))
        #expect(
            error(at: 0x20_0000, size: 1, contents: [1, 2])
                == .badImage(path: "kernel", .segmentExceedsMemory(0x20_0000)))
        #expect(error(at: 0, size: 0, contents: []) == nil, "an empty segment is nowhere")
    }
}
