import Synchronization

/// The far end of the guest's serial console. Called on the machine's thread.
public protocol ConsolePort: AnyObject {
    /// The guest printed a byte.
    func write(_ byte: UInt8)
    /// Looked at about every 100,000 instructions, whether or not the guest takes input.
    func poll()
    /// A byte for the guest, if there is one now. Asked after `poll`, while the guest has room.
    func read() -> UInt8?
    /// The guest has nothing to do before `nanoseconds` have passed, unless input comes.
    func waitForInput(nanoseconds: UInt64)
}

/// Asks a machine to stop or to pause; from any thread, or from a signal handler.
public final class StopFlag: Sendable {
    private let flag = Atomic<Bool>(false)

    init() {}

    /// Makes the machine's `run` return, soon, what the flag is for. Async-signal-safe.
    public func requestStop() { flag.store(true, ordering: .relaxed) }

    /// Takes the request back.
    func clear() { flag.store(false, ordering: .relaxed) }

    /// Whether it was asked to stop.
    public var isSet: Bool { flag.load(ordering: .relaxed) }
}
