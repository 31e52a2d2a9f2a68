import Hypervisor

extension Sweep {
    /// Checks what can be without a guest.
    func check() throws(InputError) {
        var seen: [String: Point] = [:]
        var profiles: Set<String> = []
        for point in points {
            try checkWorkload(point)
            let technique = try checkTechnique(point)
            if let profile = point[.profile], profiles.insert(profile.text).inserted {
                do { _ = try Profile.named(profile.text) } catch {
                    throw self.error("profile \(error)", line: profile.line)
                }
            }
            // Two texts may mean the same technique.
            let others = point.values.filter { SweepParameter.role(of: $0.name) != .technique }
                .map { "\($0.name)=\($0.value.text)" }.sorted()
            let key = ([technique] + others).joined(separator: "\n")
            if let other = seen.updateValue(point, forKey: key) {
                throw error(
                    "the point '\(point.workload)', \(point.technique) is the same as one of the "
                        + "block at line \(other.line ?? 0); give each point once",
                    line: point.line)
            }
        }
    }

    private func checkWorkload(_ point: Point) throws(InputError) {
        guard let workload = point[.workload] else {
            throw error("the block has no workload; give 'workload: …'", line: point.line)
        }
        let hasPlace = workload.text.contains(Self.sizePlaceholder)
        if let size = point[.size] {
            guard hasPlace else {
                throw error(
                    "the workload '\(workload.text)' has no place for a size; give "
                        + "'\(workload.text) \(Self.sizePlaceholder)'", line: workload.line)
            }
            guard let number = UInt64(size.text), number > 0 else {
                throw error(
                    "size cannot be '\(size.text)'; give a whole number from 1", line: size.line)
            }
        } else if hasPlace {
            throw error(
                "the workload '\(workload.text)' misses its size; give 'size: …'",
                line: workload.line)
        }
    }

    /// - Returns: the technique with all its parameters.
    private func checkTechnique(_ point: Point) throws(InputError) -> String {
        guard let base = point[.technique] else {
            throw error("the block has no technique; give 'technique: …'", line: point.line)
        }
        do { return try Technique(parsing: point.technique).description } catch {
            throw self.error("technique: \(error)", line: culprit(point, base))
        }
    }

    /// The line of the value that is wrong by itself; where there is none, that of the block.
    private func culprit(_ point: Point, _ base: Value) -> Int? {
        guard (try? Technique(parsing: base.text)) != nil else { return base.line }
        for entry in point.values where entry.name.hasPrefix(SweepParameter.techniquePrefix) {
            let alone = Point(values: [(name: "technique", value: base), entry])
            if (try? Technique(parsing: alone.technique)) == nil { return entry.value.line }
        }
        return point.line
    }
}
