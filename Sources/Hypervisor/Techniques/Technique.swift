/// How memory is virtualized: what the processor walks, and how the hypervisor learns that the
/// guest changed its page tables.
///
/// The textual form is the technique's name, followed by its parameters in any order, each at most
/// once: `bare`, `trap,refill=on`, `unsync`, `nested`, `agile,quiet=100`, `traced,record=mask,capacity=8192`. What is
/// printed has all parameters that mean something, and is parsed to an equal value.
public enum Technique: Equatable, Sendable, CustomStringConvertible {
    /// The processor walks the guest's own tables; guest physical is machine. The baseline.
    case bare
    /// Shadow page tables; each write to a guest page table exits and is applied at once.
    case trap(TrapParameters)
    /// As `trap`, but for tables of the lowest level: the first write to one exits, and later ones
    /// do not, until an operation that ends staleness has the table read again.
    case unsync
    /// The processor walks the guest's own tables and a second dimension, guest-physical →
    /// machine. Nothing of the guest's paging exits.
    case nested
    /// As `trap`, but a table that is written often is walked by the processor itself, with all
    /// below it, as under `nested`.
    case agile(NestingParameters)
    /// Shadow page tables, kept coherent by the traced-write facility.
    case traced(TraceParameters)

    /// Parses the textual form.
    public init(parsing text: String) throws(TechniqueError) {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        let name = parts.first.map(String.init) ?? ""
        func parameters(_ names: [String]) throws(TechniqueError) -> ParameterText {
            try ParameterText(parts.dropFirst(), of: name, names: names)
        }
        switch name {
        case "bare":
            _ = try parameters([])
            self = .bare
        case "trap": self = .trap(try TrapParameters(parsing: parameters(TrapParameters.names)))
        case "unsync":
            _ = try parameters([])
            self = .unsync
        case "nested":
            _ = try parameters([])
            self = .nested
        case "agile":
            self = .agile(try NestingParameters(parsing: parameters(NestingParameters.names)))
        case "traced":
            self = .traced(try TraceParameters(parsing: parameters(TraceParameters.names)))
        default: throw .unknownTechnique(name)
        }
    }

    public var description: String {
        switch self {
        case .bare: "bare"
        case .trap(let parameters): "trap,\(parameters)"
        case .unsync: "unsync"
        case .nested: "nested"
        case .agile(let parameters): "agile,\(parameters)"
        case .traced(let parameters): "traced,\(parameters)"
        }
    }
}

/// What is wrong with a technique that the user named.
public enum TechniqueError: Error, Equatable, CustomStringConvertible {
    case unknownTechnique(String)
    case unknownParameter(technique: String, parameter: String, allowed: [String])
    /// The parameter was given more than once.
    case doubledParameter(String)
    case badValue(parameter: String, value: String, expected: String)
    /// The parameter means nothing together with the setting.
    case contradiction(String, String)

    public var description: String {
        switch self {
        case .unknownTechnique(let name):
            "unknown technique '\(name)': give bare, trap, unsync, traced, nested or agile"
        case .unknownParameter(let technique, let parameter, let allowed):
            allowed.isEmpty
                ? "technique \(technique) takes no parameters, not '\(parameter)'"
                : "technique \(technique) takes \(Self.list(allowed, "and")), not '\(parameter)'"
        case .doubledParameter(let parameter):
            "\(parameter) is given twice: give it once"
        case .badValue(let parameter, let value, let expected):
            "\(parameter) cannot be '\(value)': give \(expected)"
        case .contradiction(let parameter, let setting):
            "\(parameter) means nothing with \(setting): leave one of them out"
        }
    }

    /// `a, b or c`.
    static func list(_ names: [String], _ last: String) -> String {
        guard names.count > 1, let end = names.last else { return names.first ?? "" }
        return names.dropLast().joined(separator: ", ") + " \(last) " + end
    }
}
