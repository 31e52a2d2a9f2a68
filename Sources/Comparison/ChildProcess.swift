import Glibc

/// A process that the comparison started, and its pulse: the pipe by which it tells how far it is,
/// and learns that nobody waits for it any more.
struct ChildProcess {
    enum Ending: Equatable {
        case exited(Int32)
        case signaled(Int32)
    }

    let process: pid_t
    private let pulse: Int32
    /// The instructions that it had retired when it told last.
    private(set) var retired: UInt64 = 0

    /// The descriptor that a child has its end of the pipe on.
    static let beats: Int32 = 3

    /// Starts a program. Its streams are files, so that nothing can block.
    /// - Throws: `ComparisonError.cannotStart`.
    init(_ arguments: [String], input: String, output: String, errors: String)
        throws(ComparisonError)
    {
        var ends: [Int32] = [0, 0]
        guard unsafe pipe(&ends) == 0 else { throw .cannotStart(arguments[0], errno: errno) }
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        defer { close(ends[1]) }
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, input, O_RDONLY, 0)
        let create = O_WRONLY | O_CREAT | O_TRUNC
        unsafe posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, create, 0o644)
        unsafe posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors, create, 0o644)
        unsafe posix_spawn_file_actions_adddup2(&actions, ends[1], Self.beats)
        // The handlers of this process do not outlive exec; what it blocks or ignores would.
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        unsafe sigemptyset(&none)
        unsafe posix_spawnattr_setsigmask(&attributes, &none)
        unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var words = unsafe arguments.map { unsafe strdup($0) } + [nil]
        defer {
            for index in unsafe words.indices { unsafe free(words[index]) }
        }
        var process: pid_t = 0
        let error = unsafe posix_spawn(
            &process, arguments[0], &actions, &attributes, &words, environ)
        guard error == 0 else {
            close(ends[0])
            throw .cannotStart(arguments[0], errno: error)
        }
        self.process = process
        pulse = ends[0]
    }

    /// Takes what the child has told, and asks whether it has ended; once it has, this is not to be
    /// asked again.
    mutating func poll() -> Ending? {
        var buffer = [UInt64](repeating: 0, count: 64)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { bytes in
                // Reads at most the buffer's own length.
                unsafe read(pulse, bytes.baseAddress, bytes.count)
            }
            guard count >= 8 else { break }
            retired = buffer[count / 8 - 1]
        }
        var status: Int32 = 0
        guard unsafe waitpid(process, &status, WNOHANG) == process else { return nil }
        close(pulse)
        let signal = status & 0x7F
        return signal == 0 ? .exited(status >> 8 & 0xFF) : .signaled(signal)
    }

    /// Asks the child to end, or makes it end.
    func end(_ signal: Int32 = SIGTERM) { kill(process, signal) }
}

/// Whether the user wants the comparison to end: SIGINT, SIGTERM or SIGHUP came.
public enum Interruption {
    /// Written by the handler alone, after `watch` has made it; never freed.
    private nonisolated(unsafe) static let signal: UnsafeMutablePointer<Int32> = {
        let signal = UnsafeMutablePointer<Int32>.allocate(capacity: 1)
        unsafe signal.initialize(to: 0)
        return unsafe signal
    }()

    /// The signal that came; nil while none has.
    public static var number: Int32? {
        let number = unsafe signal.pointee
        return number == 0 ? nil : number
    }

    /// Takes these signals from now on.
    public static func watch() {
        _ = number
        for number in [SIGINT, SIGTERM, SIGHUP] {
            Glibc.signal(number) { number in unsafe Interruption.signal.pointee = number }
        }
    }
}
