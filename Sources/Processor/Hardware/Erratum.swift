/// A fault in the modelled silicon: one rule of the architecture that the processor breaks
/// (`Docs/Hardware.md`). For tests of guests, of hypervisors, and of what is to find such faults.
public enum Erratum: String, CaseIterable, Sendable {
    /// While CR4.PCIDE is set, INVLPG leaves global translations of the page. Breaks: INVLPG
    /// invalidates global translations of the page whatever their PCID (SDM Vol. 3A §4.10.4.1).
    /// Intel processors of the Alder Lake and Raptor Lake families have had it.
    case invlpgGlobalPCID = "invlpg-global-pcid"
    /// INVLPG of an address in a large page that is cached in parts drops the one part. Breaks: it
    /// invalidates all TLB entries for the page, whatever the number of them (§4.10.2.3,
    /// §4.10.4.1). Large pages are cached in parts, as by `Hardware.fragments`.
    case invlpgOnePart = "invlpg-one-part"
    /// INVPCID leaves the paging-structure caches as they are. Breaks: it invalidates mappings,
    /// and those are the paging-structure caches' too (§4.10.4.1).
    case invpcidKeepsStructures = "invpcid-keeps-structures"
    /// MOV to CR3 leaves the paging-structure caches as they are. Breaks: it invalidates all
    /// entries of the PCID in them (§4.10.4.1).
    case cr3KeepsStructures = "cr3-keeps-structures"
    /// A read caches a translation and leaves A of the leaf clear. Breaks: nothing is cached of an
    /// entry whose A is clear (§4.10.2.3), and A is set when an entry is used (§4.8). It shows
    /// where the processor walks the guest's own tables.
    case cachedNotAccessed = "cached-not-accessed"

    /// What may be given, for people.
    public static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }
}
