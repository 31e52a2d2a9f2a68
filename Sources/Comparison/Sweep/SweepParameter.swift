/// What a sweep can vary, by the name that its file has for it. Beside these there is
/// `technique.NAME` for each parameter that the technique has.
public enum SweepParameter: String, CaseIterable, Sendable {
    case workload, size, technique, profile
    case kernel, initrd, append, restore, device, memory, processors, quantum, interleaving, cpu
    case hardware, clock, seed
    case engine, symbols
    case shadowMemory = "shadow-memory"

    /// What a parameter decides.
    public enum Role: Sendable {
        /// What the guest is told to do.
        case workload
        /// How memory is virtualized.
        case technique
        /// What the counts cost: nothing has to run for it.
        case price
        /// What the guest is, or can notice.
        case machine
        /// How it is run; the guest cannot notice it.
        case run
    }

    public var role: Role {
        switch self {
        case .workload, .size: .workload
        case .technique: .technique
        case .profile: .price
        case .kernel, .initrd, .append, .restore, .device, .memory, .processors, .quantum,
            .interleaving, .cpu, .hardware, .clock, .seed:
            .machine
        case .engine, .symbols, .shadowMemory: .run
        }
    }

    /// The option of `penumbra run` for a parameter of the machine or of the run.
    public var option: String? {
        switch self {
        case .workload, .size, .technique, .profile: nil
        case .processors: "--smp"
        default: "--\(rawValue)"
        }
    }

    /// Before the name of a technique's parameter.
    static let techniquePrefix = "technique."

    /// The role of what has a name; nil: there is no such parameter.
    static func role(of name: String) -> Role? {
        if name.hasPrefix(techniquePrefix) && name.count > techniquePrefix.count {
            return .technique
        }
        return SweepParameter(rawValue: name)?.role
    }

    /// For messages: what names there are.
    static let names = (allCases.map(\.rawValue) + ["\(techniquePrefix)NAME"])
        .joined(separator: ", ")
}
