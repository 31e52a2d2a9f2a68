import Glibc

/// How a run that `penumbra compare` started tells how far it is: retired instructions as 8 bytes in
/// the host's order, now and then, on a pipe. Where nobody reads it any more, the run is to end.
struct Pulse {
    private let descriptor: Int32
    private var polls = 0

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// Called whenever the machine looks at its console, of which one in many beats.
    /// - Returns: whether anybody may still be there.
    mutating func beat(_ retired: UInt64) -> Bool {
        polls &+= 1
        guard polls & 63 == 0 else { return true }
        let count = unsafe withUnsafeBytes(of: retired) { bytes in
            // The value outlives the call, and has the length that is given.
            unsafe write(descriptor, bytes.baseAddress, bytes.count)
        }
        return count >= 0 || errno == EAGAIN || errno == EINTR
    }
}
