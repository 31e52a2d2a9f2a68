import Boot
import Hypervisor
import MachineMemory
import X86

/// Why a machine could not be made.
public enum MachineError: Error, CustomStringConvertible {
    case boot(BootError)
    case memory(MachineMemoryError)
    case hypervisor(HypervisorError)
    case model(ProcessorModelError)
    /// More than one virtual processor was asked for.
    case severalProcessors(Int)

    public var description: String {
        switch self {
        case .boot(let error): error.description
        case .memory(let error): error.description
        case .hypervisor(let error): error.description
        case .model(let error): error.description
        case .severalProcessors(let count):
            "\(count) processors: several virtual processors are not there yet; use -smp 1"
        }
    }
}
