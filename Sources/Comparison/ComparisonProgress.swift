import Reporting

/// How far a comparison is: a line for a terminal.
public struct ComparisonProgress: Sendable {
    /// A cell that runs.
    public struct Running: Sendable, Equatable {
        public var name: String
        public var workload: String
        /// Instructions so far.
        public var retired: UInt64
    }

    public let cells: Int
    /// Cells that are done or have failed.
    public private(set) var done = 0
    public var running: [Running] = []
    /// What a run of each workload takes, in instructions: the same under every technique.
    private var lengths: [String: UInt64] = [:]

    init(cells: Int) { self.cells = cells }

    mutating func finished(_ cell: Cell) {
        done += 1
        guard let text = cell.facts?["retired"], let retired = UInt64(text) else { return }
        lengths[cell.workload] = retired
    }

    /// The instructions that are left, as far as the runs that are done tell: the others are taken
    /// to be as long as these are on average. nil while nothing is known.
    package var instructionsLeft: Double? {
        guard !lengths.isEmpty else { return nil }
        let mean = lengths.values.reduce(0) { $0 + Double($1) } / Double(lengths.count)
        let waiting = Double(max(0, cells - done - running.count)) * mean
        return running.reduce(waiting) { sum, run in
            let length = lengths[run.workload].map(Double.init) ?? mean
            return sum + max(0, length - Double(run.retired))
        }
    }

    /// What runs, at which speed, and how long it will take.
    /// - Parameter speed: the instructions a second of all that run; nil: not known yet.
    public func line(speed: Double?, columns: Int = 100) -> String {
        var parts = ["\(done) of \(cells) done"]
        if let speed {
            parts.append("\(Int(min(speed / 1e6, 1e9))) million instructions/s")
            if let left = instructionsLeft, speed > 0 {
                parts.append("\(Self.duration(left / speed)) left")
            }
        }
        let state = parts.joined(separator: ", ")
        let names = running.map(\.name).joined(separator: "; ")
        return (names.isEmpty ? state : "\(state): \(names)").shortened(to: columns)
    }

    private static func duration(_ seconds: Double) -> String {
        let whole = Int(min(max(seconds, 0), 1e7).rounded(.up))
        if whole < 90 { return "\(whole) s" }
        if whole < 5400 { return "\((whole + 30) / 60) min" }
        return "\((whole + 1800) / 3600) h"
    }
}
