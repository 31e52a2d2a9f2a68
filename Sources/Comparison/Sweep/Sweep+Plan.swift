extension Sweep {
    /// The sweep as cells of a comparison.
    ///
    /// A cell's *workload* is what has to be the same for runs to agree: the workload, and whatever
    /// else the guest can notice and the sweep varies. Its *technique* is the rest of what varies.
    /// - Parameters:
    ///   - profile: prices where the sweep names no profile.
    ///   - plan: how a point becomes a command.
    public func plan(
        profile: Profile, plan: (Point) throws -> RunPlan
    ) throws -> ComparisonPlan {
        let varied = self.varied
        var profiles: [Profile] = []
        var named: [String: Profile] = [:]
        var cells: [Cell] = []
        var runs: [ComparisonPlan.Point] = []
        for point in points {
            var own = profile
            if let name = point[.profile]?.text {
                own = try named[name] ?? Profile.named(name)
                named[name] = own
            }
            if !profiles.contains(where: { $0.name == own.name }) { profiles.append(own) }
            func more(_ roles: Set<SweepParameter.Role>) -> String {
                point.values
                    .filter { entry in
                        varied.contains(entry.name)
                            && SweepParameter(rawValue: entry.name).map { roles.contains($0.role) }
                                ?? false
                    }
                    .map { "; \($0.name)=\($0.value.text)" }.joined()
            }
            let run = try plan(point)
            runs.append(
                ComparisonPlan.Point(
                    plan: run, workload: point.workload, technique: point.technique))
            var cell = Cell(
                workload: point.workload + more([.machine]),
                technique: point.technique + more([.run, .price]), identity: "", status: .missing)
            cell.point = Cell.Point(
                parameters: Dictionary(
                    point.values.map { ($0.name, $0.value.text) }, uniquingKeysWith: { $1 }),
                guest: run.guest + run.run, files: run.files, profile: own.name)
            cells.append(cell)
        }
        let first = runs[0].plan
        let common = runs.dropFirst().allSatisfy { $0.plan.guest == first.guest }
        var files: [ComparisonDocument.File] = []
        for file in runs.flatMap(\.plan.files) where !files.contains(file) { files.append(file) }
        var document = ComparisonDocument(
            program: first.version, build: first.build, guest: common ? first.guest : [],
            fromRegion: first.region, files: files, profile: profiles.first ?? profile,
            workloads: [], techniques: [], cells: [])
        if profiles.count > 1 { document.profiles = profiles }
        return ComparisonPlan(runs, cells: cells, document: document)
    }

    /// The parameters that not all points have, or not with the same value.
    private var varied: Set<String> {
        var values: [String: Set<String>] = [:]
        var counts: [String: Int] = [:]
        for entry in points.flatMap(\.values) {
            values[entry.name, default: []].insert(entry.value.text)
            counts[entry.name, default: 0] += 1
        }
        return Set(
            values.keys.filter { values[$0]?.count != 1 || counts[$0] != points.count })
    }
}
