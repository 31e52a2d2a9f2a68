import Debugger
import Foundation
import Glibc
import Hypervisor
import Processor
import Testing
import VirtualMachine

/// A machine with a guest of a few instructions, and a debugger's conversation with it.
///
/// The guest is in 32-bit protected mode without paging, turns 2-level paging on with a directory
/// at `directory` that maps the first 4 MiB twice, at 0 and at `alias`, and ends through the
/// debug-exit port with status 7.
final class Bench {
    static let entry: UInt64 = 0x10_0060
    static let directory: UInt64 = 0x30_0000
    static let alias: UInt64 = 0x40_0000
    /// Where the guest stores 1, and loads it from.
    static let cell: UInt64 = 0x20_0000

    /// Offsets of instructions from `entry`.
    enum Place {
        static let store: UInt64 = 5
        static let load: UInt64 = 10
        static let increment: UInt64 = 16
        static let paged: UInt64 = 44
        static let loop: UInt64 = 46
        static let fill: UInt64 = 49
    }

    private static let code: [UInt8] = [
        0xb8, 0x01, 0x00, 0x00, 0x00,  //  0 mov eax, 1
        0xa3, 0x00, 0x00, 0x20, 0x00,  //  5 store: mov [0x200000], eax
        0x8b, 0x1d, 0x00, 0x00, 0x20, 0x00,  // 10 load: mov ebx, [0x200000]
        0x40,  // 16 increment: inc eax
        0x0f, 0x20, 0xe0,  // 17 mov eax, cr4
        0x0c, 0x10,  // 20 or al, 0x10
        0x0f, 0x22, 0xe0,  // 22 mov cr4, eax
        0xb8, 0x00, 0x00, 0x30, 0x00,  // 25 mov eax, 0x300000
        0x0f, 0x22, 0xd8,  // 30 mov cr3, eax
        0x0f, 0x20, 0xc0,  // 33 mov eax, cr0
        0x0d, 0x00, 0x00, 0x00, 0x80,  // 36 or eax, 0x80000000
        0x0f, 0x22, 0xc0,  // 41 mov cr0, eax
        0x31, 0xc9,  // 44 paged: xor ecx, ecx
        0x41,  // 46 loop: inc ecx
        0x90, 0x90,  // 47 nop; nop
        0xbf, 0x00, 0x10, 0x20, 0x00,  // 49 fill: mov edi, 0x201000
        0x51,  // 54 push ecx
        0xb9, 0x08, 0x00, 0x00, 0x00,  // 55 mov ecx, 8
        0xf3, 0xab,  // 60 rep stosd
        0x59,  // 62 pop ecx
        0x81, 0xf9, 0xe8, 0x03, 0x00, 0x00,  // 63 cmp ecx, 1000
        0x75, 0xe7,  // 69 jne loop
        0xb0, 0x03,  // 71 mov al, 3
        0xe6, 0xf4,  // 73 out 0xf4, al
        0xf4, 0xeb, 0xfd,  // 75 hlt; jmp
    ]

    let machine: VirtualMachine
    var session: DebugSession

    init(
        _ technique: String = "traced", engine: Engine = .interpreter, processors: Int = 1
    ) throws {
        var configuration = MachineConfiguration(kernel: try Self.kernel.get())
        configuration.memoryBytes = 16 << 20
        configuration.technique = try Technique(parsing: technique)
        configuration.engine = engine
        configuration.processors = processors
        configuration.debugExitPort = 0xf4
        let console = Silence()
        machine = try VirtualMachine(configuration, console: console)
        console.stop = machine.stopFlag
        session = DebugSession(machine.debugTarget)
        // A stack, and both entries of the directory: present, writable, 4 MiB.
        try #require(
            machine.debugTarget.writePhysical(
                [0x83, 0, 0, 0, 0x83, 0, 0, 0], at: Self.directory))
        try #require(
            machine.debugTarget.set(.general(.rsp), to: 0x28_0000, processor: 0))
    }

    /// The machine's answer to one packet, as texts.
    func ask(_ text: String) -> [String] {
        guard case .replies(let replies) = session.perform(Command(Array(text.utf8))) else {
            return []
        }
        return replies.map { String(decoding: $0, as: UTF8.self) }
    }

    /// Has the machine go on until it stops.
    func resume(_ text: String = "vCont;c") throws -> RunOutcome {
        try #require(session.perform(Command(Array(text.utf8))) == .resume)
        let outcome = machine.run()
        if case .debugStop(let processor, let reason) = outcome {
            _ = session.stopped(processor, reason)
        }
        return outcome
    }

    /// What `monitor` prints.
    func monitor(_ line: String) -> String {
        let hex = line.utf8.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        var bytes: [UInt8] = []
        for reply in ask("qRcmd,\(hex)") where reply.hasPrefix("O") && reply != "OK" {
            let digits = Array(reply.dropFirst())
            for start in stride(from: 0, to: digits.count, by: 2) {
                bytes.append(UInt8(String(digits[start..<start + 2]), radix: 16) ?? 0)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    func value(_ register: ProcessorRegister) -> UInt64 {
        UInt64(truncatingIfNeeded: machine.debugTarget.value(of: register, processor: 0) ?? .max)
    }

    /// The guest's file, one for all benches: the loader tells the guest its name. It goes with the
    /// process.
    private static let kernel = Result {
        try Data(elf).write(to: URL(filePath: kernelPath))
        atexit { _ = try? FileManager.default.removeItem(atPath: Bench.kernelPath) }
        return kernelPath
    }
    private static let kernelPath = FileManager.default.temporaryDirectory.appending(
        path: "penumbra-debugger-\(getpid()).elf"
    ).path

    /// An ELF32 file of one segment, loaded whole at 1 MiB, with a multiboot 1 header and the code.
    private static let elf: [UInt8] = {
        func word(_ value: UInt32) -> [UInt8] {
            [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: value >> $0) }
        }
        func half(_ value: UInt16) -> [UInt8] { [UInt8(value & 0xff), UInt8(value >> 8)] }
        let base: UInt32 = 0x10_0000
        let size = UInt32(96 + code.count)
        var file: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        file += half(2) + half(3) + word(1)
        file += word(UInt32(entry)) + word(52) + word(0) + word(0)
        file += half(52) + half(32) + half(1) + half(40) + half(0) + half(0)
        file += word(1) + word(0) + word(base) + word(base)
        file += word(size) + word(size) + word(7) + word(4096)
        file += word(0x1bad_b002) + word(0) + word(0 &- 0x1bad_b002)
        return file + code
    }()
}

/// A console that nobody looks at. A guest that waits for it is at its end.
final class Silence: ConsolePort {
    var stop: StopFlag?
    func write(_ byte: UInt8) {}
    func poll() {}
    func read() -> UInt8? { nil }
    func waitForInput(nanoseconds: UInt64) { stop?.requestStop() }
}
