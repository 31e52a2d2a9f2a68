import Glibc
import Processor

/// The engine that the tests of this module run under: the interpreter, or what the environment
/// variable `PENUMBRA_TEST_ENGINE` names.
enum TestEngine {
    static let chosen: Engine = {
        guard let name = unsafe getenv("PENUMBRA_TEST_ENGINE") else { return .interpreter }
        return Engine(rawValue: unsafe String(cString: name)) ?? .interpreter
    }()

    /// Gives it to a processor; code is translated when it runs for the first time.
    static func apply(to processor: Processor, _ engine: Engine = chosen) {
        processor.use(engine)
        processor.usesBeforeTranslation = 1
    }
}
