extension Command {
    /// Reads a packet's payload. Anything at all may be in it.
    package init(_ payload: [UInt8]) {
        let rest = payload.dropFirst()
        switch payload.first.map({ UnicodeScalar($0) }) {
        case "?": self = .stopReason
        case "g": self = .readRegisters
        case "G": self = Self.with(Hexadecimal.bytes(rest)) { .writeRegisters($0) }
        case "p": self = Self.with(Self.register(rest)) { .readRegister($0) }
        case "P": self = Self.registerWrite(rest)
        case "m": self = Self.with(Self.range(rest)) { .readMemory(address: $0, count: $1) }
        case "M", "X": self = Self.memoryWrite(rest, isBinary: payload[0] == UInt8(ascii: "X"))
        case "Z": self = Self.with(Self.point(rest)) { .insert($0) }
        case "z": self = Self.with(Self.point(rest)) { .remove($0) }
        case "c", "s":
            let step: ThreadChoice? = payload[0] == UInt8(ascii: "s") ? .any : nil
            self = Self.oldResumption(rest, step)
        case "C", "S":
            // A signal's number comes first, which machines have none of.
            let step: ThreadChoice? = payload[0] == UInt8(ascii: "S") ? .any : nil
            let address = rest.split(separator: UInt8(ascii: ";"), maxSplits: 1).dropFirst().first
            self = Self.oldResumption(address ?? [], step)
        case "H":
            if rest.first == UInt8(ascii: "g") {
                self = Self.with(Self.thread(rest.dropFirst())) { .selectThread($0) }
            } else {
                self = .selectForResuming
            }
        case "T": self = Self.with(Self.thread(rest)) { .isAlive($0) }
        case "D": self = .detach
        case "k": self = .kill
        case "q", "Q", "v": self = Self.named(payload)
        default: self = .unknown
        }
    }

    /// Commands that have a name.
    private static func named(_ payload: [UInt8]) -> Command {
        let end = payload.firstIndex { ":,;".utf8.contains($0) }
        let name = String(decoding: payload[..<(end ?? payload.count)], as: UTF8.self)
        let rest = payload[(end.map { $0 + 1 } ?? payload.count)...]
        switch name {
        case "qSupported":
            return .supported(
                rest.split(separator: UInt8(ascii: ";")).map { String(decoding: $0, as: UTF8.self) }
            )
        case "QStartNoAckMode": return .stopAcknowledging
        case "qXfer": return features(rest)
        case "qC": return .currentThread
        case "qfThreadInfo": return .firstThreads
        case "qsThreadInfo": return .moreThreads
        case "qThreadExtraInfo": return with(thread(rest)) { .threadInfo($0) }
        case "qAttached": return .isAttached
        case "qRcmd":
            return with(Hexadecimal.bytes(rest)) { .monitor(String(decoding: $0, as: UTF8.self)) }
        case "qqemu.PhyMemMode": return .readPhysicalMode
        case "Qqemu.PhyMemMode":
            if rest.elementsEqual("1".utf8) { return .setPhysicalMode(true) }
            return rest.elementsEqual("0".utf8) ? .setPhysicalMode(false) : .malformed
        case "vCont?": return .resumeActions
        case "vCont": return resumption(rest)
        case "vKill": return .kill
        default: return .unknown
        }
    }

    // MARK: Parts

    private static func with<Value>(_ value: Value?, _ body: (Value) -> Command) -> Command {
        value.map(body) ?? .malformed
    }

    private static func register(_ text: ArraySlice<UInt8>) -> Int? {
        guard let number = Hexadecimal.number(text), number < 1 << 16 else { return nil }
        return Int(number)
    }

    private static func registerWrite(_ text: ArraySlice<UInt8>) -> Command {
        let parts = text.split(separator: UInt8(ascii: "="), maxSplits: 1)
        guard parts.count == 2, let number = register(parts[0]),
            let bytes = Hexadecimal.bytes(parts[1])
        else { return .malformed }
        return .writeRegister(number, bytes)
    }

    /// `address,count`, with a count that a packet can hold the bytes of.
    private static func range(_ text: ArraySlice<UInt8>) -> (UInt64, Int)? {
        let parts = text.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
        guard parts.count == 2, let address = Hexadecimal.number(parts[0]),
            let count = Hexadecimal.number(parts[1]), count <= Packet.largest
        else { return nil }
        return (address, Int(count))
    }

    private static func memoryWrite(_ text: ArraySlice<UInt8>, isBinary: Bool) -> Command {
        let parts = text.split(
            separator: UInt8(ascii: ":"), maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let (address, count) = range(parts[0]),
            let bytes = isBinary ? Array(parts[1]) : Hexadecimal.bytes(parts[1]),
            bytes.count == count
        else { return .malformed }
        return .writeMemory(address: address, bytes)
    }

    /// `type,address,kind`, and conditions, which the debugger looks at itself.
    private static func point(_ text: ArraySlice<UInt8>) -> Point? {
        let end = text.firstIndex(of: UInt8(ascii: ";")) ?? text.endIndex
        let parts = text[..<end].split(
            separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
        guard parts.count == 3, let number = Hexadecimal.number(parts[0]), number < 5,
            let kind = Point.Kind(rawValue: UInt8(number)),
            let address = Hexadecimal.number(parts[1]), let length = Hexadecimal.number(parts[2])
        else { return nil }
        switch kind {
        case .software, .hardware: return Point(kind: kind, address: address, length: 1)
        case .write, .read, .access:
            guard 1...4096 ~= length else { return nil }
            return Point(kind: kind, address: address, length: length)
        }
    }

    /// -1: all, 0: any, or a thread's number.
    private static func thread(_ text: ArraySlice<UInt8>) -> ThreadChoice? {
        if text.elementsEqual("-1".utf8) { return .all }
        guard let number = Hexadecimal.number(text), number < 1 << 16 else { return nil }
        return number == 0 ? .any : .processor(Int(number) - 1)
    }

    private static func features(_ text: ArraySlice<UInt8>) -> Command {
        let parts = text.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard parts.count >= 2, parts[0].elementsEqual("features".utf8),
            parts[1].elementsEqual("read".utf8)
        else { return .unknown }
        guard parts.count == 4, let (offset, count) = range(parts[3]), offset < 1 << 32 else {
            return .malformed
        }
        return .readFeatures(
            annex: String(decoding: parts[2], as: UTF8.self), offset: Int(offset), count: count)
    }

    private static func oldResumption(
        _ text: ArraySlice<UInt8>, _ step: ThreadChoice?
    ) -> Command {
        if text.isEmpty { return .resume(Resumption(step: step)) }
        return with(Hexadecimal.number(text)) { .resume(Resumption(step: step, address: $0)) }
    }

    /// The actions of `vCont`, of which the first that steps counts.
    private static func resumption(_ text: ArraySlice<UInt8>) -> Command {
        var resumption = Resumption()
        let actions = text.split(separator: UInt8(ascii: ";"))
        guard !actions.isEmpty else { return .malformed }
        for action in actions {
            let parts = action.split(
                separator: UInt8(ascii: ":"), maxSplits: 1, omittingEmptySubsequences: false)
            var choice = ThreadChoice.any
            if parts.count == 2 {
                guard let named = thread(parts[1]) else { return .malformed }
                choice = named
            }
            switch parts[0].first.map({ UnicodeScalar($0) }) {
            case "c", "C": break
            case "s", "S": if resumption.step == nil { resumption.step = choice }
            default: return .malformed
            }
        }
        return .resume(resumption)
    }
}
