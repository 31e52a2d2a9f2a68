import Glibc

/// A socket's descriptor, closed with the value. It never blocks.
final class Socket {
    let descriptor: Int32
    /// Of a listening socket in the file system: its file, which goes with it.
    private var path: String?

    private init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit {
        close(descriptor)
        if let path { unsafe unlink(path) }
    }

    // MARK: Listening

    /// Waits for connections.
    static func listening(at endpoint: DebugEndpoint) throws(DebugServerError) -> Socket {
        let family =
            switch endpoint {
            case .tcp: AF_INET
            case .unix: AF_UNIX
            }
        let descriptor = socket(family, type, 0)
        guard descriptor >= 0 else { throw .cannotListen(endpoint, errno: errno) }
        let made = Socket(descriptor)
        switch endpoint {
        case .tcp(let host, let port):
            var one: Int32 = 1
            // Connections that have ended a moment ago are no reason to refuse.
            unsafe setsockopt(
                descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            let number = host.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            address.sin_addr.s_addr = number.bigEndian
            guard made.bind(&address) else { throw .cannotListen(endpoint, errno: errno) }
        case .unix(let path):
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            unsafe withUnsafeMutableBytes(of: &address.sun_path) { bytes in
                // A DebugEndpoint's path leaves room for the zero at the end.
                for (index, byte) in path.utf8.prefix(bytes.count - 1).enumerated() {
                    unsafe bytes[index] = byte
                }
            }
            guard made.bind(&address) else { throw .cannotListen(endpoint, errno: errno) }
            made.path = path
        }
        guard listen(descriptor, 4) == 0 else { throw .cannotListen(endpoint, errno: errno) }
        return made
    }

    private static var type: Int32 {
        Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    }

    private func bind<Address>(_ address: inout Address) -> Bool {
        unsafe withUnsafePointer(to: &address) { pointer in
            // Both kinds of address begin as `sockaddr` does, and the length is their own.
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe Glibc.bind(descriptor, address, socklen_t(MemoryLayout<Address>.size)) == 0
            }
        }
    }

    /// The port that an IPv4 socket has; 0 for others.
    var port: UInt16 {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe getsockname(descriptor, address, &length)
            }
        }
        guard result == 0, address.sin_family == sa_family_t(AF_INET) else { return 0 }
        return UInt16(bigEndian: address.sin_port)
    }

    /// Takes a connection that waits; nil where there is none.
    func accept() -> Socket? {
        let connection = Glibc.accept(descriptor, nil, nil)
        guard connection >= 0 else { return nil }
        _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
        _ = fcntl(connection, F_SETFL, O_NONBLOCK)
        var one: Int32 = 1
        // Packets are small, and each is waited for; a socket of another kind refuses.
        unsafe setsockopt(
            connection, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        return Socket(connection)
    }

    // MARK: Bytes

    /// What has come, at most 4096 bytes; empty where nothing has, nil once the other end is gone.
    func receive() -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = unsafe bytes.withUnsafeMutableBytes { buffer in
            // Reads at most the buffer's own length.
            unsafe recv(descriptor, buffer.baseAddress, buffer.count, 0)
        }
        if count > 0 { return Array(bytes[..<count]) }
        return count < 0 && [EAGAIN, EWOULDBLOCK, EINTR].contains(errno) ? [] : nil
    }

    /// Sends all bytes; false where the other end is gone, or takes nothing for so long.
    func send(_ bytes: [UInt8], milliseconds: Int32) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { buffer in
                // The buffer outlives the call, and its length is its own.
                unsafe Glibc.send(
                    descriptor, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL))
            }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN || errno == EWOULDBLOCK {
                guard Self.wait(for: POLLOUT, on: [self], milliseconds: milliseconds) else {
                    return false
                }
            } else if errno != EINTR {
                return false
            }
        }
        return true
    }

    /// Waits until one of the sockets is ready, or has failed: poll(2).
    /// - Returns: false when the time is over or a signal came.
    static func wait(for events: Int32, on sockets: [Socket], milliseconds: Int32) -> Bool {
        var entries = sockets.map {
            pollfd(fd: $0.descriptor, events: Int16(truncatingIfNeeded: events), revents: 0)
        }
        return unsafe poll(&entries, nfds_t(entries.count), milliseconds) > 0
    }
}
