import Devices

/// A clock that tests move by hand.
final class ManualTime: TimeSource {
    var now: UInt64 = 0
}

/// What a chip put out, in order.
final class Recorder<Value> {
    private(set) var values: [Value] = []
    func append(_ value: Value) { values.append(value) }
    func take() -> [Value] {
        defer { values = [] }
        return values
    }
}

/// A small seeded generator (a multiplicative congruence with an output mix).
struct Seeded {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed &* 2 &+ 1 }
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return (state ^ state >> 29) &* 0xbf58_476d_1ce4_e5b9 >> 7 ^ state >> 41
    }
    mutating func below(_ bound: UInt64) -> UInt64 { next() % bound }
}

/// Byte accesses, as most of a PC's chips are used.
extension PortDevice {
    func input(_ port: UInt16) -> UInt8 {
        UInt8(truncatingIfNeeded: readPort(port, size: 1))
    }
    func output(_ port: UInt16, _ value: UInt8) {
        writePort(port, size: 1, value: UInt32(value))
    }
}

extension Chipset {
    func input(_ port: UInt16) -> UInt8 { UInt8(truncatingIfNeeded: readPort(port, size: 1)) }
    func output(_ port: UInt16, _ value: UInt8) {
        writePort(port, size: 1, value: UInt32(value))
    }
}
