import Glibc
import Processor
import VirtualMachine

/// A console that keeps what the guest prints and types what it is given.
final class RecordingConsole: ConsolePort {
    private(set) var bytes: [UInt8] = []
    private var input: ArraySlice<UInt8>
    /// Called when the guest waits for input and has none.
    var onIdle: () -> Void = {}
    /// Called when the machine looks at its console.
    var onPoll: () -> Void = {}

    init(input: String = "") { self.input = Array(input.utf8)[...] }

    var text: String { String(decoding: bytes, as: UTF8.self) }

    func write(_ byte: UInt8) { bytes.append(byte) }
    func poll() { onPoll() }
    func read() -> UInt8? { input.popFirst() }
    func waitForInput(nanoseconds: UInt64) { onIdle() }
}

/// The guest that `make setup` fetches, found from this file's place in the checkout.
enum Guest {
    static func path(_ name: String, file: String = #filePath) -> String {
        let root = file.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
        return root.joined(separator: "/") + "/Guests/.fetched/" + name
    }
}

/// The engine that the tests run their machines under: the interpreter, or what the environment
/// variable `PENUMBRA_TEST_ENGINE` names.
enum TestEngine {
    static let chosen: Engine = {
        guard let name = unsafe getenv("PENUMBRA_TEST_ENGINE") else { return .interpreter }
        return Engine(rawValue: unsafe String(cString: name)) ?? .interpreter
    }()
}
