import Foundation

extension Profile {
    /// A profile that comes with the program, by its name, or one of the user's, by its file: what
    /// has a `/` or ends in `.yaml` is a file.
    public static func named(_ nameOrFile: String) throws(InputError) -> Profile {
        if let profile = builtIn.first(where: { $0.name == nameOrFile }) {
            return try parse(
                String(decoding: profile.bytes, as: UTF8.self), file: "\(profile.name).yaml")
        }
        guard nameOrFile.contains("/") || nameOrFile.hasSuffix(".yaml") else {
            throw InputError(
                file: nameOrFile, line: nil,
                "is no profile; give \(names.joined(separator: ", ")) or a file (NAME.yaml)")
        }
        return try read(nameOrFile)
    }

    /// Reads a profile's file.
    public static func read(_ path: String) throws(InputError) -> Profile {
        let data: Data
        do { data = try Data(contentsOf: URL(filePath: path)) } catch {
            throw .unreadable(path, error)
        }
        return try parse(String(decoding: data, as: UTF8.self), file: path)
    }

    /// Parses a profile's text.
    /// - Parameter file: its name, for messages.
    public static func parse(_ text: String, file: String) throws(InputError) -> Profile {
        let root = try InputNode.parse(text, file: file, "a profile")
        let members = try root.members(
            "a profile",
            allowed: ["version", "name", "description", "gigahertz", "figures"])
        guard let version = members["version"] else {
            throw root.error("has no version; give 'version: \(formatVersion)'")
        }
        guard try version.count("version") == UInt64(formatVersion) else {
            throw version.error(
                "is a profile of another version; this program reads version \(formatVersion)")
        }
        func member(_ key: String) throws(InputError) -> InputNode {
            guard let node = members[key] else {
                throw root.error("the profile has no \(key); give '\(key): …'")
            }
            return node
        }
        let gigahertz = try member("gigahertz").number("gigahertz", 0.1...10)
        return Profile(
            name: try member("name").text("name"),
            description: try member("description").text("description"),
            gigahertz: gigahertz,
            figures: try figures(member("figures"), gigahertz: gigahertz),
            digest: SHA256Digest.of(text))
    }

    private static func figures(
        _ node: InputNode, gigahertz: Double
    ) throws(InputError) -> [String: Entry] {
        let names = Figure.allCases.map(\.rawValue)
        let members = try node.members("figures", allowed: names)
        var entries: [String: Entry] = [:]
        for figure in Figure.allCases {
            guard let member = members[figure.rawValue] else {
                throw node.error(
                    "the profile misses the figure '\(figure.rawValue)'; give each of "
                        + names.joined(separator: ", "))
            }
            entries[figure.rawValue] = try entry(figure, member, gigahertz: gigahertz)
        }
        return entries
    }

    private static func entry(
        _ figure: Figure, _ node: InputNode, gigahertz: Double
    ) throws(InputError) -> Entry {
        let isWalk = figure == .walkReference
        let values = isWalk ? ["caches"] : ["value", "unit"]
        let members = try node.members(
            figure.rawValue, allowed: values + ["source", "state", "derivation"])
        func member(_ key: String) throws(InputError) -> InputNode {
            guard let node = members[key] else {
                throw InputError(
                    file: node.file, line: node.node.mark?.line,
                    "\(figure.rawValue) has no \(key); give '\(key): …'")
            }
            return node
        }
        let state = try state(member("state"))
        var entry = Entry(
            cycles: 0, given: "", source: try member("source").text("source"), state: state)
        if let derivation = members["derivation"] {
            entry.derivation = try derivation.text("derivation")
        }
        guard state != .derived || entry.derivation != nil else {
            throw try member("state").error(
                "\(figure.rawValue) is derived, and does not say how; give 'derivation: …'")
        }
        if isWalk {
            let caches = try caches(member("caches"))
            entry.caches = caches
            entry.cycles = caches.reduce(0) { $0 + $1.share * $1.cycles }
            entry.given = caches.map { "\($0.share) × \($0.cycles) (\($0.level))" }
                .joined(separator: " + ")
            return entry
        }
        let unit = try unit(member("unit"))
        let perUnit = unit == "cycles" ? 1 : gigahertz
        let value = try member("value").number(figure.rawValue, 0...figure.most / perUnit)
        entry.cycles = value * perUnit
        entry.given = "\(value) \(unit)"
        return entry
    }

    private static func state(_ node: InputNode) throws(InputError) -> State {
        let text = try node.text("state")
        guard let state = State(rawValue: text) else {
            let names = State.allCases.map(\.rawValue).joined(separator: ", ")
            throw node.error("state cannot be '\(text)'; give one of \(names)")
        }
        return state
    }

    private static func unit(_ node: InputNode) throws(InputError) -> String {
        let text = try node.text("unit")
        guard ["cycles", "nanoseconds"].contains(text) else {
            throw node.error("unit cannot be '\(text)'; give cycles or nanoseconds")
        }
        return text
    }

    private static func caches(_ node: InputNode) throws(InputError) -> [CacheLevel] {
        var levels: [CacheLevel] = []
        for element in try node.elements("caches") {
            let members = try element.members(
                "a cache level", allowed: ["level", "share", "cycles"])
            guard let level = members["level"], let share = members["share"],
                let cycles = members["cycles"]
            else { throw element.error("a cache level misses a part; give level, share, cycles") }
            levels.append(
                CacheLevel(
                    level: try level.text("level"), share: try share.number("share", 0...1),
                    cycles: try cycles.number("cycles", 0...Figure.walkReference.most)))
        }
        let sum = levels.reduce(0) { $0 + $1.share }
        guard abs(sum - 1) <= 0.001 else {
            throw node.error("the shares sum up to \(sum); they must sum up to 1")
        }
        return levels
    }
}
