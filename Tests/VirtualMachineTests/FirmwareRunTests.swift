import Glibc
import Testing
import VirtualMachine

/// Firmware of a few instructions, and runs that end at a text.
@Suite struct FirmwareRunTests {
    /// 64 KiB whose last 16 bytes jump to its first, which are `code`.
    static func run(
        _ code: [UInt8], technique: String = "bare", until text: String? = nil
    ) throws -> (outcome: RunOutcome, machine: VirtualMachine, console: RecordingConsole) {
        var image = code + [UInt8](repeating: 0xf4, count: 0x1_0000 - code.count)
        image.replaceSubrange(0xfff0..<0xfff5, with: [0xea, 0, 0, 0, 0xf0])  // jmp 0xf000:0
        let path = write(image)
        defer { unsafe unlink(path) }
        return try MachineTests.run([], technique: technique) {
            $0.kernel = path
            $0.isFirmware = true
            $0.debugConsolePort = 0x402
            $0.lastText = text
        }
    }

    /// The name of a new file with these bytes.
    static func write(_ bytes: [UInt8]) -> String {
        var template = Array("/tmp/penumbra-bios-XXXXXX".utf8CString)
        let file = unsafe template.withUnsafeMutableBufferPointer {
            unsafe mkstemp($0.baseAddress!)
        }
        defer { close(file) }
        _ = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(file, $0.baseAddress, $0.count) }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// mov dx, 0x402; in al, dx; out dx, al; then each letter; mov al, 21; out 0xf4, al
    static func printing(_ text: String) -> [UInt8] {
        [0xba, 0x02, 0x04, 0xec, 0xee] + text.utf8.flatMap { [0xb0, $0, 0xee] }
            + [0xb0, 21, 0xe6, 0xf4]
    }

    @Test(
        "firmware starts in real mode at its last 16 bytes, and the debug port prints",
        arguments: ["bare", "traced", "nested"])
    func firmware(technique: String) throws {
        let run = try Self.run(Self.printing("menu"), technique: technique)
        #expect(run.outcome == .debugExit(status: 43))
        #expect(run.console.bytes == [0xe9] + Array("menu".utf8))
        #expect(run.machine.retired == 14)
    }

    @Test("a run ends right after the instruction that prints the last byte of its text")
    func lastText() throws {
        // The text's beginning comes twice before all of it does.
        let run = try Self.run(Self.printing("xaabaabaac!"), until: "aabaac")
        #expect(run.outcome == .printed)
        #expect(String(decoding: run.console.bytes.dropFirst(), as: UTF8.self) == "xaabaabaac")
        #expect(run.machine.retired == 4 + 2 * 10)
    }

    @Test("a text that is never printed ends nothing")
    func noText() throws {
        let run = try Self.run(Self.printing("menu"), until: "menus")
        #expect(run.outcome == .debugExit(status: 43))
    }
}
