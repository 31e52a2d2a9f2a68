import Processor
import X86

/// The processors' tables of known roots (`TraceRoots`): with `elide`, a MOV to CR3 that finds its
/// root there does not exit.
///
/// A pair says that the shadow root is the root of the guest's tables at the guest root in the
/// processor's present paging mode. So all of a processor's pairs go when its mode changes, and a
/// pair goes from every table before its shadow page is given up. PCIDs do not matter: one shadow
/// serves all, and it is in step with the guest's tables whenever the processor uses a pair.
struct KnownRoots {
    let tables: TableMemory
    /// The machine addresses of the processors' tables; empty without `elide`.
    let addresses: [UInt64]
    /// Which pair of each table is replaced next.
    private var next: [UInt64]

    init(_ tables: TableMemory, _ layout: TraceLayout?, processors: Int) {
        self.tables = tables
        addresses = (0..<processors).compactMap { layout?.rootTable($0) }
        next = addresses.map { _ in 0 }
    }

    /// Enters a pair for a processor, in place of an older one for the guest root, or of the oldest.
    mutating func add(guest: UInt64, shadow: UInt64, processor: Int) {
        guard addresses.indices ~= processor else { return }
        let guest = guest & PagingEntry.addressMask | TraceRoots.valid
        let table = addresses[processor]
        var place = table &+ next[processor] &* 16
        if let known = Self.places(table).first(where: { tables.load($0) == guest }) {
            place = known
        } else {
            next[processor] = (next[processor] &+ 1) % TraceRoots.count
        }
        tables.store(shadow, at: place &+ 8)
        tables.store(guest, at: place)
    }

    /// Drops the pairs that name a shadow root.
    func remove(shadow: UInt64) {
        for table in addresses {
            for place in Self.places(table) where tables.load(place &+ 8) == shadow {
                tables.store(0, at: place)
            }
        }
    }

    /// Drops all pairs of a processor.
    func removeAll(processor: Int) {
        guard addresses.indices ~= processor else { return }
        for place in Self.places(addresses[processor]) { tables.store(0, at: place) }
    }

    /// The addresses of a table's pairs.
    static func places(_ table: UInt64) -> StrideTo<UInt64> {
        stride(from: table, to: table &+ TraceRoots.bytes, by: 16)
    }
}
