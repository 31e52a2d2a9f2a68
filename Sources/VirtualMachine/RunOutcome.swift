import Processor
import Verification

/// How a run ended.
public enum RunOutcome: Equatable, Sendable {
    /// The guest powered the machine off.
    case poweredOff
    /// The guest reset the machine, and that ends the run.
    case reset
    /// The guest wrote to the debug-exit device; `status` is `(value << 1) | 1`.
    case debugExit(status: UInt8)
    /// The processor shut down: a fault in delivering a double fault.
    case tripleFault(String)
    /// The guest has printed the configuration's `lastText`.
    case printed
    /// `stopFlag` was set.
    case stopped
    /// The guest has begun the region that `stopRegion` names.
    case marked
    /// `pauseFlag` was set, or the pause point was reached. `run` goes on from here.
    case paused
    /// A processor has stopped for a debugger, or `breakFlag` was set. `run` goes on from here.
    case debugStop(processor: Int, DebugStop)
    /// The oracle found a translation that no cache could have held, or a wrong page fault.
    case unlawful(LawfulnessViolation)
}
