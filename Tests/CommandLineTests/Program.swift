import Glibc

/// The built `penumbra`, run as its users run it: as a process.
enum Program {
    /// How a process ended.
    enum Ending: Equatable {
        case exited(Int32)
        case signaled(Int32)
    }

    /// What a process that has ended left behind.
    struct Result {
        var ending: Ending
        var output: String
        var errors: String

        /// The lines on standard error.
        var errorLines: [Substring] { errors.split(separator: "\n") }
    }

    /// The test bundle's own folder has the program, as both are products of one build.
    static let path: String = {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = unsafe readlink("/proc/self/exe", &buffer, buffer.count)
        let bytes = buffer.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }
        let folder = String(decoding: bytes, as: UTF8.self).split(separator: "/").dropLast()
        return "/" + folder.joined(separator: "/") + "/penumbra"
    }()

    /// Runs `penumbra` with the arguments to its end.
    static func run(_ arguments: String..., input: String = "") throws -> Result {
        try runTool([path] + arguments, input: input)
    }

    /// Runs any program to its end. Its streams are files, so that nothing can block on a pipe.
    static func runTool(_ arguments: [String], input: String = "") throws -> Result {
        let folder = try Scratch()
        let inputFile = try openFile(folder.file("in", Array(input.utf8)), O_RDONLY)
        let outputFile = try openFile(folder.file("out"), O_RDWR)
        let errorFile = try openFile(folder.file("err"), O_RDWR)
        defer { for file in [inputFile, outputFile, errorFile] { close(file) } }
        let process = try start(
            arguments, input: inputFile, output: outputFile, errors: errorFile)
        let ending = wait(for: process)
        return Result(
            ending: ending, output: try folder.text("out"), errors: try folder.text("err"))
    }

    /// Starts a program on the given descriptors, no signal blocked or ignored: worker threads, on
    /// which tests run, block most of them.
    /// - Returns: its process number.
    static func start(
        _ arguments: [String], input: Int32, output: Int32, errors: Int32
    ) throws -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO)
        unsafe posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
        unsafe posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO)
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe posix_spawnattr_setsigmask(&attributes, &signals)
        unsafe sigfillset(&signals)
        unsafe posix_spawnattr_setsigdefault(&attributes, &signals)
        unsafe posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        var words = unsafe arguments.map { unsafe strdup($0) } + [nil]
        defer {
            for index in unsafe words.indices { unsafe free(words[index]) }
        }
        var process: pid_t = 0
        let error = unsafe posix_spawn(
            &process, arguments[0], &actions, &attributes, &words, environ)
        guard error == 0 else {
            throw SystemError(call: "posix_spawn \(arguments[0])", errno: error)
        }
        return process
    }

    /// Waits until a process has ended; one that is stuck for two minutes is killed, and so fails its
    /// test in place of hanging it.
    static func wait(for process: pid_t) -> Ending {
        var status: Int32 = 0
        var patience = 60_000
        while unsafe waitpid(process, &status, WNOHANG) == 0 {
            usleep(2000)
            patience -= 1
            if patience == 0 { kill(process, SIGKILL) }
        }
        let signal = status & 0x7F
        return signal == 0 ? .exited(status >> 8 & 0xFF) : .signaled(signal)
    }

    /// Opens a file that no other process inherits.
    static func openFile(_ path: String, _ flags: Int32) throws -> Int32 {
        let descriptor = unsafe open(path, flags | O_CLOEXEC)
        guard descriptor >= 0 else { throw SystemError(call: "open \(path)", errno: errno) }
        return descriptor
    }
}

/// A system call of the test itself that failed.
struct SystemError: Error {
    var call: String
    var errno: Int32
}
