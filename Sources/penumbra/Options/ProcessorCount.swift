import ArgumentParser

/// The value of `-smp`: `1` or `cpus=1`.
enum ProcessorCount {
    /// - Throws: a `ValidationError` for anything but one processor.
    static func parse(_ text: String) throws -> Int {
        let digits = text.hasPrefix("cpus=") ? text.dropFirst(5) : text[...]
        guard let count = Int(digits), count > 0 else {
            throw ValidationError("'\(text)' is no number of processors")
        }
        guard count == 1 else {
            throw ValidationError(
                "\(count) virtual processors are not there yet: only -smp 1 is")
        }
        return count
    }
}
