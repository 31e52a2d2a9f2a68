/// Deliberate mistakes in memory virtualization: for tests that verification finds them.
///
/// A check that cannot fail is worth nothing. Each of these breaks one rule of coherence, in one
/// place on a slow path, and a test shows that the lawfulness oracle, or the auditor, says which.
/// No run of a user's has any.
package struct Defects: OptionSet, Sendable {
    package var rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// A drain reads the ring of the processor alone that executes the operation.
    package static let skipsOtherRings = Defects(rawValue: 1 << 0)
    /// A drain leaves global translations as they are.
    package static let forgetsGlobalPages = Defects(rawValue: 1 << 1)
    /// A drain leaves entries that name tables as they are.
    package static let keepsUpperLevels = Defects(rawValue: 1 << 2)
    /// Translations are installed from guest entries whose A is clear, and stays so.
    package static let installsUnaccessed = Defects(rawValue: 1 << 3)
    /// A record is read before the write that it is of: what it names has its old value still.
    package static let losesRecords = Defects(rawValue: 1 << 4)
    /// A table is linked into the shadow while what is below it may be older.
    package static let linksUnsynced = Defects(rawValue: 1 << 5)
    /// A load of a root that flushes nothing finds the root as it was left, and so does the change
    /// of CR4.PCIDE before it.
    package static let reusesRoots = Defects(rawValue: 1 << 6)
    /// Nothing is drained at a page fault.
    package static let skipsDrainAtFault = Defects(rawValue: 1 << 7)
    /// A page that becomes a table stays writable, unnoticed, where it was.
    package static let leavesTablesWritable = Defects(rawValue: 1 << 8)
    /// Nothing is brought up to date at the operation.
    package static let ignoresInvalidatePage = Defects(rawValue: 1 << 9)
    package static let ignoresRootLoad = Defects(rawValue: 1 << 10)
    package static let ignoresModeChange = Defects(rawValue: 1 << 11)
    /// The same for INVPCID, by its type.
    package static func ignoresInvalidatePCID(type: UInt8) -> Defects {
        Defects(rawValue: 1 << (12 + UInt32(type & 3)))
    }
    /// Leaves grant writes whatever the guest's entries say.
    package static let grantsWrites = Defects(rawValue: 1 << 16)
    /// Leaves are global whatever the guest's entries say.
    package static let marksGlobal = Defects(rawValue: 1 << 17)
    /// The P bit of an error code tells of the shadow, which has no entry.
    package static let faultsByShadow = Defects(rawValue: 1 << 18)
}
