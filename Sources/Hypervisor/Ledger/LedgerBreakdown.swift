import X86

/// The ledger of a run in parts: by region, and within each by where exits come from.
///
/// The regions' ledgers sum up to the whole ledger; within a region the exits of all code, and those
/// of all processes, are `ledger.exits`.
public struct LedgerBreakdown: Equatable, Sendable {
    /// One region of the run.
    public struct Part: Equatable, Sendable {
        /// The region, how often it began, and its ledger.
        public var region: RegionLedgers.Region
        /// Exits by guest code; empty where places are not counted.
        public var code: [ExitPlace]
        /// Exits by the guest's roots: its processes; empty where places are not counted.
        public var processes: [ExitPlace]

        public init(
            region: RegionLedgers.Region, code: [ExitPlace] = [], processes: [ExitPlace] = []
        ) {
            self.region = region
            self.code = code
            self.processes = processes
        }
    }

    /// The parts in the order in which their regions first began: what lies outside of all first.
    public var parts: [Part]

    public init(parts: [Part]) { self.parts = parts }
}

/// What divides a run's counts into parts while it goes on.
struct LedgerDivision {
    private var regions = RegionLedgers()
    private var places: (code: ExitPlaces, processes: ExitPlaces)?

    /// Has exits counted by where they come from, from now on.
    mutating func countPlaces() {
        if places == nil { places = (ExitPlaces(), ExitPlaces()) }
    }

    /// Counts where an exit comes from; nothing where that is not asked for.
    mutating func count(_ reason: ExitReason, code: UInt64, process: UInt64) {
        places?.code.count(reason, at: code, region: regions.current)
        places?.processes.count(reason, at: process, region: regions.current)
    }

    /// The guest has executed a marker, at which the ledger was `ledger`.
    mutating func mark(_ marker: RegionMarker, _ ledger: Ledger) { regions.mark(marker, ledger) }

    /// The parts, where the ledger is `ledger` now.
    func breakdown(_ ledger: Ledger) -> LedgerBreakdown {
        LedgerBreakdown(
            parts: regions.all(ledger).enumerated().map { index, region in
                LedgerBreakdown.Part(
                    region: region, code: places?.code.places(region: index) ?? [],
                    processes: places?.processes.places(region: index) ?? [])
            })
    }
}
