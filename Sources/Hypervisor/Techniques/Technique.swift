/// How memory is virtualized: what the processor walks, and how the hypervisor learns that the
/// guest changed its page tables.
///
/// The textual form is the technique's name, followed by its parameters:
/// `bare`, `trap`, `unsync`, `nested`, `agile,writes=8,quiet=64`,
/// `traced,capacity=4096,threshold=256,coalesce=1`; parameters that are left out have defaults.
public enum Technique: Equatable, Sendable, CustomStringConvertible {
    /// The processor walks the guest's own tables; guest physical is machine. The baseline.
    case bare
    /// Shadow page tables; each write to a guest page table exits and is applied at once.
    case trap
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
        switch name {
        case "traced":
            self = .traced(try TraceParameters(parsing: parts.dropFirst()))
            return
        case "agile":
            self = .agile(try NestingParameters(parsing: parts.dropFirst()))
            return
        case "bare": self = .bare
        case "trap": self = .trap
        case "unsync": self = .unsync
        case "nested": self = .nested
        default: throw .unknownTechnique(text)
        }
        if parts.count > 1 {
            throw .unknownParameter(technique: name, parameter: String(parts[1]))
        }
    }

    public var description: String {
        switch self {
        case .bare: "bare"
        case .trap: "trap"
        case .unsync: "unsync"
        case .nested: "nested"
        case .agile(let parameters): "agile," + parameters.description
        case .traced(let parameters): "traced," + parameters.description
        }
    }
}

/// The parameters of the traced-write facility.
public struct TraceParameters: Equatable, Sendable, CustomStringConvertible {
    /// The size in bytes of each processor's guest write buffer: a power of two, 4 KiB…2 MiB.
    public private(set) var capacity: UInt64
    /// How many records in the buffer cause an exit; 0: three quarters of the capacity.
    public private(set) var threshold: UInt64
    /// A record equal to one of the last `coalesce` ones is not repeated; 0…8.
    public private(set) var coalesce: Int

    /// The parameters used where none are given: 4 KiB, three quarters, 1.
    public static let standard = TraceParameters()

    private init() {
        capacity = 4096
        threshold = 0
        coalesce = 1
    }

    /// Checks and takes the parameters.
    public init(capacity: UInt64 = 4096, threshold: UInt64 = 0, coalesce: Int = 1)
        throws(TechniqueError)
    {
        guard capacity >= 4096, capacity <= 2 << 20, capacity.nonzeroBitCount == 1 else {
            throw .badValue(
                parameter: "capacity", value: String(capacity),
                expected: "a power of two from 4096 to 2097152")
        }
        guard threshold <= capacity / 8 else {
            throw .badValue(
                parameter: "threshold", value: String(threshold),
                expected: "a count of records from 0 to \(capacity / 8)")
        }
        guard (0...8).contains(coalesce) else {
            throw .badValue(
                parameter: "coalesce", value: String(coalesce),
                expected: "a number from 0 to 8")
        }
        self.capacity = capacity
        self.threshold = threshold
        self.coalesce = coalesce
    }

    /// Parses `name=value` parts; each name at most once.
    init(parsing parts: ArraySlice<Substring>) throws(TechniqueError) {
        var values: [String: UInt64] = [:]
        for part in parts {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(pair[0])
            guard ["capacity", "threshold", "coalesce"].contains(name), values[name] == nil else {
                throw .unknownParameter(technique: "traced", parameter: name)
            }
            let text = pair.count == 2 ? String(pair[1]) : ""
            guard let value = UInt64(text) else {
                throw .badValue(
                    parameter: name, value: text, expected: "a decimal number")
            }
            values[name] = value
        }
        try self.init(
            capacity: values["capacity"] ?? 4096, threshold: values["threshold"] ?? 0,
            coalesce: Int(clamping: values["coalesce"] ?? 1))
    }

    /// How many records in the buffer cause an exit, the default resolved.
    public var effectiveThreshold: UInt64 {
        threshold == 0 ? capacity / 8 / 4 * 3 : threshold
    }

    public var description: String {
        "capacity=\(capacity),threshold=\(effectiveThreshold),coalesce=\(coalesce)"
    }
}

/// What is wrong with a technique that the user named.
public enum TechniqueError: Error, Equatable, CustomStringConvertible {
    case unknownTechnique(String)
    case unknownParameter(technique: String, parameter: String)
    case badValue(parameter: String, value: String, expected: String)

    public var description: String {
        switch self {
        case .unknownTechnique(let name):
            "unknown technique '\(name)': give bare, trap, unsync, traced, nested or agile"
        case .unknownParameter(let technique, let parameter):
            switch technique {
            case "traced":
                "technique traced takes capacity, threshold and coalesce, each once,"
                    + " not '\(parameter)'"
            case "agile":
                "technique agile takes writes and quiet, each once, not '\(parameter)'"
            default: "technique \(technique) takes no parameters, not '\(parameter)'"
            }
        case .badValue(let parameter, let value, let expected):
            "\(parameter) cannot be '\(value)': give \(expected)"
        }
    }
}
