import CZydis
import Glibc
import MachineMemory
import SystemPackage

/// What `penumbra doctor` found about one need of Penumbra's.
struct HostCheck {
    enum Verdict: String {
        case ok, note, fail
    }

    var verdict: Verdict
    var subject: String
    /// What was found and, unless all is well, what to do.
    var finding: String

    /// The check on one line.
    var line: String {
        let margin = String(repeating: " ", count: 6 - verdict.rawValue.count)
        return "\(verdict.rawValue)\(margin)\(subject): \(finding)"
    }

    /// Every check, in the order in which a run needs them.
    static func all() -> [HostCheck] {
        [architecture(), executableMemory(), decoder(), memory(), guest(), terminal()]
    }

    private static func architecture() -> HostCheck {
        #if arch(x86_64) && os(Linux)
            HostCheck(verdict: .ok, subject: "host", finding: "x86-64 Linux")
        #else
            HostCheck(
                verdict: .fail, subject: "host", finding: "not x86-64 Linux: use such a machine")
        #endif
    }

    /// Generated code must run: a function that returns 42 is made and called.
    private static func executableMemory() -> HostCheck {
        let subject = "executable memory"
        // mov eax, 42; ret
        guard let memory = ExecutableMemory(capacity: 4096),
            let address = memory.append([0xB8, 42, 0, 0, 0, 0xC3])
        else {
            return HostCheck(
                verdict: .fail, subject: subject,
                finding: "this host forbids it (shared memory mapped executable): allow it "
                    + "in the sandbox or security policy")
        }
        #if arch(x86_64)
            typealias Code = @convention(c) () -> Int32
            // The address is that of the complete function above, in memory that lives past the call.
            let code = unsafe unsafeBitCast(address, to: Code.self)
            let result = withExtendedLifetime(memory) { code() }
            guard result == 42 else {
                return HostCheck(
                    verdict: .fail, subject: subject,
                    finding: "generated code gave \(result), not 42")
            }
        #endif
        return HostCheck(verdict: .ok, subject: subject, finding: "generated code runs")
    }

    private static func decoder() -> HostCheck {
        let version = ZydisGetVersion()
        let text = "Zydis \(version >> 48).\(version >> 32 & 0xFFFF).\(version >> 16 & 0xFFFF)"
        guard version >> 48 == 4 else {
            return HostCheck(
                verdict: .fail, subject: "decoder", finding: "\(text): version 4 is needed")
        }
        return HostCheck(verdict: .ok, subject: "decoder", finding: text)
    }

    /// The default machine's 512 MiB and Penumbra's own 200 MiB at most.
    private static func memory() -> HostCheck {
        guard let available = HostMemory.availableBytes() else {
            return HostCheck(
                verdict: .note, subject: "memory", finding: "unknown: no /proc/meminfo")
        }
        let finding = "\(available >> 20) MiB available"
        guard available >= (512 + 200) << 20 else {
            return HostCheck(
                verdict: .note, subject: "memory",
                finding: "\(finding): the default machine may touch 712 MiB; give it less with -m")
        }
        return HostCheck(verdict: .ok, subject: "memory", finding: finding)
    }

    private static func guest() -> HostCheck {
        do throws(Failure) {
            return HostCheck(
                verdict: .ok, subject: "default guest", finding: try DefaultGuest.find().kernel)
        } catch {
            return HostCheck(verdict: .note, subject: "default guest", finding: "\(error)")
        }
    }

    private static func terminal() -> HostCheck {
        guard isatty(STDIN_FILENO) == 1 else {
            return HostCheck(
                verdict: .note, subject: "terminal",
                finding: "standard input is none: no Ctrl-A keys, every byte goes to the guest")
        }
        return HostCheck(
            verdict: .ok, subject: "terminal", finding: "Ctrl-A X will end the machine")
    }
}

/// How much memory the host can give.
enum HostMemory {
    /// Bytes that are available (MemAvailable of /proc/meminfo, proc(5)), no more than the control
    /// group allows (memory.max); nil where the host does not say.
    static func availableBytes() -> UInt64? {
        guard let text = contents(of: "/proc/meminfo"),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("MemAvailable:") }),
            let kibibytes = UInt64(line.filter(\.isNumber))
        else { return nil }
        let available = kibibytes &<< 10
        guard let limit = contents(of: "/sys/fs/cgroup/memory.max"),
            let bytes = UInt64(limit.prefix { $0.isNumber })
        else { return available }
        return min(available, bytes)
    }

    /// The first 64 KiB of a small file of the kernel's.
    private static func contents(of path: FilePath) -> String? {
        guard let file = try? FileDescriptor.open(path, .readOnly) else { return nil }
        return try? file.closeAfter {
            try unsafe String(unsafeUninitializedCapacity: 64 << 10) { buffer in
                unsafe try file.read(into: UnsafeMutableRawBufferPointer(buffer))
            }
        }
    }
}
