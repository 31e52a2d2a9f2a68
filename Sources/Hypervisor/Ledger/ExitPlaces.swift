/// Exits counted by where they come from, exactly and in memory of a fixed size: by an address (of
/// guest code, or of the root that tells the guest's processes apart), by region and by reason.
///
/// The first `mostPlaces` that a run meets are counted one by one, and what comes from others after
/// that together.
package struct ExitPlaces: Sendable {
    private struct Key: Hashable {
        /// Nil: one of those that came too late.
        var address: UInt64?
        /// The region's index.
        var region: UInt16
        var reason: ExitReason
    }

    /// How many places are told apart where nothing else is said.
    package static let mostPlaces = 32768

    private var counts: [Key: UInt64] = [:]
    private let most: Int

    package init(most: Int = Self.mostPlaces) {
        self.most = most
        // No exit allocates.
        counts.reserveCapacity(most)
    }

    /// Counts one exit.
    package mutating func count(_ reason: ExitReason, at address: UInt64, region: Int) {
        var key = Key(
            address: address, region: UInt16(truncatingIfNeeded: region), reason: reason)
        if counts.count >= most, counts[key] == nil { key.address = nil }
        counts[key, default: 0] &+= 1
    }

    /// The places of one region, by falling count, equal ones by address; what is not told apart
    /// comes last.
    package func places(region: Int) -> [ExitPlace] {
        var places: [UInt64?: Tally<ExitReason>] = [:]
        for (key, count) in counts where Int(key.region) == region {
            places[key.address, default: Tally()][key.reason] &+= count
        }
        return places.map { ExitPlace(address: $0.key, exits: $0.value) }.sorted {
            guard let one = $0.address, let other = $1.address else { return $0.address != nil }
            let (first, second) = ($0.exits.sum, $1.exits.sum)
            return first == second ? one < other : first > second
        }
    }
}

/// The exits that come from one place.
public struct ExitPlace: Equatable, Sendable {
    /// The place; nil: all together that are not told apart.
    ///
    /// Of code, the offset in CS of the instruction that exited; where the exit is trap-like
    /// (`Exit`), of the one after it. Of a process, the guest-physical address of its root, as CR3
    /// has it at the exit: a load of CR3 counts for the new one.
    public var address: UInt64?
    /// The exits, by reason.
    public var exits: Tally<ExitReason>

    public init(address: UInt64?, exits: Tally<ExitReason>) {
        self.address = address
        self.exits = exits
    }
}
