import Hypervisor

/// How a run goes on: a point every so many retired instructions, of which there are never many.
///
/// Points stand at the same instructions under every technique. Where there are `mostPoints` of
/// them, every other one is given up and the interval is doubled, so that a run of any length has
/// at least half as many.
public struct RunSeries: Equatable, Sendable {
    /// What is known of one moment, and of the time since the point before.
    public struct Point: Equatable, Sendable {
        /// Instructions retired, all processors.
        public var instructions: UInt64
        /// The most records that were in one write buffer since the point before.
        public var bufferedRecords: UInt64
        /// Shadow pages in existence.
        public var shadowPages: UInt64
        /// Up to this point, since the run began.
        public var exits: UInt64
        public var records: UInt64
        public var coalesced: UInt64
        public var drains: UInt64

        public init(
            _ ledger: Ledger, instructions: UInt64, bufferedRecords: UInt64
        ) {
            self.instructions = instructions
            self.bufferedRecords = bufferedRecords
            shadowPages = ledger.shadowPagesLive
            // The engine's own exits say nothing of the guest.
            exits =
                ledger.exits.sum &- ledger.exits[.limit] &- ledger.exits[.halted]
                &- ledger.exits[.stopped]
            records = ledger.recordsWritten
            coalesced = ledger.recordsCoalesced
            drains = ledger.drains.sum
        }
    }

    /// The most points; an even number.
    public static let mostPoints = 512

    /// Instructions between two points.
    public private(set) var interval: UInt64
    public private(set) var points: [Point] = []
    /// The retired count at which the next point is due.
    private(set) var next: UInt64

    /// - Parameters:
    ///   - interval: at least 1.
    ///   - start: the retired count at which the series begins.
    public init(interval: UInt64, start: UInt64) {
        self.interval = max(interval, 1)
        next = start.addingSaturated(self.interval)
        points.reserveCapacity(Self.mostPoints)
    }

    /// Adds the point that is due.
    public mutating func add(_ point: Point) {
        points.append(point)
        if points.count == Self.mostPoints { halve() }
        next = point.instructions.addingSaturated(interval)
    }

    private mutating func halve() {
        points = stride(from: 1, to: points.count, by: 2).map { index in
            var point = points[index]
            point.bufferedRecords = max(point.bufferedRecords, points[index - 1].bufferedRecords)
            return point
        }
        interval = interval.addingSaturated(interval)
    }
}

extension UInt64 {
    fileprivate func addingSaturated(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
