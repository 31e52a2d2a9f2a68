/// What comes over a connection of GDB's remote serial protocol (GDB manual, appendix "Overview" of
/// the protocol).
///
/// ```
///  $ payload # checksum      checksum: two digits, the sum of the payload's bytes modulo 256
///  + -                       the last packet has arrived, or is to be sent again
///  0x03                      stop the machine
/// ```
/// In a payload `}` stands before a byte that is xored with 0x20.
package enum ReceivedItem: Equatable, Sendable {
    /// A packet's payload, escapes resolved.
    case packet([UInt8])
    /// A packet with a wrong checksum, or one that is too long.
    case damaged
    case acknowledged
    case refused
    case interrupt
}

/// Takes a connection's bytes apart. Whatever comes, it holds no more than one packet of
/// `Packet.largest` bytes.
package struct PacketReader: Sendable {
    private enum State {
        case outside
        case payload
        case firstDigit
        case secondDigit(UInt8)
    }

    private var state = State.outside
    private var payload: [UInt8] = []
    private var isEscaped = false
    private var isTooLong = false
    private var sum: UInt8 = 0

    package init() {}

    /// How many bytes wait for the end of their packet.
    package var pendingCount: Int { payload.count }

    /// Takes one byte.
    /// - Returns: what it completes.
    package mutating func take(_ byte: UInt8) -> ReceivedItem? {
        switch state {
        case .outside:
            switch byte {
            case UInt8(ascii: "$"): begin()
            case UInt8(ascii: "+"): return .acknowledged
            case UInt8(ascii: "-"): return .refused
            case 3: return .interrupt
            default: break
            }
        case .payload: takePayload(byte)
        case .firstDigit:
            guard let digit = Hexadecimal.value(byte) else { return damage() }
            state = .secondDigit(digit)
        case .secondDigit(let first):
            guard let digit = Hexadecimal.value(byte), first << 4 | digit == sum, !isTooLong,
                !isEscaped
            else { return damage() }
            state = .outside
            defer { payload.removeAll(keepingCapacity: true) }
            return .packet(payload)
        }
        return nil
    }

    private mutating func begin() {
        state = .payload
        payload.removeAll(keepingCapacity: true)
        isEscaped = false
        isTooLong = false
        sum = 0
    }

    private mutating func takePayload(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "#"):
            state = .firstDigit
            return
        case UInt8(ascii: "$"):
            // The one before was cut off.
            begin()
            return
        default: break
        }
        sum &+= byte
        if byte == UInt8(ascii: "}") && !isEscaped {
            isEscaped = true
            return
        }
        guard payload.count < Packet.largest else {
            isTooLong = true
            return
        }
        payload.append(isEscaped ? byte ^ 0x20 : byte)
        isEscaped = false
    }

    private mutating func damage() -> ReceivedItem {
        state = .outside
        payload.removeAll(keepingCapacity: true)
        return .damaged
    }
}

/// Packets that are sent.
package enum Packet {
    /// The longest payload that is taken, in bytes: what `qSupported` tells.
    package static let largest = 0x4000

    /// A packet with its frame; characters that mean something in the frame are escaped.
    package static func framed(_ payload: [UInt8]) -> [UInt8] {
        var packet = [UInt8(ascii: "$")]
        packet.reserveCapacity(payload.count + 4)
        var sum: UInt8 = 0
        func put(_ byte: UInt8) {
            packet.append(byte)
            sum &+= byte
        }
        for byte in payload {
            switch byte {
            case UInt8(ascii: "$"), UInt8(ascii: "#"), UInt8(ascii: "}"), UInt8(ascii: "*"):
                put(UInt8(ascii: "}"))
                put(byte ^ 0x20)
            default: put(byte)
            }
        }
        packet.append(UInt8(ascii: "#"))
        return packet + Hexadecimal.text([sum])
    }
}
