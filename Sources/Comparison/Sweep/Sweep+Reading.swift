extension Sweep {
    /// Reads a sweep's file. What it has of values that this module can judge is checked: techniques,
    /// profiles, workloads.
    public static func read(_ path: String) throws(InputError) -> Sweep {
        try parse(InputNode.read(path, what))
    }

    /// Parses a sweep's text.
    /// - Parameter file: its name, for messages.
    public static func parse(_ text: String, file: String) throws(InputError) -> Sweep {
        try parse(InputNode.parse(text, file: file, what))
    }

    private static let what = "a sweep"

    /// The parameters of a block, each with its values.
    private typealias Axes = [(name: String, values: [Value])]

    private static func parse(_ root: InputNode) throws(InputError) -> Sweep {
        let members = try root.members(
            what, allowed: ["version", "name", "description", "from-region", "common", "points"])
        guard let version = members["version"] else {
            throw root.error("has no version; give 'version: \(formatVersion)'")
        }
        guard try version.count("version") == UInt64(formatVersion) else {
            throw version.error(
                "is a sweep of another version; this program reads version \(formatVersion)")
        }
        guard let name = members["name"] else {
            throw root.error("the sweep has no name; give 'name: …'")
        }
        guard let blocks = members["points"] else {
            throw root.error("the sweep has no points; give 'points: …', a list of blocks")
        }
        var common: Axes = []
        if let node = members["common"] {
            common = try axes(node, "common")
            for axis in common where axis.values.count != 1 {
                throw InputError(
                    file: node.file, line: axis.values[0].line,
                    "common has several values of \(axis.name); give one, or put it into a block")
            }
        }
        var sweep = Sweep(
            file: root.file, name: try name.text("name"),
            description: try members["description"].map { node throws(InputError) in
                try node.text("description")
            }, region: try region(members["from-region"]), points: [])
        for block in try blocks.elements("points") { try sweep.add(block, common: common) }
        guard !sweep.points.isEmpty else {
            throw blocks.error("the sweep has no points; give at least one block")
        }
        try sweep.check()
        return sweep
    }

    private static func region(_ node: InputNode?) throws(InputError) -> UInt16? {
        guard let node else { return nil }
        guard let region = UInt16(exactly: try node.count("from-region")), region > 0 else {
            throw node.error("from-region is no region; give 1 to 65535")
        }
        return region
    }

    /// The lists, or single values, of some parameters.
    private static func axes(_ node: InputNode, _ what: String) throws(InputError) -> Axes {
        var axes: Axes = []
        for (name, value) in try node.members(what) {
            guard SweepParameter.role(of: name) != nil else {
                throw value.error(
                    "there is no parameter '\(name)'; allowed are \(SweepParameter.names)")
            }
            var values: [Value] = []
            let isList = if case .sequence = value.node { true } else { false }
            var seen: Set<String> = []
            for element in try isList ? value.elements(name) : [value] {
                let text = try element.text(name)
                guard seen.insert(text).inserted || what == zipped else {
                    throw element.error("\(name) has the value '\(text)' twice; give it once")
                }
                guard !text.contains(where: \.isNewline) else {
                    throw element.error("\(name) has several lines; give one")
                }
                values.append(Value(text, line: element.node.mark?.line))
            }
            guard !values.isEmpty else {
                throw value.error("\(name) has no value; give at least one")
            }
            axes.append((name, values))
        }
        return axes
    }

    private static let zipped = "zipped"

    /// Adds the points of a block: each value of each axis with each value of every other, and with
    /// each line of the zipped ones.
    private mutating func add(_ block: InputNode, common: Axes) throws(InputError) {
        let members = try block.members("a block", allowed: ["axes", Self.zipped])
        let crossed =
            try members["axes"].map { node throws(InputError) in
                try Self.axes(node, "axes")
            } ?? []
        let zipped =
            try members[Self.zipped].map { node throws(InputError) in
                try Self.axes(node, Self.zipped)
            } ?? []
        let line = block.node.mark?.line
        var names: Set<String> = []
        for axis in common + crossed + zipped where !names.insert(axis.name).inserted {
            throw error(
                "\(axis.name) is given twice, in this block or in common; give it once", line: line)
        }
        let length = zipped.first?.values.count ?? 1
        for axis in zipped where axis.values.count != length {
            throw error(
                "zipped lists are of different lengths: \(zipped[0].name) has \(length) values, "
                    + "\(axis.name) has \(axis.values.count); give as many for each",
                line: axis.values[0].line)
        }
        // No product overflows: it is cut off once it is too large.
        let most = Self.mostPoints
        let count = crossed.reduce(min(length, most + 1)) { min($0 * $1.values.count, most + 1) }
        guard count + points.count <= most else {
            throw error(
                "the sweep has more than \(most) points; give fewer values, or several sweeps",
                line: line)
        }
        var rows = [common.map { (name: $0.name, value: $0.values[0]) }]
        for axis in crossed {
            rows = rows.flatMap { row in axis.values.map { row + [(name: axis.name, value: $0)] } }
        }
        points += rows.flatMap { row in
            (0..<length).map { index in
                Point(
                    values: row + zipped.map { (name: $0.name, value: $0.values[index]) },
                    line: line)
            }
        }
    }
}
