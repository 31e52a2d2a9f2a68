/// What each thing in a ledger costs, in cycles: a data file whose every figure names its source.
///
/// Profiles are YAML; Docs/Comparison.md has the format. One that misses a figure, or has one too
/// many, is refused, so that no cost is left out by mistake.
public struct Profile: Equatable, Sendable, Codable {
    /// The version of the format that this program reads.
    public static let formatVersion = 1

    /// How well a figure is known.
    public enum State: String, CaseIterable, Sendable, Codable {
        /// The source was read.
        case checked
        /// The source's abstract, or a summary of it, was read.
        case abstract
        /// From general knowledge of the source.
        case recalled
        /// Worked out from other figures, or estimated: `derivation` says how.
        case derived
    }

    /// A level of the cache at which references are answered.
    public struct CacheLevel: Equatable, Sendable, Codable {
        public var level: String
        /// The share of all references that are answered here, 0…1.
        public var share: Double
        /// The latency of a reference that is, in cycles.
        public var cycles: Double

        public init(level: String, share: Double, cycles: Double) {
            self.level = level
            self.share = share
            self.cycles = cycles
        }
    }

    /// The cost of one thing.
    public struct Entry: Equatable, Sendable, Codable {
        /// Cycles an event.
        public var cycles: Double
        /// The value as it is given: `784 cycles`, `210 nanoseconds`, or a sum over cache levels.
        public var given: String
        public var source: String
        public var state: State
        /// How it was worked out; of derived figures always there.
        public var derivation: String?
        /// Of the walk reference, what its cycles come from.
        public var caches: [CacheLevel]?

        public init(
            cycles: Double, given: String, source: String, state: State,
            derivation: String? = nil, caches: [CacheLevel]? = nil
        ) {
            self.cycles = cycles
            self.given = given
            self.source = source
            self.state = state
            self.derivation = derivation
            self.caches = caches
        }
    }

    public var name: String
    public var description: String
    /// The processor's frequency, in GHz: what turns nanoseconds into cycles.
    public var gigahertz: Double
    /// Each figure's entry, by its name.
    public var figures: [String: Entry]
    /// SHA-256 of the file, which tells one state of a profile from another.
    public var digest: String

    /// The cost of a figure in cycles.
    public func cycles(_ figure: Figure) -> Double { figures[figure.rawValue]?.cycles ?? 0 }

    /// The names of the profiles that come with the program.
    public static var names: [String] { builtIn.map(\.name) }

    static let builtIn: [(name: String, bytes: [UInt8])] = [
        ("sandy-bridge", PackageResources.sandy_bridge_yaml),
        ("cascade-lake", PackageResources.cascade_lake_yaml),
        ("nested-cloud", PackageResources.nested_cloud_yaml),
    ]
}
