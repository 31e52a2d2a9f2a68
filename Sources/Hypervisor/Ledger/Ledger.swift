/// The exact counts of everything that happened in a run: what a price profile turns into cycles.
///
/// Every field counts events since power-on and is free of the software engine's own tricks, so one
/// guest with one configuration gives one ledger. Sums that hold, and that tests hold it to:
/// - `exits[.pageFault] == hiddenFaults + trueFaults`
/// - `exits[.tableWrite] == tableWrites.sum`
/// - `recordsDrained == recordsByLevel.sum + recordsOfFormerTables`
/// - `shadowPagesMade == shadowPagesLive + shadowPagesDropped + shadowPagesReclaimed`
public struct Ledger: Equatable, Sendable, BitwiseCopyable {
    // Execution

    /// Guest instructions retired, all processors.
    public var instructions: UInt64 = 0
    /// Exits from guest execution, by reason.
    public var exits = Tally<ExitReason>()
    /// Interrupts delivered to the guest.
    public var interrupts: UInt64 = 0
    /// Exceptions delivered to the guest, page faults among them.
    public var exceptions: UInt64 = 0
    /// Accesses that left the processor for the device bus: ports and memory-mapped registers.
    public var deviceAccesses: UInt64 = 0

    // Translation

    /// Misses of the modelled TLB.
    public var tlbMisses: UInt64 = 0
    /// Paging entries that the processor read in walks.
    public var walkReferences: UInt64 = 0

    // Traced writes

    /// Records that the processor put into guest write buffers.
    public var recordsWritten: UInt64 = 0
    /// Traced writes without a record of their own, since an equal record was among the last ones,
    /// or since the group in the page's mask had a bit set already.
    public var recordsCoalesced: UInt64 = 0
    /// Records read back by drains.
    public var recordsDrained: UInt64 = 0
    /// Drained records by the level of the table that was written; of a frame that is used at
    /// several levels, the lowest.
    public var recordsByLevel = Tally<TableLevel>()
    /// Drained records that name a frame that is no page table any more.
    public var recordsOfFormerTables: UInt64 = 0
    /// Drains by what made them necessary, those that found no record included.
    public var drains = Tally<DrainCause>()
    /// Drains that found no record in any buffer.
    public var emptyDrains: UInt64 = 0
    /// Value records whose bytes were no longer in memory when they were drained: a later write
    /// has replaced them.
    public var valuesSuperseded: UInt64 = 0
    /// Operations that did not exit since no record was pending.
    public var elided = Tally<ElidedOperation>()

    // Writes to page tables, recorded or protected

    /// Guest entries that were read again since they were written.
    public var entriesReread: UInt64 = 0
    /// Shadow leaves that were installed when a guest entry was read again, and by no fault.
    public var entriesRefilled: UInt64 = 0

    // Protected page tables

    /// Writes to protected guest tables that exited, by the level of the table; of a frame that is
    /// used at several levels, the lowest.
    public var tableWrites = Tally<TableLevel>()
    /// Tables of the lowest level that such a write made writable and unsynced.
    public var tablesUnsynced: UInt64 = 0
    /// Unsynced tables that were protected again and read whole.
    public var tablesResynced: UInt64 = 0
    /// Entries of unsynced tables that were read again alone.
    public var entriesResynced: UInt64 = 0
    /// Tables that such writes made nested: the processor walks them itself.
    public var tablesNested: UInt64 = 0
    /// Nested tables that were taken back into the shadow, since they were quiet or became roots.
    public var tablesReturned: UInt64 = 0
    /// Writes that exited to tell that a nested table is not quiet.
    public var watchesEnded: UInt64 = 0

    // Page faults

    /// Page-fault exits that the hypervisor resolved without the guest's knowledge.
    public var hiddenFaults: UInt64 = 0
    /// Page-fault exits that were handed to the guest.
    public var trueFaults: UInt64 = 0
    /// Hidden faults that set D in a guest entry: the first write to a clean page.
    public var dirtyFaults: UInt64 = 0
    /// Hidden faults that found the shadow entry in place already.
    public var spuriousFaults: UInt64 = 0

    // Shadow tables

    /// Shadow pages made.
    public var shadowPagesMade: UInt64 = 0
    /// Times that a root or a further parent found the shadow page that it needs.
    public var shadowPagesReused: UInt64 = 0
    /// Shadow pages dropped since the guest gave up or changed what they stand for, or since
    /// their last parent went.
    public var shadowPagesDropped: UInt64 = 0
    /// Shadow pages dropped to stay under the memory ceiling.
    public var shadowPagesReclaimed: UInt64 = 0
    /// Of the dropped ones, those whose guest page received writes as no page table does.
    public var shadowPagesAbandoned: UInt64 = 0
    /// Shadow pages in existence.
    public var shadowPagesLive: UInt64 = 0
    /// The most shadow pages that were in existence at one time.
    public var shadowPagesPeak: UInt64 = 0
    /// Shadow entries made present or brought up to date.
    public var entriesInstalled: UInt64 = 0
    /// Shadow entries removed because their guest entry changed.
    public var entriesDropped: UInt64 = 0
    /// Guest frames on which tracing was switched on.
    public var tracesStarted: UInt64 = 0
    /// Guest frames on which tracing was switched off.
    public var tracesStopped: UInt64 = 0
    /// Invalidations of one page that the hypervisor asked of a processor.
    public var pageInvalidations: UInt64 = 0
    /// Invalidations of everything that the hypervisor asked of a processor.
    public var fullInvalidations: UInt64 = 0

    public init() {}
}
