import Debugger
import Testing
import X86

@Suite struct PacketTests {
    /// What a reader makes of bytes.
    private func items(_ bytes: [UInt8]) -> [ReceivedItem] {
        var reader = PacketReader()
        return bytes.compactMap { reader.take($0) }
    }

    private func items(_ text: String) -> [ReceivedItem] { items(Array(text.utf8)) }

    @Test("packets, acknowledgements and the stop byte are told apart, whatever is between")
    func kinds() {
        #expect(
            items("junk+$g#67-\u{3}$?#3F")
                == [
                    .acknowledged, .packet(Array("g".utf8)), .refused, .interrupt,
                    .packet(Array("?".utf8)),
                ])
    }

    @Test("a wrong checksum damages one packet, and the next is whole")
    func checksum() {
        #expect(items("$g#68$g#67") == [.damaged, .packet(Array("g".utf8))])
        #expect(items("$g#x$g#67") == [.damaged, .packet(Array("g".utf8))])
    }

    @Test("a packet that is cut off by another is forgotten")
    func cutOff() { #expect(items("$m12$g#67") == [.packet(Array("g".utf8))]) }

    @Test("every byte can be sent in a packet, and comes back")
    func escapes() {
        let payload = (0...255).map { UInt8($0) }
        let packet = Packet.framed(payload)
        #expect(packet.filter { $0 == UInt8(ascii: "$") }.count == 1)
        #expect(packet.filter { $0 == UInt8(ascii: "#") }.count == 1)
        #expect(items(packet) == [.packet(payload)])
    }

    @Test("a packet of the largest size is taken, a longer one refused without being kept")
    func longest() {
        let largest = [UInt8](repeating: 0x61, count: Packet.largest)
        #expect(items(Packet.framed(largest)) == [.packet(largest)])
        #expect(items(Packet.framed(largest + [0x61])) == [.damaged])
        var reader = PacketReader()
        _ = reader.take(UInt8(ascii: "$"))
        for _ in 0..<1_000_000 { _ = reader.take(0x61) }
        #expect(reader.pendingCount == Packet.largest)
    }

    @Test("random bytes make the reader neither fail nor grow", arguments: [1, 2, 3] as [UInt64])
    func fuzz(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var reader = PacketReader()
        var packets = 0
        // Mostly characters that mean something.
        let alphabet = Array("$#}+-*0123456789abcdefgqvZ,:;=".utf8) + [3, 0, 255]
        for _ in 0..<300_000 {
            let byte = alphabet[Int(random.next() % UInt64(alphabet.count))]
            if case .packet(let payload) = reader.take(byte) {
                packets += 1
                _ = Command(payload)
            }
            #expect(reader.pendingCount <= Packet.largest)
        }
        // One in some hundred has its checksum right.
        #expect(packets > 0)
    }
}

@Suite struct CommandTests {
    private func command(_ text: String) -> Command { Command(Array(text.utf8)) }

    @Test("the commands of a debugger are understood")
    func commands() {
        #expect(command("?") == .stopReason)
        #expect(command("m1000,40") == .readMemory(address: 0x1000, count: 0x40))
        #expect(command("Mffff,2:0aB1") == .writeMemory(address: 0xffff, [0x0a, 0xb1]))
        #expect(
            Command(Array("X10,2:".utf8) + [0, 0xff]) == .writeMemory(address: 0x10, [0, 0xff]))
        #expect(command("p1f") == .readRegister(31))
        #expect(command("P10=0100000000000000") == .writeRegister(16, [1, 0, 0, 0, 0, 0, 0, 0]))
        #expect(
            command("Z0,401000,1") == .insert(.init(kind: .software, address: 0x401000, length: 1)))
        #expect(
            command("z3,401000,8") == .remove(.init(kind: .read, address: 0x401000, length: 8)))
        #expect(command("Hg2") == .selectThread(.processor(1)))
        #expect(command("Hg-1") == .selectThread(.all))
        #expect(command("Hc0") == .selectForResuming)
        #expect(command("vCont;c") == .resume(.init()))
        #expect(command("vCont;s:2;c") == .resume(.init(step: .processor(1))))
        #expect(command("vCont;C05:1;c:-1") == .resume(.init()))
        #expect(command("s1000") == .resume(.init(step: .any, address: 0x1000)))
        #expect(command("C05;1000") == .resume(.init(step: nil, address: 0x1000)))
        #expect(command("qRcmd,68656c70") == .monitor("help"))
        #expect(command("qSupported:a+;b-") == .supported(["a+", "b-"]))
        #expect(
            command("qXfer:features:read:target.xml:0,ffb")
                == .readFeatures(annex: "target.xml", offset: 0, count: 0xffb))
        #expect(command("Qqemu.PhyMemMode:1") == .setPhysicalMode(true))
        #expect(command("qqemu.PhyMemMode") == .readPhysicalMode)
        #expect(command("vKill;1") == .kill)
        #expect(command("vMustReplyEmpty") == .unknown)
        #expect(command("") == .unknown)
    }

    @Test(
        "commands that make no sense are told from unknown ones",
        arguments: [
            "m", "m1", "m1,", "m,1", "m1,2,3", "mx,1", "m11112222333344445,1", "m0,ffffffff",
            "M0,2:00", "M0,1:0", "M0,1:zz", "X0,5:a", "p", "pffffffff", "P1", "P1=0", "Z0,1",
            "Z9,1,1", "Z2,1,0", "Z2,0,ffffffffffffffff", "Hgx", "T", "vCont;", "vCont;x",
            "vCont;s:z", "qRcmd,6", "qXfer:features:read:target.xml:0", "Qqemu.PhyMemMode:2",
            "sxyz",
        ])
    func malformed(text: String) { #expect(command(text) == .malformed) }
}

@Suite struct EndpointTests {
    @Test("an address without a host is this machine's own")
    func addresses() throws {
        #expect(try DebugEndpoint(parsing: "tcp::1234") == .standard)
        #expect("\(DebugEndpoint.standard)" == "tcp:127.0.0.1:1234")
        #expect(
            try DebugEndpoint(parsing: "tcp:localhost:1") == .tcp(host: [127, 0, 0, 1], port: 1))
        #expect(
            try DebugEndpoint(parsing: "tcp:0.0.0.0:65535")
                == .tcp(host: [0, 0, 0, 0], port: 65535))
        #expect(try DebugEndpoint(parsing: "unix:/run/a:b") == .unix(path: "/run/a:b"))
    }

    @Test(
        "what is no address is named, with what is allowed",
        arguments: [
            "", "tcp", "tcp:1234", "tcp::", "tcp::65536", "tcp::-1", "tcp:host:1", "tcp:1.2.3:4",
            "tcp:1.2.3.256:4", "tcp::1234,server", "stdio", "unix", "udp::1",
        ])
    func refusals(text: String) {
        let error = #expect(throws: DebugServerError.self) { try DebugEndpoint(parsing: text) }
        #expect(error == .badAddress(text))
        #expect("\(DebugServerError.badAddress(text))".contains("tcp::PORT"))
    }

    @Test("a socket's path is neither empty nor longer than the system takes")
    func paths() throws {
        let longest = String(repeating: "a", count: DebugEndpoint.longestPath)
        #expect(try DebugEndpoint(parsing: "unix:" + longest) == .unix(path: longest))
        for path in ["", longest + "a"] {
            #expect(throws: DebugServerError.badPath(path)) {
                try DebugEndpoint(parsing: "unix:" + path)
            }
        }
    }
}
