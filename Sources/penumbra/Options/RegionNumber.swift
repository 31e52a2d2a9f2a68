import ArgumentParser

/// The value of `--stop-at-region`: the number of a region.
enum RegionNumber {
    /// - Throws: a `ValidationError` for anything but 1 to 65535.
    static func parse(_ text: String) throws -> UInt16 {
        guard let number = UInt16(text), number > 0 else {
            throw ValidationError("'\(text)' is no region: 1 to 65535")
        }
        return number
    }
}
