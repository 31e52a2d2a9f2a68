import Boot
import Testing
import X86

@Suite struct FirmwareTests {
    private func firmware(_ megabytes: UInt64 = 4) -> BootRequest {
        var request = request(megabytes: megabytes)
        request.isFirmware = true
        return request
    }

    @Test func `firmware ends at the first megabyte and starts 16 bytes below, in real mode`()
        throws
    {
        let memory = TestMemory(megabytes: 4)
        let bytes = (0..<0x2_0000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }
        let state = try BootLoader.load(
            ImageFile(path: "bios", bytes: bytes), firmware(), into: memory)
        #expect(memory.slice(0xe_0000, bytes.count) == bytes)
        #expect(state.mode == .real16)
        #expect(state.code.base &+ state.instructionPointer == 0xf_fff0)
        #expect(state.code.selector == 0xf000 && state.code.limit == 0xffff)
        #expect(state.cr0 & (CR0.protectionEnable | CR0.paging) == 0)
        #expect(state.data.base == 0 && state.data.limit == 0xffff)
        #expect(state.idt.limit == 0xffff)
    }

    @Test(arguments: [1, 0x1_0001, 0x5_0000])
    func `an image of another size is no firmware`(bytes: Int) {
        let contents = [UInt8](repeating: 0, count: bytes)
        #expect(
            bootError(contents, firmware())
                == .badFirmwareSize(path: "kernel", bytes: UInt64(bytes)))
    }

    @Test func `firmware takes no command line and no initrd`() {
        let contents = [UInt8](repeating: 0, count: 0x1_0000)
        var words = firmware()
        words.commandLine = "quiet"
        #expect(bootError(contents, words) == .firmwareTakesNoKernel(path: "kernel"))
        var disk = firmware()
        disk.initrd = "initrd"
        #expect(bootError(contents, disk) == .firmwareTakesNoKernel(path: "kernel"))
    }
}
