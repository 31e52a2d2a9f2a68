import Glibc

/// The speed of a run on one line of standard error, renewed every second.
struct Progress {
    /// Whether there is a place to show it: a terminal on standard error that is not the console's.
    static var isWanted: Bool { isatty(STDERR_FILENO) == 1 && isatty(STDOUT_FILENO) == 0 }

    private var polls = 0
    private var shownAt = Progress.now
    private var shownRetired: UInt64 = 0
    private var isShown = false

    /// Called often; asks for the retired count only when a second is over.
    mutating func update(retired: () -> UInt64) {
        polls &+= 1
        // The clock is not read every time.
        guard polls & 15 == 0 else { return }
        let now = Progress.now
        let elapsed = now &- shownAt
        guard elapsed >= 1_000_000_000 else { return }
        let count = retired()
        let millionsASecond = Double(count &- shownRetired) * 1000 / Double(elapsed)
        let line = "\(count / 1_000_000) million instructions, \(Int(millionsASecond)) million/s"
        StandardStreams.writeError("\r\u{1B}[K\(line)")
        (shownAt, shownRetired, isShown) = (now, count, true)
    }

    /// Takes the line away again.
    func end() {
        if isShown { StandardStreams.writeError("\r\u{1B}[K") }
    }

    /// Nanoseconds of the host's monotonic clock.
    private static var now: UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000
            &+ UInt64(truncatingIfNeeded: time.tv_nsec)
    }
}
