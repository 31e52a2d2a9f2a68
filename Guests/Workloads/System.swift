/// Linux's system calls, raw: a call that fails ends the program with a line that names it.

@_extern(c, "workloads_system_call")
private func rawCall(
    _ number: Int, _ first: Int, _ second: Int, _ third: Int, _ fourth: Int, _ fifth: Int
) -> Int

@_extern(c, "workloads_start_thread")
private func rawThread(_ stack: Int, _ argument: Int) -> Int

/// The calls that are used, with their numbers on x86-64.
enum Call: Int {
    case read = 0
    case write = 1
    case open = 2
    case close = 3
    case mmap = 9
    case mprotect = 10
    case munmap = 11
    case pread64 = 17
    case schedYield = 24
    case madvise = 28
    case pipe = 22
    case fork = 57
    case execve = 59
    case exit = 60
    case wait4 = 61
    case getppid = 110
    case schedSetAffinity = 203
    case schedGetAffinity = 204

    var name: StaticString {
        switch self {
        case .read: "read"
        case .write: "write"
        case .open: "open"
        case .close: "close"
        case .mmap: "mmap"
        case .mprotect: "mprotect"
        case .munmap: "munmap"
        case .pread64: "pread64"
        case .schedYield: "sched_yield"
        case .madvise: "madvise"
        case .pipe: "pipe"
        case .fork: "fork"
        case .execve: "execve"
        case .exit: "exit"
        case .wait4: "wait4"
        case .getppid: "getppid"
        case .schedSetAffinity: "sched_setaffinity"
        case .schedGetAffinity: "sched_getaffinity"
        }
    }
}

enum System {
    /// Makes a system call.
    /// - Returns: what the kernel returns; from −4095 to −1 it is an error's number, negated.
    @discardableResult
    static func attempt(
        _ call: Call, _ first: Int = 0, _ second: Int = 0, _ third: Int = 0, _ fourth: Int = 0,
        _ fifth: Int = 0
    ) -> Int {
        rawCall(call.rawValue, first, second, third, fourth, fifth)
    }

    /// Makes a system call that has to succeed.
    @discardableResult
    static func call(
        _ call: Call, _ first: Int = 0, _ second: Int = 0, _ third: Int = 0, _ fourth: Int = 0,
        _ fifth: Int = 0
    ) -> Int {
        let result = attempt(call, first, second, third, fourth, fifth)
        if result < 0 && result >= -4095 { fail(call, -result) }
        return result
    }

    /// Says which call failed, and ends the program.
    static func fail(_ call: Call, _ error: Int) -> Never {
        var line = Line()
        line.append("workload: ")
        line.append(call.name)
        line.append(" failed: error ")
        line.append(decimal: UInt(bitPattern: error))
        line.write(to: 2)
        exit(1)
    }

    /// Ends this process, or this thread.
    static func exit(_ status: Int) -> Never {
        while true { attempt(.exit, status) }
    }

    /// Starts a process that is a copy of this one.
    /// - Returns: 0 in the new process, its number in the old one.
    static func fork() -> Int { call(.fork) }

    /// Starts a process that shares this one's memory and begins with `workloads_thread(argument)`.
    static func startThread(_ argument: Int) {
        let stack = Memory(pages: 16)
        let result = rawThread(stack.address + stack.size, argument)
        if result < 0 { fail(.fork, -result) }
    }

    /// Waits until a child has ended (any, where none is named).
    /// - Returns: its exit status; a child that a signal ended ends the program.
    static func wait(for child: Int = -1) -> Int {
        var status: Int32 = 0
        unsafe withUnsafeMutablePointer(to: &status) {
            _ = call(.wait4, child, Int(bitPattern: $0))
        }
        if status & 0x7f != 0 {
            var line = Line()
            line.append("workload: a child was ended by signal ")
            line.append(decimal: UInt(status & 0x7f))
            line.write(to: 2)
            exit(1)
        }
        return Int(status >> 8 & 0xff)
    }

    /// Whether a child has ended already. None of them is waited for.
    static func hasEndedChild() -> Bool {
        // WNOHANG: 0 where all still run.
        attempt(.wait4, -1, 0, 1) != 0
    }

    /// Has this process run on one processor only.
    static func pin(to processor: Int) {
        var mask: UInt64 = 1 << UInt64(processor & 63)
        unsafe withUnsafeMutablePointer(to: &mask) {
            _ = call(.schedSetAffinity, 0, 8, Int(bitPattern: $0))
        }
    }

    /// How many processors there are, of the first 64.
    static func processorCount() -> Int {
        var mask: UInt64 = 0
        unsafe withUnsafeMutablePointer(to: &mask) {
            _ = call(.schedGetAffinity, 0, 8, Int(bitPattern: $0))
        }
        return mask.nonzeroBitCount
    }
}
