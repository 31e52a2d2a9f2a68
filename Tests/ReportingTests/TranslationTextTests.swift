import Processor
import Reporting
import Testing
import X86

@Suite struct TranslationTextTests {
    private static let shared = [SharedHostCode(name: "exit to chain", addresses: 0x7000..<0x7010)]
    /// inc rax; ret, of which the host makes inc rax; nop and, out of line, jmp 0x7000.
    private static let block = TranslatedBlock(
        processor: 0, address: GuestVirtualAddress(0xffff_ffff_8100_0040),
        machine: MachineAddress(0x10_0040), isUser: false, guestCode: [0x48, 0xff, 0xc0, 0xc3],
        hostAddress: 0x7f00,
        hostCode: [0x90, 0x48, 0xff, 0xc0, 0x90, 0x06],
        parts: [.init(guestOffset: 0, hostOffset: 1), .init(guestOffset: 3, hostOffset: 4)],
        coldAddress: 0x8000, coldCode: [0xe9, 0xfb, 0xef, 0xff, 0xff])

    @Test func `a listing has the guest's instructions and beside them the host's`() {
        let text = CodeListing(shared: Self.shared).text(Self.block, name: "start+0x4")
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map {
            $0.split(separator: " ", omittingEmptySubsequences: true).joined(separator: " ")
        }
        #expect(
            lines == [
                "ffffffff81000040 supervisor start+0x4: 2 instructions, 4 bytes; 6 bytes of host"
                    + " code, 5 cold",
                "| 7f00 nop",
                "ffffffff81000040 inc rax | 7f01 inc rax",
                "ffffffff81000043 ret | 7f04 nop",
                // 06 is no instruction in 64-bit mode.
                "| 7f05 byte 6",
                "cold | 8000 jmp 0x0000000000007000 ; exit to chain",
                "", "",
            ])
        // The right column is straight.
        let bars = text.split(separator: "\n").dropFirst().map {
            $0.distance(
                from: $0.startIndex, to: $0.firstIndex(of: "|") ?? $0.endIndex)
        }
        #expect(Set(bars).count == 1)
    }

    @Test func `perf's lines have address, size and name`() {
        #expect(
            PerfMap.lines(Self.block, name: "start+0x4")
                == "7f00 6 guest:start+0x4\n8000 5 guest:start+0x4.cold\n")
        #expect(
            PerfMap.lines(Self.block, name: nil).hasPrefix(
                "7f00 6 guest:0xffffffff81000040\n"))
        var user = Self.block
        user.isUser = true
        #expect(
            PerfMap.lines(user, name: nil).hasPrefix(
                "7f00 6 guest-user:0xffffffff81000040\n"))
        #expect(Self.shared.map(PerfMap.line) == ["7000 10 penumbra:exit-to-chain\n"])
    }
}
