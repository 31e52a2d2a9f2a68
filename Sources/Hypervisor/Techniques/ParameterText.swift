/// The parameters of a technique as they were written: `name=value`, separated by commas, each name
/// at most once. Whoever reads a value by its name says what it may be.
struct ParameterText {
    private let values: [String: String]

    /// Takes the parts behind a technique's name, whose parameters `names` are.
    init(_ parts: ArraySlice<Substring>, of technique: String, names: [String])
        throws(TechniqueError)
    {
        var values: [String: String] = [:]
        for part in parts {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(pair[0])
            guard names.contains(name) else {
                throw .unknownParameter(technique: technique, parameter: name, allowed: names)
            }
            guard values[name] == nil else { throw .doubledParameter(name) }
            values[name] = pair.count == 2 ? String(pair[1]) : ""
        }
        self.values = values
    }

    /// A decimal number; nil where the parameter was not given.
    func number(_ name: String) throws(TechniqueError) -> UInt64? {
        guard let text = values[name] else { return nil }
        guard let number = UInt64(text) else {
            throw .badValue(parameter: name, value: text, expected: "a decimal number")
        }
        return number
    }

    /// One of the values of a closed set, named by their raw values.
    func choice<Value>(_ name: String, of type: Value.Type) throws(TechniqueError) -> Value?
    where Value: RawRepresentable & CaseIterable, Value.RawValue == String {
        guard let text = values[name] else { return nil }
        guard let value = Value(rawValue: text) else {
            let names = Value.allCases.map(\.rawValue)
            throw .badValue(
                parameter: name, value: text, expected: TechniqueError.list(names, "or"))
        }
        return value
    }

    /// `on` or `off`.
    func flag(_ name: String) throws(TechniqueError) -> Bool? {
        try choice(name, of: Switch.self).map { $0 == .on }
    }

    /// A limit on writes, or `never`.
    func stop(_ name: String) throws(TechniqueError) -> StopRule? {
        guard let text = values[name] else { return nil }
        guard let rule = StopRule(text) else {
            throw .badValue(parameter: name, value: text, expected: StopRule.allowed)
        }
        return rule
    }

    /// The textual form of a flag.
    static func text(_ flag: Bool) -> String { (flag ? Switch.on : Switch.off).rawValue }

    private enum Switch: String, CaseIterable { case on, off }
}

/// When a page that is written as no page table is stops being traced or protected as one.
public enum StopRule: Equatable, Sendable, CustomStringConvertible {
    /// When the writes since its last use amount to more than this number and four for each of its
    /// present shadow entries; 1…1000000.
    case writes(UInt32)
    /// Only when it is no table of any root.
    case never

    /// What is used where none is given: 64.
    public static let standard = StopRule.writes(64)

    static let allowed = "a number from 1 to 1000000, or never"

    init?(_ text: String) {
        if text == "never" {
            self = .never
        } else if let number = UInt32(text), (1...1_000_000).contains(number) {
            self = .writes(number)
        } else {
            return nil
        }
    }

    public var description: String {
        switch self {
        case .writes(let number): String(number)
        case .never: "never"
        }
    }
}
