import CHost
import CTracing
import Glibc
import X86

/// Runs cases on the host's own processor.
///
/// A child process, traced by this one, is the vehicle. Its registers are set and read from
/// outside; it executes nothing but cases, up to the first signal, and that is not delivered. It is
/// resumed with PTRACE_SYSEMU: a system call that it made would not be carried out. Code, data and
/// stack are memory that both share, at the addresses of `Area`.
@safe package final class NativeRunner {
    private var child: Int32 = 0
    private let code: UnsafeMutableRawPointer
    private let data: UnsafeMutableRawPointer
    private var registers = [UInt64](repeating: 0, count: 27)
    /// The child's XSAVE area, of the size that this host has.
    private var area: [UInt8] = []
    private let codeFile: Int32
    private let dataFile: Int32
    private var casesOfChild = 0

    /// Cases after which a child is replaced, so that its limit of processor time is fresh.
    private static let casesPerChild = 20_000
    private static let secondsPerChild: UInt = 60

    // Request numbers (ptrace(2), sys/ptrace.h).
    private static let traceMe = 0
    private static let getRegisters = 12
    private static let setRegisters = 13
    private static let emulateSystemCalls = 31
    private static let getSignal = 0x4202
    private static let getRegisterSet = 0x4204
    private static let setRegisterSet = 0x4205
    private static let killOnExit = 0x10_0000
    private static let setOptions = 0x4200
    private static let extendedState = 0x202

    /// Nil where the host forbids what is needed.
    package init?() {
        codeFile = unsafe memfd_create("penumbra-fuzz-code", PENUMBRA_MFD_CLOEXEC)
        dataFile = unsafe memfd_create("penumbra-fuzz-data", PENUMBRA_MFD_CLOEXEC)
        guard codeFile >= 0, dataFile >= 0, ftruncate(codeFile, 0x2000) == 0,
            ftruncate(dataFile, 0x4000) == 0,
            let codeView = unsafe mmap(
                nil, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED, codeFile, 0),
            let dataView = unsafe mmap(
                nil, 0x4000, PROT_READ | PROT_WRITE, MAP_SHARED, dataFile, 0),
            unsafe codeView != MAP_FAILED, unsafe dataView != MAP_FAILED
        else { return nil }
        unsafe code = codeView
        unsafe data = dataView
        guard start() else { return nil }
    }

    deinit {
        end()
        unsafe munmap(code, 0x2000)
        unsafe munmap(data, 0x4000)
        close(codeFile)
        close(dataFile)
    }

    private func end() {
        guard child > 0 else { return }
        kill(child, SIGKILL)
        var status: Int32 = 0
        while unsafe waitpid(child, &status, 0) == child && status & 0x7f == 0x7f {}
        child = 0
    }

    /// Makes the child; false where it cannot be made or traced.
    private func start() -> Bool {
        casesOfChild = 0
        child = penumbra_fork()
        if child == 0 { becomeVehicle() }
        var status: Int32 = 0
        guard child > 0, unsafe waitpid(child, &status, 0) == child, status & 0xff == 0x7f,
            unsafe penumbra_ptrace(
                Self.setOptions, Int(child), nil,
                UnsafeMutableRawPointer(bitPattern: Self.killOnExit))
                == 0
        else { return false }
        area = [UInt8](repeating: 0, count: 1 << 15)
        guard transferRegisters(Self.getRegisters), let size = transferState(Self.getRegisterSet),
            size >= ExtendedLayout.size
        else { return false }
        area = Array(area.prefix(size))
        return true
    }

    /// The child's life: only calls that are safe after a fork of a process with threads.
    private func becomeVehicle() -> Never {
        var limit = rlimit(rlim_cur: Self.secondsPerChild, rlim_max: Self.secondsPerChild)
        var none = rlimit(rlim_cur: 0, rlim_max: 0)
        unsafe setrlimit(__rlimit_resource_t(0), &limit)  // RLIMIT_CPU
        unsafe setrlimit(__rlimit_resource_t(4), &none)  // RLIMIT_CORE
        unsafe setrlimit(__rlimit_resource_t(1), &none)  // RLIMIT_FSIZE
        func map(_ address: UInt64, _ bytes: Int, _ rights: Int32, _ file: Int32, _ offset: Int)
            -> Bool
        {
            let place = unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))
            return unsafe mmap(place, bytes, rights, MAP_SHARED | 0x10_0000, file, offset) == place
        }
        let isMapped =
            map(Area.code, 0x2000, PROT_READ | PROT_EXEC, codeFile, 0)
            && map(Area.data, 0x2000, PROT_READ | PROT_WRITE, dataFile, 0)
            && map(Area.constant, 0x1000, PROT_READ, dataFile, 0x2000)
            && map(Area.stack, 0x1000, PROT_READ | PROT_WRITE, dataFile, 0x3000)
        if isMapped, penumbra_ptrace(Self.traceMe, 0, nil, nil) == 0 { raise(SIGSTOP) }
        _exit(1)
    }

    private func transferRegisters(_ request: Int) -> Bool {
        let process = Int(child)
        return unsafe registers.withUnsafeMutableBytes {
            unsafe penumbra_ptrace(request, process, nil, $0.baseAddress) == 0
        }
    }

    /// - Returns: the bytes transferred; nil after an error.
    private func transferState(_ request: Int) -> Int? {
        let process = Int(child)
        return unsafe area.withUnsafeMutableBytes { bytes in
            var vector = unsafe iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
            let kind = unsafe UnsafeMutableRawPointer(bitPattern: Self.extendedState)
            return unsafe penumbra_ptrace(request, process, kind, &vector) == 0
                ? vector.iov_len : nil
        }
    }

    /// Where user_regs_struct (sys/user.h) has RAX…R15, by their numbers.
    private static let places = [10, 11, 12, 5, 19, 4, 13, 14, 9, 8, 7, 6, 3, 2, 1, 0]

    /// Executes a case from its start to its exception.
    package func run(_ test: Case) -> Outcome {
        if casesOfChild >= Self.casesPerChild || child == 0 {
            end()
            guard start() else { return Outcome(vector: Outcome.lost) }
        }
        casesOfChild += 1
        unsafe test.memory.withUnsafeBytes { bytes in
            if let source = bytes.baseAddress {
                unsafe data.copyMemory(from: source, byteCount: min(bytes.count, 0x4000))
            }
        }
        let room = Int(Area.codeEnd - test.start)
        unsafe test.bytes.withUnsafeBytes { bytes in
            if let source = bytes.baseAddress {
                unsafe (code + 0x2000 - room).copyMemory(
                    from: source, byteCount: min(bytes.count, room))
            }
        }
        for (number, place) in Self.places.enumerated() { registers[place] = test.general[number] }
        let is64 = test.size == .bits64
        registers[15] = .max  // no system call to restart
        registers[16] = test.start
        registers[17] = is64 ? 0x33 : 0x23
        registers[18] = test.flags
        registers[20] = 0x2b
        registers[21] = is64 ? Area.fs : 0
        registers[22] = is64 ? Area.gs : 0
        registers[23] = is64 ? 0 : 0x2b
        registers[24] = is64 ? 0 : 0x2b
        registers[25] = 0
        registers[26] = 0
        area.replaceSubrange(0..<464, with: test.extended[0..<464])
        area.replaceSubrange(512..<ExtendedLayout.size, with: test.extended[512...])
        var status: Int32 = 0
        guard transferRegisters(Self.setRegisters), transferState(Self.setRegisterSet) != nil,
            penumbra_ptrace(Self.emulateSystemCalls, Int(child), nil, nil) == 0,
            unsafe waitpid(child, &status, 0) == child
        else {
            end()
            return Outcome(vector: Outcome.lost)
        }
        guard status & 0xff == 0x7f else {
            child = 0
            return Outcome(vector: Outcome.stopped)
        }
        return outcome(signal: status >> 8 & 0xff)
    }

    private func outcome(signal: Int32) -> Outcome {
        var outcome = Outcome()
        var information = [UInt64](repeating: 0, count: 16)
        let process = Int(child)
        let isKnown = unsafe information.withUnsafeMutableBytes {
            unsafe penumbra_ptrace(Self.getSignal, process, nil, $0.baseAddress) == 0
        }
        guard isKnown, transferRegisters(Self.getRegisters),
            transferState(Self.getRegisterSet) != nil
        else { return Outcome(vector: Outcome.lost) }
        let code = Int32(truncatingIfNeeded: information[1])
        outcome.vector = Self.vector(signal, code)
        outcome.address = information[2]
        outcome.rip = registers[16]
        outcome.flags = registers[18]
        for (number, place) in Self.places.enumerated() {
            outcome.general[number] = registers[place]
        }
        outcome.extended = Array(area.prefix(ExtendedLayout.size))
        unsafe outcome.memory = Array(UnsafeRawBufferPointer(start: data, count: 0x4000))
        return outcome
    }

    /// The exception behind a signal (arch/x86/kernel/traps.c says which it becomes).
    private static func vector(_ signal: Int32, _ code: Int32) -> Int {
        switch (signal, code) {
        case (SIGTRAP, 0x80): 3
        case (SIGTRAP, 1...4): 1
        case (SIGSEGV, 0x80): 13
        case (SIGSEGV, _): 14
        case (SIGBUS, 1): 17
        case (SIGBUS, _): 12
        case (SIGILL, _): 6
        case (SIGFPE, 1): 0
        case (SIGFPE, _): 16
        default: Outcome.lost
        }
    }
}
