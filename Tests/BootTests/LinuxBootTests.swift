import Boot
import SystemPackage
import Testing
import X86

@Suite struct LinuxBootTests {
    private func load(
        _ linux: SyntheticLinux, _ request: BootRequest, _ memory: TestMemory
    ) throws -> BootState {
        try BootLoader.load(
            ImageFile(path: "kernel", bytes: linux.bytes), request, into: memory)
    }

    @Test func `a kernel starts in 64-bit mode at its preferred address plus 0x200`() throws {
        let memory = TestMemory(megabytes: 4)
        var linux = SyntheticLinux()
        linux.preferredAddress = 0x20_0000
        let state = try load(linux, request(), memory)
        #expect(state.mode == .long64)
        #expect(state.instructionPointer == 0x20_0200)
        #expect(state[.rsi] == Layout.zeroPage)
        #expect(state.flags == 2)
        #expect(state.cr0 & (CR0.paging | CR0.protectionEnable) == 0x8000_0001)
        #expect(state.cr4 == CR4.physicalAddressExtension)
        #expect(state.efer == EFER.longModeEnable | EFER.longModeActive)
        #expect(state.code.selector == 0x10)
        #expect(state.data.selector == 0x18)
        #expect(memory.slice(0x20_0000, 8192) == [UInt8](repeating: 0x90, count: 8192))
        #expect(memory.u8(0x1f_ffff) == 0 && memory.u8(0x20_2000) == 0)
    }

    @Test func `the segment registers agree with the descriptors in the table`() throws {
        let memory = TestMemory(megabytes: 4)
        let state = try load(SyntheticLinux(), request(), memory)
        func descriptor(_ selector: UInt16) -> UInt64 {
            memory.u64(state.gdt.base + UInt64(selector))
        }
        #expect(state.gdt.limit == 47)
        #expect(descriptor(0) == 0)
        #expect(descriptor(0x08) == 0x00cf_9b00_0000_ffff)
        #expect(descriptor(state.code.selector) == 0x00af_9b00_0000_ffff)
        #expect(descriptor(state.data.selector) == 0x00cf_9300_0000_ffff)
        #expect(descriptor(state.task.selector) == 0x0000_8b00_0000_0067)
        #expect(descriptor(0x28) == 0)
    }

    @Test func `the page tables map the first 4 GiB to themselves and nothing else`() throws {
        let memory = TestMemory(megabytes: 4)
        let state = try load(SyntheticLinux(), request(), memory)
        /// What a walk makes of an address; nil where an entry is not present.
        func walk(_ address: UInt64) -> UInt64? {
            var table = state.cr3
            for level in [PageLevel.pml4, .directoryPointer, .directory] {
                let index = UInt64(GuestVirtualAddress(address).index(at: level))
                let entry = PagingEntry(memory.u64(table + 8 * index))
                guard entry.isPresent, entry.isWritable else { return nil }
                if entry.isLeaf(at: level) {
                    return entry.leafBase(at: level) + address % level.entrySpan
                }
                table = entry.addressField
            }
            return nil
        }
        for address in stride(from: 0 as UInt64, to: 1 << 32, by: 0x1f_f123) {
            #expect(walk(address) == address)
        }
        #expect(walk(0xffff_ffff) == 0xffff_ffff)
        #expect(walk(1 << 32) == nil)
        #expect(walk(1 << 39) == nil)
        #expect(walk(0xffff_8000_0000_0000) == nil)
    }

    @Test func `the zero page holds the header, the loader's fields and the memory map`() throws {
        let memory = TestMemory(megabytes: 4)
        _ = try load(SyntheticLinux(), request(commandLine: "console=ttyS0"), memory)
        let page = Layout.zeroPage
        #expect(memory.u32(page + 0x202) == 0x5372_6448)
        #expect(memory.u16(page + 0x206) == 0x20f)
        #expect(memory.u8(page + 0x210) == 0xff)
        #expect(memory.u8(page + 0x211) == 1)
        #expect(memory.u32(page + 0x214) == 0x10_0000)
        #expect(memory.u32(page + 0x218) == 0 && memory.u32(page + 0x21c) == 0)
        #expect(memory.string(UInt64(memory.u32(page + 0x228))) == "console=ttyS0")
        #expect(memory.u64(page + 0x070) == Layout.acpiTables)
        #expect(memory.u8(page + 0x1e8) == 4)
        #expect(
            memory.slice(page, 0x70).allSatisfy { $0 == 0 }, "no screen: nothing before the RSDP")
        let expected: [(UInt64, UInt64, UInt32)] = [
            (0, 0x9_fc00, 1), (0x9_fc00, 0x400, 2), (0xe_0000, 0x2_0000, 2),
            (0x10_0000, 0x30_0000, 1),
        ]
        for (index, region) in expected.enumerated() {
            let entry = page + 0x2d0 + 20 * UInt64(index)
            #expect(memory.u64(entry) == region.0)
            #expect(memory.u64(entry + 8) == region.1)
            #expect(memory.u32(entry + 16) == region.2)
        }
    }

    @Test func `memory beyond 3 GiB is reported from 4 GiB on`() {
        let map = MemoryRegion.map(memoryBytes: (5 << 30) + 4095)
        #expect(
            map.suffix(2) == [
                MemoryRegion(start: 1 << 20, size: (3 << 30) - (1 << 20), kind: .usable),
                MemoryRegion(start: 4 << 30, size: 2 << 30, kind: .usable),
            ])
        #expect(MemoryRegion.map(memoryBytes: 3 << 30).count == 4)
    }

    @Test func `the random seed is the same for the same seed and differs for another`() throws {
        func seed(_ value: UInt64) throws -> [UInt8] {
            let memory = TestMemory(megabytes: 4)
            var request = request()
            request.rngSeed = value
            _ = try load(SyntheticLinux(), request, memory)
            let node = memory.u64(Layout.zeroPage + 0x250)
            #expect(memory.u64(node) == 0)
            #expect(memory.u32(node + 8) == 9)
            #expect(memory.u32(node + 12) == 32)
            return memory.slice(node + 16, 32)
        }
        #expect(try seed(1) == seed(1))
        #expect(try seed(1) != seed(2))
    }

    @Test func `SplitMix64 gives its published sequence`() {
        var generator = SplitMix64(seed: 1_234_567)
        #expect(generator.next() == 6_457_827_717_110_365_317)
        #expect(generator.next() == 3_203_168_211_198_807_973)
    }

    @Test func `an initrd lies as high as RAM and the kernel allow`() throws {
        let contents = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        try withFile(contents) { path in
            let page = Layout.zeroPage
            let memory = TestMemory(megabytes: 4)
            _ = try load(SyntheticLinux(), request(initrd: path.string), memory)
            #expect(memory.u32(page + 0x218) == 0x3f_e000)
            #expect(memory.u32(page + 0x21c) == 5000)
            #expect(memory.slice(0x3f_e000, 5000) == contents)

            let lower = TestMemory(megabytes: 4)
            var linux = SyntheticLinux()
            linux.initrdAddressMax = 0x2f_ffff
            _ = try load(linux, request(initrd: path.string), lower)
            #expect(lower.u32(page + 0x218) == 0x2f_e000)

            // The only free place is below the kernel.
            let below = TestMemory(megabytes: 4)
            linux.preferredAddress = 0x20_0000
            _ = try load(linux, request(initrd: path.string), below)
            #expect(below.u32(page + 0x218) == 0x1f_e000)

            linux.preferredAddress = 0x10_0000
            linux.initSize = 0x1f_f000
            #expect(
                bootError(linux.bytes, request(initrd: path.string))
                    == .doesNotFit(path: path.string, bytes: 5000, limit: 0x30_0000))
        }
    }

    @Test func `a missing, empty or unreadable initrd has its own error`() throws {
        let kernel = SyntheticLinux().bytes
        #expect(
            bootError(kernel, request(initrd: "/no/such/file"))
                == .cannotOpen(path: "/no/such/file", .noSuchFileOrDirectory))
        #expect(bootError(kernel, request(initrd: "")) == .noInitrdName)
        #expect(bootError(kernel, request(initrd: "/")) == .cannotRead(path: "/", .isDirectory))
        try withFile([]) { path in
            #expect(
                bootError(kernel, request(initrd: path.string)) == .emptyFile(path: path.string))
        }
        #expect(
            bootError(kernel, request(initrd: "/dev/zero"))
                == .fileTooLarge(path: "/dev/zero", limit: 4 << 20))
    }

    @Test func `a command line of the kernel's limit fits and one more byte does not`() {
        let kernel = SyntheticLinux().bytes
        let line = String(repeating: "x", count: 255)
        #expect(bootError(kernel, request(commandLine: line)) == nil)
        #expect(
            bootError(kernel, request(commandLine: line + "x"))
                == .commandLineTooLong(bytes: 256, limit: 255))
        #expect(bootError(kernel, request(commandLine: "a\0b")) == .commandLineHoldsNUL)
    }

    @Test func `a kernel without a 64-bit entry starts in protected mode`() throws {
        var linux = SyntheticLinux()
        linux.xloadflags = 0x7e
        let memory = TestMemory(megabytes: 4)
        let state = try load(linux, request(), memory)
        #expect(state.mode == .protected32)
        #expect(state.code.selector == 0x10)
        #expect(memory.u64(state.gdt.base + 0x10) == 0x00cf_9b00_0000_ffff)
        #expect(state.instructionPointer == linux.preferredAddress)
        #expect(state.cr0 & CR0.paging == 0 && state.cr4 == 0 && state.efer == 0)
        #expect(state[.rsi] == Layout.zeroPage)
    }

    @Test func `kernels for other boot protocols are refused`() {
        var linux = SyntheticLinux()
        linux.version = 0x20b
        #expect(bootError(linux.bytes) == .oldBootProtocol(path: "kernel", version: 0x20b))
        linux = SyntheticLinux()
        linux.headerEnd = 0x267
        #expect(
            bootError(linux.bytes)
                == .badImage(path: "kernel", .shortSetupHeader(0x267 - 0x1f1)))
        linux = SyntheticLinux()
        linux.preferredAddress = 0x1000
        #expect(
            bootError(linux.bytes) == .badImage(path: "kernel", .badPreferredAddress(0x1000)))
        linux.preferredAddress = .max & ~0xfff
        #expect(
            bootError(linux.bytes)
                == .noRAM(path: "kernel", start: .max & ~0xfff, end: .max))
    }

    @Test func `every truncation of a kernel is refused with a typed error`() {
        let whole = SyntheticLinux().bytes
        let memory = TestMemory(megabytes: 4)
        #expect(bootError(whole, into: memory) == nil)
        for count in stride(from: 0, to: whole.count - 15, by: 13) {
            #expect(bootError(Array(whole[..<count]), into: memory) != nil)
        }
        #expect(
            bootError(Array(whole[..<(whole.count - 16)]), into: memory)
                == .truncated(
                    path: "kernel", needed: UInt64(whole.count - 15),
                    actual: UInt64(whole.count - 16)))
    }

    @Test func `a machine too small for the kernel says so`() {
        var linux = SyntheticLinux()
        linux.initSize = 0x100_0000
        #expect(
            bootError(linux.bytes) == .noRAM(path: "kernel", start: 0x10_0000, end: 0x110_0000))
        #expect(
            bootError(linux.bytes, request(megabytes: 1))
                == .tooLittleMemory(bytes: 1 << 20))
    }

    @Test func `the number of processors has bounds`() {
        let kernel = SyntheticLinux().bytes
        #expect(bootError(kernel, request(processors: 255)) == nil)
        for count in [0, -1, 256, Int.max, Int.min] {
            #expect(bootError(kernel, request(processors: count)) == .badProcessorCount(count))
        }
    }
}
