import ArgumentParser

/// QEMU options whose only values here are those that change nothing: they are taken so that
/// command lines written for QEMU work, and any other value is refused.
enum HarmlessOption {
    /// - Returns: a transform for an option that takes only the given values.
    static func only(_ values: String...) -> @Sendable (String) throws -> String {
        { text in
            guard values.contains(text) else {
                throw ValidationError("only \(values.joined(separator: " and ")) can be had")
            }
            return text
        }
    }

    /// A machine type: `pc` or `q35`, whose chips ours are like, and `accel=tcg`.
    @Sendable
    static func machine(_ text: String) throws -> String {
        for part in text.split(separator: ",") where !["pc", "q35", "accel=tcg"].contains(part) {
            throw ValidationError("only pc, q35 and accel=tcg can be had, not '\(part)'")
        }
        return text
    }
}
