import Glibc
import Processor
import VirtualMachine

/// Lets one debugger at a time work on a machine, by GDB's remote serial protocol over a socket.
///
/// *Problem.* The machine's thread is the only one; it must neither wait for a debugger while the
/// guest runs, nor look for one at each instruction.
///
/// *Approach.* While the guest runs, `wantsStop` is asked whenever the machine looks at its
/// console. It takes what has come without waiting: a new connection or the byte 3 stop the
/// machine. While it is stopped, `serve` converses until the debugger has it go on. What a
/// debugger asks of the machine is `DebugSession`'s.
///
/// *Example.*
/// ```swift
/// let server = try DebugServer(.standard, machine.debugTarget)
/// console.onPoll = { if server.wantsStop() { machine.breakFlag.requestStop() } }
/// while case .debugStop(let processor, let stop) = machine.run() {
///     guard server.serve((processor, stop), while: { !isOver }) == .resumed else { break }
/// }
/// ```
///
/// *Caveats.* Whoever can connect can do anything to the guest, and so it listens on 127.0.0.1
/// unless told otherwise. A debugger that leaves, in whatever way, leaves the machine running and
/// without breakpoints. A second one is turned away.
public final class DebugServer {
    /// How `serve` has ended.
    public enum Ending: Equatable, Sendable {
        /// The machine is to go on.
        case resumed
        /// The debugger has ended the machine.
        case killed
        /// The caller has.
        case abandoned
    }

    /// Where it listens; the port is the real one.
    public let endpoint: DebugEndpoint
    private let target: DebugTarget
    private let listener: Socket
    private var client: Client?

    /// One connection.
    private struct Client {
        var socket: Socket
        var session: DebugSession
        var reader = PacketReader()
        /// For a debugger that has not understood it.
        var lastPacket: [UInt8] = []
        /// It had the machine go on, and waits for a stop reply.
        var waitsForStop = false
    }

    /// How long a debugger may take nothing of what it is sent before it counts as gone.
    private static let patience: Int32 = 5000

    /// Begins to listen.
    public init(
        _ endpoint: DebugEndpoint, _ target: DebugTarget
    ) throws(DebugServerError) {
        listener = try Socket.listening(at: endpoint)
        if case .tcp(let host, 0) = endpoint {
            self.endpoint = .tcp(host: host, port: listener.port)
        } else {
            self.endpoint = endpoint
        }
        self.target = target
    }

    // MARK: While the machine runs

    /// Whether the machine is to stop for a debugger. Takes what has come, and does not wait.
    public func wantsStop() -> Bool {
        if acceptClient() { return true }
        guard let bytes = receive() else { return false }
        var wants = false
        for byte in bytes {
            // Nothing but the request to stop makes sense now.
            if client?.reader.take(byte) == .interrupt { wants = true }
        }
        return wants
    }

    /// Takes a connection that waits.
    /// - Returns: whether there is a new debugger.
    private func acceptClient() -> Bool {
        guard let connection = listener.accept() else { return false }
        // A second one is closed right away.
        guard client == nil else { return false }
        client = Client(socket: connection, session: DebugSession(target))
        return true
    }

    /// What has come from the debugger; nil where there is none any more.
    private func receive() -> [UInt8]? {
        guard let client else { return nil }
        guard let bytes = client.socket.receive() else {
            drop()
            return nil
        }
        return bytes
    }

    /// The debugger is gone, and with it what it wanted.
    private func drop() {
        client = nil
        target.release()
    }

    // MARK: While the machine is stopped

    /// Converses with the debugger until the machine is to go on; waits for one where there is none.
    /// - Parameters:
    ///   - stop: why the machine has stopped; nil before its first instruction.
    ///   - goesOn: asked ten times a second; once false, the conversation is over.
    public func serve(
        _ stop: (processor: Int, reason: DebugStop)?, while goesOn: () -> Bool
    ) -> Ending {
        // Without a debugger there is nobody to tell of a stop.
        if stop != nil && client == nil { return .resumed }
        if let stop, let reply = client?.session.stopped(stop.processor, stop.reason),
            client?.waitsForStop == true
        {
            client?.waitsForStop = false
            send(reply)
            if client == nil { return .resumed }
        }
        while goesOn() {
            let sockets = client.map { [$0.socket, listener] } ?? [listener]
            guard Socket.wait(for: POLLIN, on: sockets, milliseconds: 100) else { continue }
            _ = acceptClient()
            guard client != nil else { continue }
            guard let bytes = receive() else { return .resumed }
            for byte in bytes {
                guard let item = client?.reader.take(byte) else { continue }
                if let ending = take(item) { return ending }
            }
        }
        return .abandoned
    }

    /// - Returns: how the conversation ends, where it does.
    private func take(_ item: ReceivedItem) -> Ending? {
        guard let acknowledges = client?.session.acknowledges else { return .resumed }
        switch item {
        case .acknowledged, .interrupt: return nil
        case .refused: if let packet = client?.lastPacket, acknowledges { transmit(packet) }
        case .damaged: if acknowledges { transmit([UInt8(ascii: "-")]) }
        case .packet(let payload):
            if acknowledges { transmit([UInt8(ascii: "+")]) }
            switch client?.session.perform(Command(payload)) {
            case .replies(let replies): for reply in replies { send(reply) }
            case .resume:
                client?.waitsForStop = true
                return .resumed
            case .detach:
                send(Array("OK".utf8))
                drop()
            case .kill:
                send(Array("OK".utf8))
                drop()
                return .killed
            case nil: break
            }
        }
        return client == nil ? .resumed : nil
    }

    /// The machine has ended: tells the debugger, if one waits.
    /// - Parameter status: the program's exit status.
    public func end(status: UInt8) {
        if client?.waitsForStop == true {
            send([UInt8(ascii: "W")] + Hexadecimal.text([status]))
        }
        client = nil
    }

    private func send(_ payload: [UInt8]) {
        let packet = Packet.framed(payload)
        client?.lastPacket = packet
        transmit(packet)
    }

    private func transmit(_ bytes: [UInt8]) {
        guard let socket = client?.socket else { return }
        if !socket.send(bytes, milliseconds: Self.patience) { drop() }
    }
}
