import Glibc
import Hypervisor
import Testing
import VirtualMachine

/// Small Multiboot guests, assembled by hand: 32-bit code, paging off, loaded at 1 MiB.
@Suite struct MachineTests {
    /// A machine that runs `code`, under each technique in turn.
    static func run(
        _ code: [UInt8], technique: String,
        configure: (inout MachineConfiguration) -> Void = { _ in }
    ) throws -> (outcome: RunOutcome, machine: VirtualMachine, console: RecordingConsole) {
        let path = try SmallKernel.write(code)
        defer { unsafe unlink(path) }
        var configuration = MachineConfiguration(kernel: path)
        configuration.memoryBytes = 16 << 20
        configuration.debugExitPort = 0xf4
        configuration.technique = try Technique(parsing: technique)
        configure(&configuration)
        let console = RecordingConsole()
        let machine = try VirtualMachine(configuration, console: console)
        console.onIdle = { [flag = machine.stopFlag] in flag.requestStop() }
        return (machine.run(), machine, console)
    }

    @Test("the debug-exit device ends the run with its status", arguments: ["bare", "traced"])
    func debugExit(technique: String) throws {
        // mov eax, 21; out 0xf4, eax
        let run = try Self.run([0xb8, 21, 0, 0, 0, 0xe7, 0xf4], technique: technique)
        #expect(run.outcome == .debugExit(status: 43))
        #expect(run.machine.retired == 2)
    }

    @Test(
        "a reset starts the guest anew, and memory keeps what no file covers",
        arguments: ["bare", "traced"])
    func reset(technique: String) throws {
        let code: [UInt8] = [
            0x81, 0x3d, 0, 0, 0x40, 0, 0x78, 0x56, 0x34, 0x12,  // cmp dword [0x400000], 0x12345678
            0x74, 0x11,  // je done
            0xc7, 0x05, 0, 0, 0x40, 0, 0x78, 0x56, 0x34, 0x12,  // mov dword [0x400000], …
            0xb0, 0xfe, 0xe6, 0x64,  // mov al, 0xfe; out 0x64, al
            0xf4, 0xeb, 0xfd,  // hlt; jmp hlt
            0xb0, 7, 0xe6, 0xf4,  // done: mov al, 7; out 0xf4, al
        ]
        let run = try Self.run(code, technique: technique)
        #expect(run.outcome == .debugExit(status: 15))
        let once = try Self.run(code, technique: technique) { $0.rebootAllowed = false }
        #expect(once.outcome == .reset)
    }

    @Test("a triple fault ends the machine and says where", arguments: ["bare", "traced"])
    func tripleFault(technique: String) throws {
        // ud2, with an empty IDT
        let run = try Self.run([0x0f, 0x0b], technique: technique)
        guard case .tripleFault(let text) = run.outcome else {
            Issue.record("\(run.outcome)")
            return
        }
        #expect(text.contains("0x"))
    }

    @Test(
        "a halted guest that nothing can wake waits for its stop flag",
        arguments: ["bare", "traced"])
    func haltedForEver(technique: String) throws {
        // cli; hlt
        let run = try Self.run([0xfa, 0xf4], technique: technique)
        #expect(run.outcome == .stopped)
    }

    @Test(
        "what is typed reaches the guest, and what it prints comes back",
        arguments: ["bare", "traced"])
    func echo(technique: String) throws {
        let path = try SmallKernel.write([
            0x66, 0xba, 0xfd, 0x03,  // wait: mov dx, 0x3fd
            0xec, 0xa8, 1, 0x74, 0xf7,  // in al, dx; test al, 1; jz wait
            0x66, 0xba, 0xf8, 0x03,  // mov dx, 0x3f8
            0xec, 0xee,  // in al, dx; out dx, al
            0x3c, 0x71, 0x75, 0xed,  // cmp al, 'q'; jne wait
            0xe6, 0xf4,  // out 0xf4, al
        ])
        defer { unsafe unlink(path) }
        var configuration = MachineConfiguration(kernel: path)
        configuration.memoryBytes = 16 << 20
        configuration.debugExitPort = 0xf4
        configuration.technique = try Technique(parsing: technique)
        let console = RecordingConsole(input: "hello q")
        let machine = try VirtualMachine(configuration, console: console)
        #expect(machine.run() == .debugExit(status: UInt8(truncatingIfNeeded: 0x71 << 1 | 1)))
        #expect(console.text == "hello q")
    }
}

/// Writes Multiboot kernels in the form that has load addresses in the header.
enum SmallKernel {
    /// The file's name; the caller removes it.
    static func write(_ code: [UInt8]) throws -> String {
        let load: UInt32 = 0x10_0000
        let flags: UInt32 = 1 << 16
        let magic: UInt32 = 0x1bad_b002
        let size = UInt32(32 + code.count)
        let fields = [
            magic, flags, 0 &- magic &- flags, load, load, load + size, load + size, load + 32,
        ]
        var bytes: [UInt8] = []
        for field in fields {
            for byte in 0..<4 as Range<UInt32> {
                bytes.append(UInt8(truncatingIfNeeded: field >> (byte * 8)))
            }
        }
        bytes += code
        let path = "/tmp/penumbra-kernel-\(getpid())-\(UInt64.random(in: .min ... .max))"
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600)
        guard descriptor >= 0 else { throw KernelError.cannotWrite }
        defer { close(descriptor) }
        let count = unsafe bytes.withUnsafeBytes {
            unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
        }
        guard count == bytes.count else { throw KernelError.cannotWrite }
        return path
    }

    enum KernelError: Error { case cannotWrite }
}
