import Debugger
import Foundation
import Glibc
import Testing
import VirtualMachine
import X86

/// The other end of a debugger's connection, on the same thread: what is sent waits in the socket.
private final class TestClient {
    private let descriptor: Int32
    private(set) var isClosed = false

    init(path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            for (index, byte) in path.utf8.enumerated() { unsafe bytes[index] = byte }
        }
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe connect(descriptor, address, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(result == 0, "errno \(errno)")
    }

    deinit { if !isClosed { close(descriptor) } }

    func hangUp() {
        isClosed = true
        close(descriptor)
    }

    func send(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { buffer in
                unsafe Glibc.send(
                    descriptor, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }

    func send(packet: String) { send(Packet.framed(Array(packet.utf8))) }

    /// What has come; nil once the other end is gone.
    func receive() -> String? {
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = unsafe bytes.withUnsafeMutableBytes { buffer in
            unsafe recv(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
        }
        if count == 0 { return nil }
        return String(decoding: bytes[..<max(count, 0)], as: UTF8.self)
    }
}

@Suite struct ServerTests {
    private let bench: Bench
    private let server: DebugServer
    private let path: String

    init() throws {
        bench = try Bench()
        path = FileManager.default.temporaryDirectory.appending(path: "pnb-\(UUID())").path
        server = try DebugServer(.unix(path: path), bench.machine.debugTarget)
    }

    /// Serves until the machine is to go on, but not for ever.
    private func serve() -> DebugServer.Ending {
        var patience = 100
        return server.serve(nil) {
            patience -= 1
            return patience > 0
        }
    }

    @Test("a connection stops the machine, packets are answered, and a detached machine goes on")
    func conversation() throws {
        #expect(!server.wantsStop())
        let client = try TestClient(path: path)
        #expect(server.wantsStop())
        client.send(packet: "?")
        client.send(packet: "Z0,\(String(Bench.entry, radix: 16)),1")
        client.send(packet: "D")
        #expect(serve() == .resumed)
        #expect(client.receive() == "+$T02thread:1;#d4+$OK#9a+$OK#9a")
        #expect(client.receive() == nil)
        // The breakpoint went with the debugger.
        #expect(bench.machine.run() == .debugExit(status: 7))
    }

    @Test("a stop is told to the debugger that had the machine go on, without acknowledgements")
    func stopReply() throws {
        let client = try TestClient(path: path)
        #expect(server.wantsStop())
        client.send(packet: "QStartNoAckMode")
        client.send(packet: "Z1,\(String(Bench.entry + Bench.Place.load, radix: 16)),1")
        client.send(packet: "vCont;c")
        #expect(serve() == .resumed)
        #expect(client.receive() == "+$OK#9a$OK#9a")
        guard case .debugStop(let processor, let reason) = bench.machine.run() else {
            Issue.record("no stop")
            return
        }
        client.send(packet: "k")
        #expect(server.serve((processor, reason)) { true } == .killed)
        #expect(client.receive() == "$T05thread:1;#d7$OK#9a")
    }

    @Test("the byte 3 stops a running machine, and packets do not")
    func interrupt() throws {
        let client = try TestClient(path: path)
        #expect(server.wantsStop())
        client.send(packet: "c")
        #expect(serve() == .resumed)
        #expect(!server.wantsStop())
        client.send(packet: "g")
        #expect(!server.wantsStop())
        client.send([3])
        #expect(server.wantsStop())
        bench.machine.breakFlag.requestStop()
        #expect(bench.machine.run() == .debugStop(processor: 0, .interrupted))
    }

    @Test("a damaged packet is asked for again, a reply is sent again")
    func repetition() throws {
        let client = try TestClient(path: path)
        #expect(server.wantsStop())
        client.send(Array("$qC#00$qC#b4-".utf8))
        client.send(packet: "D")
        #expect(serve() == .resumed)
        #expect(client.receive() == "-+$QC1#c5$QC1#c5+$OK#9a")
    }

    @Test("a second debugger is turned away, and the first is served on")
    func second() throws {
        let first = try TestClient(path: path)
        #expect(server.wantsStop())
        let second = try TestClient(path: path)
        first.send(packet: "qC")
        first.send(packet: "c")
        #expect(serve() == .resumed)
        #expect(!server.wantsStop())
        #expect(second.receive() == nil)
        #expect(first.receive()?.contains("QC1") == true)
    }

    @Test("a debugger that goes away in the middle of a packet leaves the machine running")
    func lost() throws {
        let client = try TestClient(path: path)
        #expect(server.wantsStop())
        client.send(packet: "Z0,\(String(Bench.entry, radix: 16)),1")
        client.send(Array("$m1000,".utf8))
        client.hangUp()
        #expect(serve() == .resumed)
        #expect(bench.machine.run() == .debugExit(status: 7))
        // The next one is welcome.
        let next = try TestClient(path: path)
        #expect(server.wantsStop())
        next.hangUp()
        #expect(serve() == .resumed)
    }

    @Test("garbage is passed over, stopped and running", arguments: [1, 2, 3] as [UInt64])
    func garbage(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        // No "k" and no "D", which would be understood.
        let noise = (0..<20_000).map { _ in
            let byte = UInt8(truncatingIfNeeded: random.next())
            return [UInt8(ascii: "$"), 3].contains(byte) ? 0 : byte
        }
        let client = try TestClient(path: path)
        #expect(server.wantsStop())
        client.send(noise)
        client.send(packet: "c")
        #expect(serve() == .resumed)
        client.send(noise)
        for _ in 0..<10 { #expect(!server.wantsStop()) }
        client.hangUp()
        #expect(!server.wantsStop())
        #expect(bench.machine.run() == .debugExit(status: 7))
    }

    @Test("the end of the machine is told to the debugger that waits for it")
    func end() throws {
        let client = try TestClient(path: path)
        #expect(server.wantsStop())
        client.send(packet: "c")
        #expect(serve() == .resumed)
        #expect(client.receive() == "+")
        server.end(status: 7)
        #expect(client.receive() == "$W07#be")
        #expect(client.receive() == nil)
    }

    @Test("a port that is taken is refused, a free one is told")
    func ports() throws {
        let first = try DebugServer(.tcp(host: [127, 0, 0, 1], port: 0), bench.machine.debugTarget)
        guard case .tcp(_, let port) = first.endpoint else {
            Issue.record("no port")
            return
        }
        #expect(port != 0)
        let error = #expect(throws: DebugServerError.self) {
            _ = try DebugServer(.tcp(host: [127, 0, 0, 1], port: port), bench.machine.debugTarget)
        }
        let text = "\(try #require(error))"
        #expect(text.contains("tcp:127.0.0.1:\(port): Address already in use"))
    }
}
