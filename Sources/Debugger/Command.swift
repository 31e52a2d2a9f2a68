/// What a debugger asks for (GDB manual, "Packets" and "General Query Packets").
package enum Command: Equatable, Sendable {
    /// `qSupported`: what the debugger can do.
    case supported([String])
    /// `QStartNoAckMode`.
    case stopAcknowledging
    /// `qXfer:features:read`.
    case readFeatures(annex: String, offset: Int, count: Int)
    /// `?`.
    case stopReason
    /// `g` and `G`.
    case readRegisters
    case writeRegisters([UInt8])
    /// `p` and `P`.
    case readRegister(Int)
    case writeRegister(Int, [UInt8])
    /// `m`; `M` and `X`.
    case readMemory(address: UInt64, count: Int)
    case writeMemory(address: UInt64, [UInt8])
    /// `Z` and `z`.
    case insert(Point)
    case remove(Point)
    /// `vCont?`, which resuming actions there are.
    case resumeActions
    /// `c`, `C`, `s`, `S` and `vCont`.
    case resume(Resumption)
    /// `Hg`: whose registers and memory the next commands are about. `Hc` is taken and means
    /// nothing, since `vCont` names its threads.
    case selectThread(ThreadChoice)
    case selectForResuming
    /// `T`.
    case isAlive(ThreadChoice)
    /// `qC`, `qfThreadInfo`, `qsThreadInfo`, `qThreadExtraInfo`.
    case currentThread
    case firstThreads
    case moreThreads
    case threadInfo(ThreadChoice)
    /// `qAttached`.
    case isAttached
    /// `qRcmd`: a command of the user's.
    case monitor(String)
    /// `qqemu.PhyMemMode` and `Qqemu.PhyMemMode`: whether addresses are guest-physical.
    case readPhysicalMode
    case setPhysicalMode(Bool)
    /// `D`.
    case detach
    /// `k` and `vKill`.
    case kill
    /// One of the above that makes no sense.
    case malformed
    /// Any other.
    case unknown

    /// A break- or watchpoint.
    package struct Point: Hashable, Sendable {
        /// Z0 to Z4.
        package enum Kind: UInt8, Sendable { case software, hardware, write, read, access }
        package var kind: Kind
        package var address: UInt64
        /// Of a watchpoint, in bytes.
        package var length: UInt64

        package init(kind: Kind, address: UInt64, length: UInt64) {
            self.kind = kind
            self.address = address
            self.length = length
        }
    }

    /// Thread n is processor n - 1.
    package enum ThreadChoice: Equatable, Sendable {
        case any
        case all
        case processor(Int)
    }

    /// How the machine is to go on.
    package struct Resumption: Equatable, Sendable {
        /// Which thread is to stop after one instruction; nil: none.
        package var step: ThreadChoice?
        /// Where the selected thread goes on; nil: where it is.
        package var address: UInt64?

        package init(step: ThreadChoice? = nil, address: UInt64? = nil) {
            self.step = step
            self.address = address
        }
    }
}
