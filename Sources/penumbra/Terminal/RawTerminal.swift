import Glibc
import VirtualMachine

/// The terminal in raw mode while the guest runs, given back as it was however that ends.
///
/// The problem is that a process can end in many ways. The approach: the terminal's own settings lie
/// in one block of memory that signal handlers can read, and there is a handler for
/// - signals that ask to end (SIGHUP, SIGINT, SIGQUIT, SIGTERM): the first one asks the machine to
///   stop, and the run ends in its usual way; a second one restores the terminal and dies of it;
/// - signals of a crash (SIGSEGV, SIGABRT, …), on a stack of their own: restore, then die of it;
/// - SIGTSTP: restore, stop, and raw mode again when continued.
///
/// Handlers touch only that block and call only functions that are safe in one
/// (signal-safety(7)). Caveat: SIGKILL and SIGSTOP cannot be caught; `reset` or `stty sane` helps.
///
/// There is one terminal, one run at a time: `begin` … `end` on the main thread.
enum RawTerminal {
    /// What the handlers know. Written before they are installed, but for `signal`.
    /// `stop` is retained for ever by `begin`, so that the handlers may use it at any time.
    @safe fileprivate struct State {
        var original = termios()
        var raw = termios()
        /// Whether standard input is a terminal, and in raw mode.
        var isRaw = false
        /// The signal that asked to end, 0 while none has.
        var signal: Int32 = 0
        var stop: Unmanaged<StopFlag>?
    }

    private static let endings = [SIGHUP, SIGINT, SIGQUIT, SIGTERM]
    private static let crashes = [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS]
    private static let alternateStackBytes = 64 << 10

    /// Never freed: a handler may run at any time.
    fileprivate nonisolated(unsafe) static let state: UnsafeMutablePointer<State> = {
        let state = UnsafeMutablePointer<State>.allocate(capacity: 1)
        unsafe state.initialize(to: State())
        return unsafe state
    }()

    /// The signal that asked the machine to end; nil while none has.
    static var endingSignal: Int32? {
        let signal = unsafe state.pointee.signal
        return signal == 0 ? nil : signal
    }

    /// Installs the handlers and, where standard input is a terminal, enters raw mode.
    /// - Parameter stop: asked when a signal wants the machine to end; kept for ever.
    static func begin(stop: StopFlag) {
        unsafe state.pointee.stop = Unmanaged.passRetained(stop)
        unsafe state.pointee.signal = 0
        install()
        guard isatty(STDIN_FILENO) == 1,
            unsafe tcgetattr(STDIN_FILENO, &state.pointee.original) == 0
        else { return }
        unsafe state.pointee.raw = state.pointee.original
        unsafe cfmakeraw(&state.pointee.raw)
        // Set first: a signal in between then restores settings that have not changed yet.
        unsafe state.pointee.isRaw = true
        unsafe tcsetattr(STDIN_FILENO, TCSANOW, &state.pointee.raw)
    }

    /// Gives the terminal back. The handlers stay: they still tell a signal from success.
    static func end() {
        restoreTerminal()
        unsafe state.pointee.isRaw = false
    }

    private static func install() {
        var stack = unsafe stack_t()
        unsafe stack.ss_sp = UnsafeMutableRawPointer.allocate(
            byteCount: alternateStackBytes, alignment: 16)
        unsafe stack.ss_size = alternateStackBytes
        unsafe sigaltstack(&stack, nil)
        for signal in endings { handle(signal, flags: 0, by: endingHandler) }
        for signal in crashes { handle(signal, flags: SA_ONSTACK, by: crashHandler) }
        handle(SIGTSTP, flags: 0, by: pauseHandler)
    }
}

/// Installs a handler without SA_RESTART, so that a wait for input ends when a signal comes. A signal
/// that was ignored when the program started (nohup) stays so.
private func handle(
    _ signal: Int32, flags: Int32, by handler: @escaping @convention(c) (Int32) -> Void
) {
    var previous = sigaction()
    if unsafe sigaction(signal, nil, &previous) == 0,
        unsafe unsafeBitCast(previous.__sigaction_handler.sa_handler, to: Int.self)
            == unsafeBitCast(SIG_IGN, to: Int.self)
    {
        return
    }
    var action = sigaction()
    unsafe action.__sigaction_handler.sa_handler = handler
    action.sa_flags = flags
    unsafe sigaction(signal, &action, nil)
}

/// Safe in a handler: tcsetattr(3) is.
private func restoreTerminal() {
    if unsafe RawTerminal.state.pointee.isRaw {
        unsafe tcsetattr(STDIN_FILENO, TCSANOW, &RawTerminal.state.pointee.original)
    }
}

/// Dies of the signal as if there were no handler; it is delivered when the handler returns.
private func die(of signal: Int32) {
    restoreTerminal()
    Glibc.signal(signal, SIG_DFL)
    raise(signal)
}

private func endingHandler(_ signal: Int32) {
    let saved = errno
    let state = unsafe RawTerminal.state
    if unsafe state.pointee.signal == 0, let stop = unsafe state.pointee.stop {
        unsafe state.pointee.signal = signal
        unsafe stop.takeUnretainedValue().requestStop()
    } else {
        die(of: signal)
    }
    errno = saved
}

private func crashHandler(_ signal: Int32) {
    die(of: signal)
}

private func pauseHandler(_ signal: Int32) {
    let saved = errno
    die(of: signal)
    // The signal is blocked here; once let in, it stops the process there and then.
    var set = sigset_t()
    unsafe sigemptyset(&set)
    unsafe sigaddset(&set, signal)
    unsafe sigprocmask(SIG_UNBLOCK, &set, nil)
    handle(signal, flags: 0, by: pauseHandler)
    if unsafe RawTerminal.state.pointee.isRaw {
        unsafe tcsetattr(STDIN_FILENO, TCSANOW, &RawTerminal.state.pointee.raw)
    }
    errno = saved
}
