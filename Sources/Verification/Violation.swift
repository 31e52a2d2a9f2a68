/// The architecture's rules that a translation or a fault can break.
public enum LawfulnessRule: String, Sendable, CaseIterable {
    /// It was ended, by an operation that covers its page.
    case staleLeaf = "a translation was used after an operation that ends it"
    /// An entry above the leaf was ended, by an operation that covers it.
    case staleStructure = "an entry above the leaf was used after an operation that ends it"
    /// The leaf was changed before its table was linked where the walk went through it.
    case staleChild = "an entry was used as it was before anything led to its table"
    case notAccessed = "an entry whose A is clear is never cached"
    case neverDirty = "D was clear in every value that the entry held"
    case moreRights = "more is permitted than by any values that the entries held"
    case neverGlobal = "G was clear in every value that the entry held"
    case largerPage = "the page is larger than the guest's"
    case wrongRoot = "the translation is of a root that this processor does not use in this PCID"
    case invalidEntry = "an entry with P clear or a reserved bit set is never cached"
    case neverHeld = "no values that the entries ever held lead there"
    case notIdentity = "without paging, every address is translated to itself"
    case wrongFault = "the guest's tables, walked now, give no such page fault"
    case notPermitted = "an access was made that its translation does not permit"
    case unobservedWrite = "a table was changed by something that told nobody"
}

/// A translation that no cache could have held, or a fault that the guest's tables do not give.
public struct LawfulnessViolation: Equatable, Sendable, CustomStringConvertible {
    public var rule: LawfulnessRule
    /// Several lines: what was taken, where, by whom; both walks; the history of each entry.
    public var description: String
}

/// What the oracle has done.
public struct LawfulnessCounts: Equatable, Sendable {
    /// Translations that were judged.
    public var translations: UInt64 = 0
    /// Of these, such as the tables did not give any more, and only their history explains.
    public var explainedByHistory: UInt64 = 0
    /// Of these, such as nothing known explains, where something is not known any more.
    public var unjudged: UInt64 = 0
    /// Page faults that were judged.
    public var faults: UInt64 = 0
    /// Writes to watched tables.
    public var tableWrites: UInt64 = 0
    /// How often history was dropped, since there was more of it than the oracle keeps.
    public var historiesDropped: UInt64 = 0
    /// The most tables that were watched at once.
    public var tables: UInt64 = 0

    public init() {}
}
