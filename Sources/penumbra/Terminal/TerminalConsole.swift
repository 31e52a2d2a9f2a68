import Glibc
import VirtualMachine

/// The guest's serial console on standard input and output.
///
/// Output is gathered and written when a line or the buffer is full, and whenever the machine looks
/// at its console, so that it is never late by more than the machine's polling interval. Where standard
/// input is a terminal, Ctrl-A is the escape key (`EscapeKeys`); otherwise every byte is the
/// guest's, and the end of the input is no event.
///
/// Once the console is gone (nobody reads it, the terminal hung up) the machine is asked to stop,
/// and `end` tells why. Used on the machine's thread only.
final class TerminalConsole: ConsolePort {
    /// Why the console ended the machine.
    enum End: Equatable {
        /// Ctrl-A X.
        case escape
        /// It cannot be written or read; the system's error number.
        case gone(errno: Int32)
    }

    /// Why the console ended the machine; nil while it has not.
    private(set) var end: End?
    /// Asked to stop when the console ends the machine.
    var stop: StopFlag?
    /// Called whenever the machine looks at its console.
    var onPoll: () -> Void = {}
    /// Called at Ctrl-A S.
    var onSave: () -> Void = {}

    private static let outputCapacity = 4096
    /// Where so much is typed ahead, the rest waits in the terminal.
    private static let inputCapacity = 4096
    /// A wait is no longer than this, in case a signal came just before it.
    private static let longestWait: UInt64 = 100_000_000

    private let inputIsTerminal = isatty(STDIN_FILENO) == 1
    private var inputHasEnded = false
    private var keys = EscapeKeys()
    private var input: ArraySlice<UInt8> = []
    private var output: [UInt8] = []

    init() {
        output.reserveCapacity(Self.outputCapacity)
    }

    func write(_ byte: UInt8) {
        output.append(byte)
        if byte == UInt8(ascii: "\n") || output.count >= Self.outputCapacity { flush() }
    }

    /// Attends to both directions whether or not the guest reads: the escape keys and a console that
    /// went away must end any guest.
    func poll() {
        flush()
        onPoll()
        if input.count < Self.inputCapacity { fill() }
    }

    func read() -> UInt8? {
        if input.isEmpty { poll() }
        return input.popFirst()
    }

    func waitForInput(nanoseconds: UInt64) {
        flush()
        guard input.isEmpty, end == nil, RawTerminal.endingSignal == nil else { return }
        let milliseconds = Int32(truncatingIfNeeded: min(nanoseconds, Self.longestWait) / 1_000_000)
        guard !inputHasEnded else {
            _ = Glibc.poll(nil, 0, milliseconds)
            return
        }
        _ = Descriptor.wait(for: POLLIN, on: STDIN_FILENO, milliseconds: milliseconds)
    }

    /// Writes what has been gathered.
    func flush() {
        guard !output.isEmpty else { return }
        if end == nil {
            let error = Descriptor.write(output[...], to: STDOUT_FILENO) {
                RawTerminal.endingSignal != nil
            }
            if error != 0 { finish(.gone(errno: error)) }
        }
        output.removeAll(keepingCapacity: true)
    }

    /// Takes what standard input has, without waiting.
    private func fill() {
        guard !inputHasEnded, end == nil,
            Descriptor.wait(for: POLLIN, on: STDIN_FILENO, milliseconds: 0)
        else { return }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = unsafe bytes.withUnsafeMutableBytes { buffer in
            // Reads at most the buffer's own length.
            unsafe Glibc.read(STDIN_FILENO, buffer.baseAddress, buffer.count)
        }
        guard count > 0 else {
            if count == 0 || errno != EINTR && errno != EAGAIN { noteEndOfInput() }
            return
        }
        input += inputIsTerminal ? filter(bytes[..<count]) : bytes[..<count]
    }

    /// A pipe or a file that ends is no event; a terminal that ends has hung up.
    private func noteEndOfInput() {
        inputHasEnded = true
        if inputIsTerminal { finish(.gone(errno: EIO)) }
    }

    /// The guest's part of what was typed.
    private func filter(_ typed: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var bytes: [UInt8] = []
        for byte in typed {
            switch keys.action(for: byte) {
            case .send(let byte): bytes.append(byte)
            case .nothing: break
            case .end: finish(.escape)
            case .save: onSave()
            case .help: StandardStreams.writeError(EscapeKeys.help)
            }
        }
        return bytes[...]
    }

    private func finish(_ reason: End) {
        if end == nil { end = reason }
        stop?.requestStop()
    }
}
