import Glibc

/// The three standard file descriptors, and plain lines on standard error.
enum StandardStreams {
    /// Makes the descriptors fit to use, once, before anything else: a closed one is not taken by
    /// the next file that is opened, and a reader that goes away, or a file that has reached the limit
    /// on sizes, is an error, not a signal.
    static func prepare() {
        signal(SIGPIPE, SIG_IGN)
        // A file that may not grow any more is an error, too.
        signal(SIGXFSZ, SIG_IGN)
        for descriptor in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO]
        where fcntl(descriptor, F_GETFD) < 0 {
            // open(2) gives the lowest free descriptor: this one. Written to, a read-only file
            // fails with EBADF, as the closed descriptor would.
            let mode = descriptor == STDERR_FILENO ? O_WRONLY : O_RDONLY
            guard unsafe open("/dev/null", mode) == descriptor else { return }
        }
    }

    /// Whether standard output can be written at all.
    static var outputIsWritable: Bool {
        let flags = fcntl(STDOUT_FILENO, F_GETFL)
        return flags >= 0 && flags & O_ACCMODE != O_RDONLY
    }

    /// Writes a text on standard output.
    /// - Throws: `Failure.cannotWrite`.
    static func print(_ text: String) throws(Failure) {
        let error = Descriptor.write(Array(text.utf8)[...], to: STDOUT_FILENO) { false }
        guard error == 0 else { throw .cannotWrite(path: "standard output", errno: error) }
    }

    /// Writes `penumbra: message` on standard error, on one line whatever the message holds.
    static func report(_ message: String) {
        let line = message.split(whereSeparator: \.isNewline)
            .map { $0.trimmingPrefix { $0 == " " } }.joined(separator: " ")
        writeError("penumbra: \(line)\n")
    }

    /// Writes text on standard error as it is; what cannot be written is lost.
    static func writeError(_ text: String) {
        _ = Descriptor.write(Array(text.utf8)[...], to: STDERR_FILENO) { false }
    }
}

/// Writing all of something, over and over as long as the system takes only a part.
enum Descriptor {
    /// Writes all bytes; waits where the descriptor does not block.
    ///
    /// `isAbandoned` is asked whenever a signal interrupts the wait; once it is true, the rest is
    /// dropped.
    /// - Returns: 0, or the system's error number.
    static func write(
        _ bytes: ArraySlice<UInt8>, to descriptor: Int32, isAbandoned: () -> Bool
    ) -> Int32 {
        var rest = bytes
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { buffer in
                // The buffer outlives the call, and its length is its own.
                unsafe Glibc.write(descriptor, buffer.baseAddress, buffer.count)
            }
            if count >= 0 {
                rest = rest.dropFirst(count)
                continue
            }
            switch errno {
            case EINTR:
                break
            case EAGAIN:
                _ = wait(for: POLLOUT, on: descriptor, milliseconds: -1)
            case let error:
                return error
            }
            if isAbandoned() { return 0 }
        }
        return 0
    }

    /// Waits until a descriptor is ready, or has failed: poll(2).
    /// - Parameter milliseconds: how long at most; negative: for ever.
    /// - Returns: whether it is ready or has failed; false when the time is over or a signal came.
    static func wait(for events: Int32, on descriptor: Int32, milliseconds: Int32) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(truncatingIfNeeded: events), revents: 0)
        return unsafe poll(&entry, 1, milliseconds) > 0
    }
}
