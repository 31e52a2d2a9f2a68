/// What a modelled processor tells of itself, and so what guests may use.
///
/// *Problem.* A run must be reproducible anywhere, so CPUID cannot depend on the host; and nothing
/// may be advertised that is not implemented.
///
/// *Approach.* A model has a name, a signature and a set of features; CPUID's leaves follow from
/// them (`ProcessorModel+Leaves.swift`). Text adds and removes features by the names that Linux
/// shows in `/proc/cpuinfo`.
///
/// *Example.* `try ProcessorModel(parsing: "penumbra-v2,+rdrand,-smap")`
///
/// *Caveats.* Taking a feature away makes its instructions undefined and the control bits that
/// enable it reserved; those that only tell of a property (`erms`, `arat`) are hidden.
public struct ProcessorModel: Sendable, Equatable {
    /// The model's name, without added and removed features.
    public let name: String
    /// Family, model and stepping as CPUID.1:EAX has them. Family 6, model 0xee is no processor
    /// that exists, so that no guest applies another processor's workarounds.
    public let signature: UInt32
    /// MAXPHYADDR, in bits.
    public let physicalAddressBits: UInt64
    /// How many processors the topology leaves (1, 4 and 0xb) speak of; at least 1.
    public var processorCount = 1
    /// Whether level-3 entries may map 1 GiB pages; stored because page walks ask.
    public private(set) var hasGigabytePages: Bool
    private var bits: UInt128 {
        didSet { hasGigabytePages = has(.gigabytePages) }
    }

    /// The default: x86-64-v2 with what current kernels use of paging and time.
    public static let penumbraV2 = ProcessorModel(
        name: "penumbra-v2", signature: 0x000e_06e1, physicalAddressBits: 40,
        features: Feature.allCases.filter { !$0.isOptional })

    /// x86-64-v3, on hosts that have AVX2, FMA and F16C themselves.
    public static let penumbraV3 = ProcessorModel(
        name: "penumbra-v3", signature: 0x000e_06e1, physicalAddressBits: 40,
        features: Feature.allCases.filter { !$0.isOptional || $0.isLevel3 })

    /// All that is implemented on every host.
    public static let everything = ProcessorModel(
        name: "max", signature: 0x000e_06e1, physicalAddressBits: 40,
        features: Feature.allCases.filter { !$0.dependsOnHost })

    /// All models.
    public static let all = [penumbraV2, penumbraV3, everything]

    private init(
        name: String, signature: UInt32, physicalAddressBits: UInt64, features: [Feature]
    ) {
        self.name = name
        self.signature = signature
        self.physicalAddressBits = physicalAddressBits
        bits = features.reduce(0) { $0 | $1.mask }
        hasGigabytePages = features.contains(.gigabytePages)
    }

    /// Makes a model from `name[,+feature|,-feature]…`.
    /// - Throws: `ProcessorModelError` where the model or a feature does not exist, an item has no
    ///   sign, or a feature cannot be removed.
    public init(parsing text: String) throws(ProcessorModelError) {
        let items = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        guard let first = items.first, let model = Self.all.first(where: { $0.name == first })
        else { throw .unknownModel(items.first ?? "") }
        self = model
        for item in items.dropFirst() {
            guard let sign = item.first, sign == "+" || sign == "-" else {
                throw .missingSign(item)
            }
            let name = String(item.dropFirst())
            guard let feature = Feature(rawValue: name) else { throw .unknownFeature(name) }
            if sign == "+" {
                add(feature)
            } else {
                guard !feature.isRequired else { throw .requiredFeature(name) }
                remove(feature)
            }
        }
    }

    /// Whether the guest has a feature.
    public func has(_ feature: Feature) -> Bool { bits & feature.mask != 0 }

    private mutating func add(_ feature: Feature) {
        bits |= feature.mask
        if let prerequisite = feature.prerequisite { add(prerequisite) }
    }

    private mutating func remove(_ feature: Feature) {
        bits &= ~feature.mask
        for dependent in Feature.allCases where dependent.prerequisite == feature {
            remove(dependent)
        }
    }
}

extension ProcessorModel.Feature {
    /// The feature's bit in a model's set: its place in `allCases`, of which there are fewer
    /// than 128 (a test holds that).
    fileprivate var mask: UInt128 { 1 << UInt128(ordinal) }

    private var ordinal: Int { Self.ordinals[self] ?? 127 }

    private static let ordinals = Dictionary(uniqueKeysWithValues: zip(allCases, 0..<128))
}

/// Why a text names no processor model.
public enum ProcessorModelError: Error, Equatable, CustomStringConvertible {
    case unknownModel(String)
    case unknownFeature(String)
    case missingSign(String)
    case requiredFeature(String)

    public var description: String {
        switch self {
        case .unknownModel(let name):
            "no processor model '\(name)': there is "
                + ProcessorModel.all.map(\.name).joined(separator: ", ")
        case .unknownFeature(let name):
            "no processor feature '\(name)': there are "
                + ProcessorModel.Feature.allCases.map(\.rawValue).sorted().joined(separator: ", ")
        case .missingSign(let item):
            "'\(item)' in the processor model: write +feature or -feature"
        case .requiredFeature(let name):
            "the processor feature '\(name)' cannot be removed"
        }
    }
}
