import Processor

/// The parameters of the traced-write facility and of the hypervisor that uses it, all with a
/// value: what was not given has its default.
public struct TraceParameters: Equatable, Sendable, CustomStringConvertible {
    /// Which tables are traced; the others are protected as under `trap`.
    public enum Levels: String, CaseIterable, Sendable {
        case all
        /// Those that are used at the lowest level alone.
        case leaf
    }

    /// How the processor is told which pages are traced.
    public var indication = TraceIndication.entry
    /// What it notes of a write.
    public private(set) var record = TraceFormat.address
    /// The size in bytes of each processor's guest write buffer: a power of two, 4 KiB…2 MiB; 512
    /// records unless given.
    public private(set) var capacity: UInt64 = 4096
    /// How many records in the buffer cause an exit; 0: none do. Three quarters unless given.
    public private(set) var threshold: UInt64 = 384
    /// A record equal to one of the last `coalesce` ones is not repeated; 0…8. Always 0 but for
    /// address records.
    public private(set) var coalesce = 1
    /// Whether operations that end staleness exit only where a record is pending.
    public var elide = false
    /// Whether a drain installs the entries that it finds, instead of leaving them to faults.
    public var refill = false
    /// Which tables are traced.
    public var levels = Levels.all
    /// When a page that is no table any more stops being traced.
    public var stop = StopRule.standard

    /// The parameters used where none are given.
    public static let standard = TraceParameters()

    private init() {}

    /// Checks the parameters that depend on each other; nil: the default.
    public init(
        record: TraceFormat = .address, capacity: UInt64? = nil, threshold: UInt64? = nil,
        coalesce: UInt64? = nil
    ) throws(TechniqueError) {
        self.record = record
        self.capacity = capacity ?? 512 * record.recordBytes
        guard self.capacity >= 4096, self.capacity <= 2 << 20, self.capacity.nonzeroBitCount == 1
        else {
            throw .badValue(
                parameter: "capacity", value: String(self.capacity),
                expected: "a power of two from 4096 to 2097152")
        }
        let records = self.capacity / record.recordBytes
        self.threshold = threshold ?? records / 4 * 3
        guard self.threshold <= records else {
            throw .badValue(
                parameter: "threshold", value: String(self.threshold),
                expected: "a count of records from 0 to \(records), which is what "
                    + "capacity=\(self.capacity) holds with record=\(record.rawValue)")
        }
        if let coalesce {
            guard record == .address else {
                throw .contradiction("coalesce", "record=\(record.rawValue)")
            }
            guard coalesce <= 8 else {
                throw .badValue(
                    parameter: "coalesce", value: String(coalesce), expected: "a number from 0 to 8"
                )
            }
        }
        self.coalesce = record == .address ? Int(clamping: coalesce ?? 1) : 0
    }

    static let names = [
        "indication", "record", "capacity", "threshold", "coalesce", "elide", "refill", "levels",
        "stop",
    ]

    init(parsing text: ParameterText) throws(TechniqueError) {
        try self.init(
            record: text.choice("record", of: TraceFormat.self) ?? .address,
            capacity: text.number("capacity"), threshold: text.number("threshold"),
            coalesce: text.number("coalesce"))
        indication = try text.choice("indication", of: TraceIndication.self) ?? indication
        elide = try text.flag("elide") ?? elide
        refill = try text.flag("refill") ?? refill
        levels = try text.choice("levels", of: Levels.self) ?? levels
        stop = try text.stop("stop") ?? stop
    }

    public var description: String {
        "indication=\(indication.rawValue),record=\(record.rawValue),capacity=\(capacity)"
            + ",threshold=\(threshold)" + (record == .address ? ",coalesce=\(coalesce)" : "")
            + ",elide=\(ParameterText.text(elide)),refill=\(ParameterText.text(refill))"
            + ",levels=\(levels.rawValue),stop=\(stop)"
    }
}

/// The parameters of `trap`.
public struct TrapParameters: Equatable, Sendable, CustomStringConvertible {
    /// Whether the exit of a write installs the entry that was written, instead of leaving it to a
    /// fault.
    public var refill = false
    /// When a page that is no table any more stops being protected.
    public var stop = StopRule.standard

    /// The parameters used where none are given.
    public static let standard = TrapParameters()

    public init(refill: Bool = false, stop: StopRule = .standard) {
        self.refill = refill
        self.stop = stop
    }

    static let names = ["refill", "stop"]

    init(parsing text: ParameterText) throws(TechniqueError) {
        refill = try text.flag("refill") ?? refill
        stop = try text.stop("stop") ?? stop
    }

    public var description: String { "refill=\(ParameterText.text(refill)),stop=\(stop)" }
}
