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
    case saved(SavedMachineError)
    /// A machine with no kernel to boot.
    case noKernel
    /// A number of virtual processors that there cannot be.
    case badProcessorCount(Int)

    /// The processor model offers what the host's processor would have to execute, and lacks.
    case modelNeedsHost(String)

    /// The translator was asked for, and the host lacks what it needs.
    case noTranslator(String)

    public var description: String {
        switch self {
        case .boot(let error): error.description
        case .memory(let error): error.description
        case .hypervisor(let error): error.description
        case .model(let error): error.description
        case .saved(let error): error.description
        case .noKernel: "there is no kernel: name one, or a saved machine to restore"
        case .badProcessorCount(let count):
            "\(count) virtual processors are not possible: give 1 to "
                + "\(MachineConfiguration.mostProcessors)"
        case .modelNeedsHost(let lack):
            "this processor model needs a host with \(lack); this one lacks it: use penumbra-v2"
        case .noTranslator(let lack):
            "the translator cannot run here: \(lack); use the interpreter"
        }
    }
}
