/// Why a hypervisor could not be made: what the user asked for does not fit.
public enum HypervisorError: Error, Equatable, CustomStringConvertible {
    /// The ceiling on shadow memory is below what one access may need, in bytes.
    case tooLittleShadowMemory(given: UInt64, least: UInt64)
    /// The ceiling on shadow memory is above what can be managed, in bytes.
    case tooMuchShadowMemory(given: UInt64, most: UInt64)
    /// The machine was made without the memory that `Hypervisor.hypervisorBytes` asks for.
    case noHypervisorMemory(needed: UInt64)
    /// The host has no memory for the hypervisor's own records.
    case noHostMemory
    /// There is no processor.
    case noProcessor

    public var description: String {
        switch self {
        case .tooLittleShadowMemory(let given, let least):
            "\(given) bytes are too little shadow memory: give at least \(least)"
        case .tooMuchShadowMemory(let given, let most):
            "\(given) bytes are too much shadow memory: give less than \(most)"
        case .noHypervisorMemory(let needed):
            "the machine has no memory for the hypervisor: reserve \(needed) bytes"
        case .noHostMemory:
            "the host has no memory for the shadow tables: give the guest or the shadow less"
        case .noProcessor:
            "a machine needs at least one processor"
        }
    }
}
