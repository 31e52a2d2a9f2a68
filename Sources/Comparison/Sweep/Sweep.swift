/// A sweep: the points of a space of parameters at which a guest is measured.
///
/// *Problem.* "What does a larger buffer save?" is one run a value, for each workload, each format
/// of records …: many runs that differ in a few parameters.
///
/// *Approach.* A YAML file says which values each parameter takes. Blocks list axes, which combine
/// each with each, and axes that are zipped, whose values belong together one by one. Every point is
/// one cell of a comparison, so all that is true of comparisons is true of sweeps.
///
/// *Example.* See Docs/Sweeps.md, and the studies in Docs/Studies.
///
/// *Caveats.* All points are known, and checked, before the first one runs; there is no search.
public struct Sweep: Sendable {
    /// The version of the format that this program reads.
    public static let formatVersion = 1
    /// How many points a sweep can have: as many as Slurm's standard settings take as one job array.
    public static let mostPoints = 1000

    /// The value of a parameter, and the file's line that has it.
    public struct Value: Equatable, Sendable {
        public var text: String
        public var line: Int?

        public init(_ text: String, line: Int? = nil) {
            self.text = text
            self.line = line
        }
    }

    /// One point: a value for each of its parameters, in the file's order.
    public struct Point: Sendable {
        public var values: [(name: String, value: Value)]
        /// The line at which its block begins.
        public var line: Int?

        public subscript(_ parameter: SweepParameter) -> Value? {
            values.first { $0.name == parameter.rawValue }?.value
        }

        /// The guest's console input.
        public var workload: String {
            let workload = self[.workload]?.text ?? ""
            guard let size = self[.size]?.text else { return workload }
            return workload.replacing(Sweep.sizePlaceholder, with: size)
        }

        /// The technique with its parameters.
        public var technique: String {
            values.reduce(into: self[.technique]?.text ?? "") { text, entry in
                guard entry.name.hasPrefix(SweepParameter.techniquePrefix) else { return }
                let name = entry.name.dropFirst(SweepParameter.techniquePrefix.count)
                text += ",\(name)=\(entry.value.text)"
            }
        }

        /// The options of `penumbra run` that follow from the parameters of a role.
        public func options(_ role: SweepParameter.Role) -> [String] {
            values.flatMap { entry -> [String] in
                guard let parameter = SweepParameter(rawValue: entry.name),
                    parameter.role == role, let option = parameter.option
                else { return [] }
                return [option, entry.value.text]
            }
        }
    }

    /// Stands for the size in a workload.
    static let sizePlaceholder = "{size}"

    /// The file, as the user named it.
    public var file: String
    public var name: String
    /// What it is to find out; nil where the file does not say.
    public var description: String?
    /// The region at whose beginning points start, from a saved machine; nil: the file names none.
    public var region: UInt16?
    public var points: [Point]

    /// What is wrong with a point, or with one value of it.
    public func error(_ message: String, line: Int?) -> InputError {
        InputError(file: file, line: line, message)
    }
}
