import MachineMemory
import Processor
import X86

/// Shadow page tables: guest virtual → machine, kept in lawful correspondence with the guest's own.
///
/// *Problem.* The processor walks tables that translate to machine addresses; the guest writes
/// tables that translate to guest-physical ones. The shadow is a very large TLB: each translation
/// in it must be one that a real TLB could hold (SDM Vol. 3A §4.10).
///
/// *Approach.* Shadow entries are made when the processor faults for want of them. Every guest
/// frame that is shadowed as a table is *traced*: all shadow leaves that map it carry T. By the
/// technique's `Policy`, the processor then records writes to it, and a drain re-reads the guest
/// entries that records name; or D is clear as well, each write exits, and the entry is re-read
/// when the write is done. Either removes or rewrites the shadow entries that derive from the
/// guest entry; nothing becomes present there.
///
/// Decisions, and their reasons:
/// - The machine address of guest-physical `g` is `guestBase + g`, for devices too. A leaf of a
///   device page leads the processor to an address without memory, and so to the device bus: no
///   exit is needed.
/// - A shadow entry carries exactly its guest entry's R/W, U/S, XD (and G, D in leaves). The
///   processor ANDs them along the walk and applies the guest's present CR0.WP, SMEP, SMAP
///   and AC. So a page's identity needs no access rights: it is (guest frame, level, `TableRole`),
///   and for direct pages `DirectRole`. Nothing has to be remade when WP, SMEP or SMAP change, and
///   a shadow is never stale with respect to them.
/// - The shadow has one format, of 4 levels (5 for 5-level guests), whatever form the guest's
///   tables have. The role says how these are read (`TableRole.swift`); the levels that a 32-bit
///   guest does not have stand for its registers (`ShadowMMU+Upper.swift`).
/// - A clean guest leaf has a shadow leaf with D=0, through which the processor does not write but
///   exits, whatever CR0.WP says. An entry with A=0 is never installed.
/// - Whenever a present shadow entry is changed or removed, cached translations made from it are
///   invalidated. So all that a processor has cached stands in the shadow now, and the reverse map
///   finds all of it when a frame becomes traced. Dropping more than the guest asked for is always
///   allowed.
/// - Under `unsync` a table of the lowest level may be *unsynced*: the guest writes it freely, and
///   the shadow of its entries is as stale as a TLB may be (`ShadowMMU+Unsync.swift`).
/// - Under `agile` a table may be *nested*: its shadow page is empty, and the entries that link to
///   it switch the processor's walk to the guest's table (`ShadowMMU+Nesting.swift`).
/// - A shadow page without a parent is dropped at once, roots excepted: what has no parent is
///   mostly a page table that the guest is freeing, and would only produce records.
/// - Pages are found through `frames`, reverse map and parents are lists threaded through the
///   slots (`links`), and all of it is allocated at power-on: a hidden fault allocates nothing.
///
/// *Caveats.* One host thread at a time. `links` takes as much host memory again as the shadow pages
/// that were ever used.
package final class ShadowMMU {
    /// How writes to guest tables are noticed.
    let policy: Policy
    let tables: TableMemory
    let caches: [any TranslationCacheControl]
    /// Of these the processors, which all are but in tests of the shadow alone, and the others: to
    /// drop a page from a processor's is a call, and retains nothing.
    let processors: [Unretained<Processor>]
    let otherCaches: [any TranslationCacheControl]
    /// The machine frame of shadow page 0.
    let firstFrame: UInt64
    /// How many shadow pages there may be, the empty root included.
    let ceiling: UInt32

    let pages: LazyTable<ShadowPage>
    let links: LazyTable<SlotLink>
    let frames: LazyTable<FrameState>
    /// Traced frames in each 2 MiB and each 1 GiB of guest-physical memory.
    let tracedInDirectory: LazyTable<UInt16>
    let tracedInGigabyte: LazyTable<UInt32>
    /// Direct and upper pages by a hash of their role.
    let buckets: LazyTable<UInt32>
    /// What each upper page stands for; see `ShadowMMU+Upper.swift`.
    let directories: LazyTable<SIMD4<UInt64>>

    /// The first free page that was used before.
    var firstFree: UInt32 = 0
    /// Pages from here up were never used.
    var firstUnused: UInt32 = 1
    var newest: UInt32 = 0
    var oldest: UInt32 = 0
    /// What is applied now was written by an attempt at an instruction that faults once more: no
    /// page is given up for it, or the next attempt might miss what this one is resumed for.
    var isBegunAnew = false
    /// How many pages were dropped: whether a list of them is still what it was.
    var dropCount: UInt64 = 0
    /// The number of the present walk.
    var stamp: UInt32 = 0
    /// The frames of tables that the guest may write unnoticed.
    var unsynced: [UInt32] = []
    /// The frames of tables that the processor walks itself.
    var nested: [UInt32] = []
    /// Where in `nested` the next look begins, and the present epoch.
    var nestedHand = 0
    var epoch: UInt32 = 1
    var rootLoadsInEpoch: UInt64 = 0
    /// The root that each processor walks.
    let liveRoots: LazyTable<UInt32>
    /// The root of the second dimension; 0: there is none.
    var secondRoot: UInt32 = 0
    /// Where the facility's own structures lie; nil in tests of the shadow alone.
    let layout: TraceLayout?
    /// The roots that processors load without an exit.
    var roots: KnownRoots
    /// `Policy.tracesByFrame` and `Policy.tracesLeavesAlone`.
    let tracesByFrame: Bool
    let tracesLeavesAlone: Bool

    /// Invalidations that are due before any guest code runs.
    let pendingAddresses: LazyTable<UInt64>
    var pendingCount = 0
    var pendingAll = false

    package var ledger: Ledger {
        _read { yield counters[0] }
        _modify { yield &counters[0] }
    }
    private let counters: LazyTable<Ledger>

    /// The fewest shadow pages with which every instruction of a guest comes to its end: all pages
    /// that it touches must be mapped at one time, since each fault begins it anew.
    ///
    /// Linear pages that one step touches, at most:
    ///
    /// | | 32-bit | IA-32e |
    /// |---|---|---|
    /// | the instruction, a far CALL with its pointer in memory | 2 + 2 | 2 + 2 |
    /// | the call gate, the descriptor of its code segment | 2 + 2 | 2 + 2 |
    /// | the inner stack's pointer in the TSS, its descriptor, the frame | 2 + 2 + 2 | 2 + 0 + 2 |
    /// | parameters on the outer stack | 2 | – |
    /// | together | 16 | 12 |
    ///
    /// Other instructions and the delivery of events touch fewer; a task switch reads both TSSs and
    /// three descriptors at most before it enters the new task, and then goes on by steps
    /// (`TaskEntry`). Shadow pages for them, if no two share more than they must:
    ///
    /// - Shadow: a root and 4 for each page with 5 levels, 1 + 12 × 4 = 49. With 4 levels these are
    ///   1 + 12 × 3 = 37; of 32-bit guests 2 for registers, 4 for directories and 16, 22.
    /// - Under `agile` a table below a 5-level root may be nested: its own page, and for each of the 3
    ///   tables below it and the page 3 of the second dimension. With the two roots,
    ///   2 + 12 × (1 + 4 × 3) = 158.
    /// - Under `nested` nothing is traced, so there are leaves of 1 GiB but where RAM begins or ends:
    ///   the root; one for each of 16 pages that are no RAM; for RAM, 2 and at both ends 2 more: 23.
    ///
    /// Beside these there are the empty root, the other processors' roots, and what is reclaimed
    /// in one batch.
    package static func leastPages(processors: Int, policy: Policy = .shadow(.recorded)) -> UInt64 {
        let touched: UInt64 =
            switch policy.walked {
            case .nested: 23
            case .shadow, .guest: policy.nesting == nil ? 49 : 158
            }
        return 1 + touched + UInt64(max(processors, 1)) - 1 + 4
    }

    /// The fewest that one access can be resolved with: the empty root, a live root for each
    /// processor, the rest of one walk, and some to make progress with.
    package static func leastPagesOfAccess(
        processors: Int, policy: Policy = .shadow(.recorded)
    ) -> UInt64 {
        // A nested walk's second dimension: three levels for each of two tables and the page.
        8 + (policy.nesting == nil ? 0 : 12) + UInt64(max(processors, 1))
    }

    /// Takes `pageCount` machine frames from `firstFrame` for shadow pages. `layout`: where the
    /// map of frames, the masks and the tables of roots are, if the policy has any.
    package init(
        memory: MachineMemory, caches: [any TranslationCacheControl], firstFrame: UInt64,
        pageCount: UInt64, policy: Policy = .shadow(.recorded), layout: TraceLayout? = nil
    ) throws(HypervisorError) {
        let least = Self.leastPagesOfAccess(processors: caches.count, policy: policy)
        guard pageCount >= least else {
            throw .tooLittleShadowMemory(given: pageCount * pageSize, least: least * pageSize)
        }
        // Slots are 32-bit: page × 512 + index.
        guard pageCount < 1 << 23 else {
            throw .tooMuchShadowMemory(given: pageCount * pageSize, most: pageSize << 23)
        }
        tables = TableMemory(memory)
        self.layout = layout
        roots = KnownRoots(tables, layout, processors: caches.count)
        tracesByFrame = policy.tracesByFrame
        tracesLeavesAlone = policy.tracesLeavesAlone
        let end = firstFrame + pageCount
        guard end <= tables.firstGuestFrame,
            memory.isMemory(MachineFrame(firstFrame).base, size: Int(pageCount * pageSize))
        else { throw .noHypervisorMemory(needed: end * pageSize) }
        let count = Int(pageCount)
        let frameLimit = Int(tables.frameLimit)
        guard let pages = LazyTable<ShadowPage>(count: count),
            let links = LazyTable<SlotLink>(count: count * 512),
            let frames = LazyTable<FrameState>(count: frameLimit),
            let tracedInDirectory = LazyTable<UInt16>(count: frameLimit >> 9 + 1),
            let tracedInGigabyte = LazyTable<UInt32>(count: frameLimit >> 18 + 1),
            let buckets = LazyTable<UInt32>(count: Self.bucketCount(pageCount)),
            let directories = LazyTable<SIMD4<UInt64>>(count: count),
            let counters = LazyTable<Ledger>(count: 1),
            let liveRoots = LazyTable<UInt32>(count: caches.count),
            let pendingAddresses = LazyTable<UInt64>(count: Self.pendingLimit)
        else { throw .noHostMemory }
        self.pages = pages
        self.links = links
        self.frames = frames
        self.tracedInDirectory = tracedInDirectory
        self.tracedInGigabyte = tracedInGigabyte
        self.buckets = buckets
        self.directories = directories
        self.counters = counters
        self.liveRoots = liveRoots
        self.pendingAddresses = pendingAddresses
        self.caches = caches
        processors = caches.compactMap { ($0 as? Processor).map { Unretained($0) } }
        otherCaches = caches.filter { !($0 is Processor) }
        self.policy = policy
        self.firstFrame = firstFrame
        ceiling = UInt32(pageCount)
        if policy.nesting != nil { nested.reserveCapacity(Self.nestedLimit) }
        memory.clear(MachineFrame(firstFrame))
    }

    private static func bucketCount(_ pages: UInt64) -> Int {
        var count = 16
        while count < pages / 2 { count *= 2 }
        return count
    }

    // MARK: Slots

    /// The machine address of a shadow page.
    func address(of page: UInt32) -> UInt64 { (firstFrame &+ UInt64(page)) << 12 }

    /// The machine address of a shadow entry.
    @inline(__always)
    func address(ofSlot slot: UInt32) -> UInt64 { firstFrame << 12 &+ UInt64(slot) &* 8 }

    @inline(__always)
    func shadowEntry(_ slot: UInt32) -> PagingEntry {
        PagingEntry(tables.load(address(ofSlot: slot)))
    }

    @inline(__always)
    func slot(_ page: UInt32, _ index: Int) -> UInt32 { page &* 512 &+ UInt32(index & 511) }

    /// The shadow page that holds a slot.
    @inline(__always)
    func page(ofSlot slot: UInt32) -> UInt32 { slot >> 9 }

    /// The shadow page that the entry in a slot, which is no leaf, links to.
    @inline(__always)
    func child(_ slot: UInt32, _ entry: PagingEntry) -> UInt32 {
        entry.isSwitch ? nestedChild(slot, entry) : linkedPage(entry)
    }

    /// The shadow page that an entry, which is neither a leaf nor a switch, links to.
    @inline(__always)
    func linkedPage(_ entry: PagingEntry) -> UInt32 {
        UInt32(truncatingIfNeeded: entry.addressField >> 12 &- firstFrame)
    }

    /// The first guest frame that a shadow leaf maps.
    @inline(__always)
    func guestFrame(_ entry: PagingEntry, _ level: PageLevel) -> UInt64 {
        entry.leafBase(at: level) >> 12 &- tables.firstGuestFrame
    }

    /// Whether the shadow has to follow writes to the guest frame: it is shadowed as a table, and
    /// not nested.
    @inline(__always)
    func isTraced(_ frame: UInt64) -> Bool {
        guard tables.isRAM(frame) else { return false }
        let state = frames[Int(frame)]
        return state.shadows != 0 && state.nested == 0
    }

    // MARK: Roots

    /// Takes over the root that a processor has found by itself in its table of known roots.
    package func adoptRoot(_ root: MachineAddress, processor: Int) {
        let page = UInt32(truncatingIfNeeded: root.rawValue >> 12 &- firstFrame)
        guard liveRoots[processor] != page else { return }
        liveRoots[processor] = page
        if page != 0 { use(page) }
    }

    /// Lets a processor load `mode`'s root, which it walks now, without an exit from now on.
    package func knowRoot(processor: Int, mode: GuestMode) {
        let page = liveRoots[processor]
        // A load of PAE's root loads the pointers too, which may say something else by then.
        guard let form = mode.rules?.form, form != .pae, page != 0 else { return }
        roots.add(guest: mode.cr3, shadow: address(of: page), processor: processor)
    }

    /// Has a processor's next loads of roots exit again: its paging mode has changed.
    package func forgetRoots(processor: Int) { roots.removeAll(processor: processor) }

    /// Makes the root for the guest's present mode what `processor` walks, and returns it. Records
    /// must have been drained.
    package func loadRoot(processor: Int, mode: GuestMode) -> MachineAddress {
        stamp &+= 1
        countRootLoad()
        liveRoots[processor] = 0
        let made = ledger.shadowPagesMade
        let root = root(mode)
        if ledger.shadowPagesMade == made { ledger.shadowPagesReused &+= 1 }
        liveRoots[processor] = root
        flushInvalidations()
        return MachineAddress(address(of: root))
    }

    /// The root that `processor` is to walk.
    package func liveRoot(processor: Int) -> MachineAddress {
        MachineAddress(address(of: liveRoots[processor]))
    }

    /// Its level: 5 for a 5-level guest, whose addresses have more bits than 4 levels translate.
    package func liveTop(processor: Int) -> PageLevel {
        pages[liveRoots[processor]].levelNumber == 5 ? .pml5 : .pml4
    }

    /// The root page of a mode, made if need be. Where there is no RAM for the table that CR3
    /// names, it is the empty root: every access faults, and the walk of the guest's tables says
    /// how.
    func root(_ mode: GuestMode) -> UInt32 {
        let page: UInt32
        if let rules = mode.rules {
            let role = TableRole(rules)
            switch rules.form {
            case .twoLevel, .pae:
                page = upperPage(Self.directories(mode, rules), .pml4, role)
            case .fourLevel, .fiveLevel:
                let frame = mode.rootFrame(rules)
                page =
                    tables.isRAM(frame) ? indirectPage(frame, rules.form.topLevel, role) : 0
            }
        } else {
            page = directPage(
                DirectRole(baseFrame: 0, level: .pml4, isDirty: true, isGlobal: false))
        }
        if page != 0 { use(page) }
        return page
    }
}
