/// When a table becomes nested under `agile`, and when it returns to the shadow.
public struct NestingParameters: Equatable, Sendable, CustomStringConvertible {
    /// How many writes to a table exit within one epoch until it is nested; 1…65,536.
    public private(set) var writes: UInt64
    /// How many loads of a root (MOV to CR3), on all processors, make an epoch; 1…1,000,000. A
    /// nested table that is not written for one returns.
    public private(set) var quiet: UInt64

    /// The parameters used where none are given.
    public static let standard = NestingParameters()

    private init() {
        writes = 2
        quiet = 64
    }

    /// Checks and takes the parameters.
    public init(writes: UInt64 = standard.writes, quiet: UInt64 = standard.quiet)
        throws(TechniqueError)
    {
        guard (1...65_536).contains(writes) else {
            throw .badValue(
                parameter: "writes", value: String(writes),
                expected: "a count of writes from 1 to 65536")
        }
        guard (1...1_000_000).contains(quiet) else {
            throw .badValue(
                parameter: "quiet", value: String(quiet),
                expected: "a count of root loads from 1 to 1000000")
        }
        self.writes = writes
        self.quiet = quiet
    }

    static let names = ["writes", "quiet"]

    init(parsing text: ParameterText) throws(TechniqueError) {
        try self.init(
            writes: text.number("writes") ?? Self.standard.writes,
            quiet: text.number("quiet") ?? Self.standard.quiet)
    }

    public var description: String { "writes=\(writes),quiet=\(quiet)" }
}
