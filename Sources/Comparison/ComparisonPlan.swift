/// All that is to run, and the document that it will fill: of a comparison, or of a sweep.
public struct ComparisonPlan: Sendable {
    /// What a cell of the document is the result of.
    public struct Point: Sendable {
        /// How it becomes a command.
        public var plan: RunPlan
        /// The guest's console input; a cell may say more.
        public var workload: String
        /// The technique with its parameters; a cell may say more.
        public var technique: String

        var identity: String { plan.identity(workload: workload, technique: technique) }

        public init(plan: RunPlan, workload: String, technique: String) {
            self.plan = plan
            self.workload = workload
            self.technique = technique
        }
    }

    /// As many as the document has cells, in their order.
    let points: [Point]
    public let document: ComparisonDocument

    /// Every workload under every technique, on one guest.
    /// - Throws: `ComparisonError.empty`.
    public init(
        _ plan: RunPlan, workloads: [String], techniques: [String], profile: Profile
    ) throws(ComparisonError) {
        guard !workloads.isEmpty else { throw .empty("workload") }
        guard !techniques.isEmpty else { throw .empty("technique") }
        points = workloads.flatMap { workload in
            techniques.map { Point(plan: plan, workload: workload, technique: $0) }
        }
        document = ComparisonDocument(
            program: plan.version, build: plan.build, guest: plan.guest,
            fromRegion: plan.region, files: plan.files, profile: profile, workloads: workloads,
            techniques: techniques,
            cells: points.map {
                Cell(
                    workload: $0.workload, technique: $0.technique, identity: $0.identity,
                    status: .missing)
            })
    }

    /// - Parameters:
    ///   - points: what is to run; two may be the same run, with two prices.
    ///   - cells: a cell a point, without its identity.
    ///   - document: without cells, workloads and techniques.
    init(_ points: [Point], cells: [Cell], document: ComparisonDocument) {
        // Workload by workload, whatever order the points came in.
        var workloads: [String] = []
        var techniques: [String] = []
        var byWorkload: [String: [Int]] = [:]
        var known: Set<String> = []
        for (index, cell) in cells.enumerated() {
            if byWorkload[cell.workload] == nil { workloads.append(cell.workload) }
            byWorkload[cell.workload, default: []].append(index)
            if known.insert(cell.technique).inserted { techniques.append(cell.technique) }
        }
        let order = workloads.flatMap { byWorkload[$0] ?? [] }
        self.points = order.map { points[$0] }
        var document = document
        document.workloads = workloads
        document.techniques = techniques
        document.cells = order.map { index in
            var cell = cells[index]
            cell.identity = points[index].identity
            return cell
        }
        self.document = document
    }
}
