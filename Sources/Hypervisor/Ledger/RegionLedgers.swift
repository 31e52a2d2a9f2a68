import X86

/// The ledger of a run, divided among the regions that the guest marked.
///
/// *Problem.* What a workload costs must not be mixed with the boot before it.
///
/// *Approach.* At each moment the whole machine, all its processors, is in one region, or outside
/// of all (region 0). Regions do not nest: the beginning of one ends the one before, and the end of
/// a region that the machine is not in means nothing. So the regions are a division of the run:
/// each count of theirs sums up to that of the whole ledger.
///
/// *Caveats.* Where more than `mostRegions` numbers are used, all further ones share one place.
public struct RegionLedgers: Sendable {
    /// What happened in one region.
    public struct Region: Equatable, Sendable {
        /// The region's number; 0: outside of all regions; nil: the place that is shared by the
        /// numbers for which no other was left.
        public var number: UInt16?
        /// How often it began. Of region 0: how often the machine was outside, the start included.
        public var begun: UInt64
        /// What happened in it.
        public var ledger: Ledger

        public init(number: UInt16?, begun: UInt64, ledger: Ledger) {
            self.number = number
            self.begun = begun
            self.ledger = ledger
        }
    }

    /// How many numbers of regions are told apart.
    public static let mostRegions = 255

    /// All regions, in the order in which they first began, region 0 first. The open one lacks what
    /// happened since it began last.
    private var regions = [Region(number: 0, begun: 1, ledger: Ledger())]
    /// The index of the region in which the machine is.
    package private(set) var current = 0
    private var beginning = Ledger()

    package init() {}

    /// The guest has executed a marker, at which the machine's ledger was `ledger`.
    package mutating func mark(_ marker: RegionMarker, _ ledger: Ledger) {
        let next: Int
        switch marker {
        case .begin(let number): next = index(of: number)
        case .end(let number):
            guard current != 0, current == knownIndex(of: number) else { return }
            next = 0
        }
        regions[current].ledger.add(from: beginning, to: ledger)
        regions[next].begun &+= 1
        current = next
        beginning = ledger
    }

    /// All regions, where the machine's ledger is `ledger` now. The open region's goes up to now.
    package func all(_ ledger: Ledger) -> [Region] {
        var regions = regions
        regions[current].ledger.add(from: beginning, to: ledger)
        return regions
    }

    private func knownIndex(of number: UInt16) -> Int? {
        regions.firstIndex { $0.number == number } ?? regions.firstIndex { $0.number == nil }
    }

    private mutating func index(of number: UInt16) -> Int {
        if let index = knownIndex(of: number), regions[index].number != nil { return index }
        let isFull = regions.count > Self.mostRegions
        if isFull, let shared = regions.firstIndex(where: { $0.number == nil }) { return shared }
        regions.append(Region(number: isFull ? nil : number, begun: 0, ledger: Ledger()))
        return regions.count - 1
    }
}
