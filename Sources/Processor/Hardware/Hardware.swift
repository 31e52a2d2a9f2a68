/// Which processor is modelled where the architecture leaves a choice: how its translation caches
/// behave, and which errata it has. `Docs/Hardware.md` tells what each is for.
///
/// The textual form is `default`, or some of `tlb=keep`, `tlb=random:SEED`, `tlb=speculative`,
/// `tlb=fragment` and `erratum=NAME`, separated by commas: `tlb=keep,tlb=fragment`.
///
/// All but the default have paging-structure caches beside the TLB (SDM Vol. 3A §4.10.3).
public struct Hardware: Equatable, Sendable, CustomStringConvertible {
    /// What goes when the TLB is full, or sooner.
    public enum Replacement: Equatable, Sendable {
        /// A TLB of common size; what came first into a full set goes first.
        case firstIn
        /// Nothing, up to a ceiling on host memory: the caches keep all that they lawfully may.
        case never
        /// As `firstIn`, and anything at any time, as the seed and the processor's number decide.
        case random(seed: UInt64)
    }

    public var replacement = Replacement.firstIn
    /// Whether translations are cached that no access has asked for: neighbours of what was
    /// accessed, and where registers point. It needs valid entries with A set, and changes nothing
    /// but the caches.
    public var speculates = false
    /// Whether large pages are cached in parts of 4 KiB.
    public var fragments = false
    public var errata: Set<Erratum> = []

    public init() {}

    /// Parses the textual form.
    public init(parsing text: String) throws(HardwareError) {
        guard text != "default" else { return }
        var seen: Set<Substring> = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard seen.insert(part).inserted else { throw .doubled(String(part)) }
            try take(part)
        }
    }

    private mutating func take(_ part: Substring) throws(HardwareError) {
        switch part {
        case "tlb=keep": try replace(.never)
        case "tlb=speculative": speculates = true
        case "tlb=fragment": fragments = true
        case _ where part.hasPrefix("tlb=random:"):
            let digits = part.dropFirst("tlb=random:".count)
            guard let seed = UInt64(digits) else { throw .badSeed(String(digits)) }
            try replace(.random(seed: seed))
        case _ where part.hasPrefix("erratum="):
            let name = String(part.dropFirst("erratum=".count))
            guard let erratum = Erratum(rawValue: name) else { throw .unknownErratum(name) }
            errata.insert(erratum)
        default: throw .unknown(String(part))
        }
    }

    private mutating func replace(_ wanted: Replacement) throws(HardwareError) {
        guard replacement == .firstIn else { throw .twoReplacements }
        replacement = wanted
    }

    public var description: String {
        var parts: [String] = []
        switch replacement {
        case .firstIn: break
        case .never: parts.append("tlb=keep")
        case .random(let seed): parts.append("tlb=random:\(seed)")
        }
        if speculates { parts.append("tlb=speculative") }
        if fragments { parts.append("tlb=fragment") }
        for erratum in Erratum.allCases where errata.contains(erratum) {
            parts.append("erratum=\(erratum.rawValue)")
        }
        return parts.isEmpty ? "default" : parts.joined(separator: ",")
    }
}

/// What is wrong with hardware that the user named.
public enum HardwareError: Error, Equatable, CustomStringConvertible {
    case unknown(String)
    case unknownErratum(String)
    case badSeed(String)
    case doubled(String)
    /// `tlb=keep` and `tlb=random`, or two seeds.
    case twoReplacements

    public var description: String {
        switch self {
        case .unknown(let part):
            "unknown hardware '\(part)': give default, or tlb=keep, tlb=random:SEED,"
                + " tlb=speculative, tlb=fragment and erratum=NAME, separated by commas"
        case .unknownErratum(let name):
            "unknown erratum '\(name)': give \(Erratum.names)"
        case .badSeed(let text):
            "tlb=random:\(text) has no seed: give a number from 0 to \(UInt64.max)"
        case .doubled(let part): "'\(part)' is given twice: give it once"
        case .twoReplacements:
            "tlb=keep and tlb=random:SEED exclude each other: give one of them, once"
        }
    }
}
