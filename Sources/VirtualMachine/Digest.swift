/// A fingerprint of a run, for comparing runs.
public struct Digest: Equatable, Sendable, CustomStringConvertible {
    /// Of the bytes that the guest printed.
    public var console: UInt64
    /// The retired instructions, of all processors.
    public var retired: UInt64
    /// Of the processors' architectural state.
    public var registers: UInt64
    /// Of guest RAM.
    public var memory: UInt64

    public var description: String {
        func hex(_ value: UInt64) -> String {
            let digits = String(value, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }
        return "console \(hex(console)) retired \(retired) registers \(hex(registers)) "
            + "memory \(hex(memory))"
    }
}

/// The FNV-1a hash, byte by byte.
struct FNV1a {
    private(set) var value: UInt64

    /// - Parameter value: the hash of what came before; nothing, where it is not given.
    init(goingOn value: UInt64 = 0xcbf2_9ce4_8422_2325) { self.value = value }

    mutating func add(_ byte: UInt8) {
        value = (value ^ UInt64(byte)) &* 0x0000_0100_0000_01b3
    }
}

/// A console that hashes what goes through it to the real one.
final class ConsoleTap: ConsolePort {
    private let console: any ConsolePort
    private var hash = FNV1a()

    init(_ console: any ConsolePort) { self.console = console }

    var digest: UInt64 { hash.value }

    /// Goes on from the digest of what a saved machine had printed.
    func restore(digest: UInt64) { hash = FNV1a(goingOn: digest) }

    func write(_ byte: UInt8) {
        hash.add(byte)
        console.write(byte)
    }

    func poll() { console.poll() }
    func read() -> UInt8? { console.read() }
    func waitForInput(nanoseconds: UInt64) { console.waitForInput(nanoseconds: nanoseconds) }
}
