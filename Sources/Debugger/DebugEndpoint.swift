import Glibc

/// Where a debugger finds the machine: the value of `-gdb`.
public enum DebugEndpoint: Equatable, Sendable, CustomStringConvertible {
    /// An IPv4 address, most significant byte first, and a port; port 0 is one that is free.
    case tcp(host: [UInt8], port: UInt16)
    /// A socket in the file system.
    case unix(path: String)

    /// What `-s` stands for.
    public static let standard = DebugEndpoint.tcp(host: loopback, port: 1234)
    /// 127.0.0.1, where no host is named: nobody else is to reach into the machine.
    public static let loopback: [UInt8] = [127, 0, 0, 1]
    /// The longest path of a socket, in bytes: unix(7).
    public static let longestPath = 107

    /// Reads `tcp::PORT`, `tcp:HOST:PORT` or `unix:PATH`.
    public init(parsing text: String) throws(DebugServerError) {
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst(5))
            guard 1...Self.longestPath ~= path.utf8.count, !path.utf8.contains(0) else {
                throw .badPath(path)
            }
            self = .unix(path: path)
            return
        }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "tcp", let port = UInt16(parts[2]),
            let host = Self.host(parts[1])
        else { throw .badAddress(text) }
        self = .tcp(host: host, port: port)
    }

    private static func host(_ text: Substring) -> [UInt8]? {
        if text.isEmpty || text == "localhost" { return loopback }
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        let bytes = parts.compactMap { UInt8($0) }
        return parts.count == 4 && bytes.count == 4 ? bytes : nil
    }

    public var description: String {
        switch self {
        case .tcp(let host, let port):
            "tcp:\(host.map { String($0) }.joined(separator: ".")):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }
}

/// Why no debugger can be waited for.
public enum DebugServerError: Error, Equatable, CustomStringConvertible {
    case badAddress(String)
    case badPath(String)
    /// The system refused; its error number.
    case cannotListen(DebugEndpoint, errno: Int32)

    public var description: String {
        switch self {
        case .badAddress(let text):
            return "-gdb takes tcp::PORT, tcp:HOST:PORT (HOST an IPv4 address or localhost) or "
                + "unix:PATH, not '\(text)'"
        case .badPath(let path):
            return "-gdb unix:PATH takes a path of 1 to \(DebugEndpoint.longestPath) bytes, not "
                + "'\(path)'"
        case .cannotListen(let endpoint, let number):
            let text = unsafe strerror(number).map { unsafe String(cString: $0) }
            return "cannot wait for a debugger at \(endpoint): \(text ?? "error \(number)")"
        }
    }
}
