import ArgumentParser
import VirtualMachine

/// The value of `-smp`: `4` or `cpus=4`.
enum ProcessorCount {
    /// - Throws: a `ValidationError` for what is no number of processors, or too many of them.
    static func parse(_ text: String) throws -> Int {
        let digits = text.hasPrefix("cpus=") ? text.dropFirst(5) : text[...]
        guard let count = Int(digits), count > 0 else {
            throw ValidationError("'\(text)' is no number of processors")
        }
        let most = MachineConfiguration.mostProcessors
        guard count <= most else {
            throw ValidationError("\(count) virtual processors are too many: at most \(most)")
        }
        return count
    }
}

/// The value of `--quantum`: a number of instructions.
enum Quantum {
    /// - Throws: a `ValidationError` for anything but a number from 1 up.
    static func parse(_ text: String) throws -> UInt64 {
        guard let count = UInt64(text), count > 0 else {
            throw ValidationError("'\(text)' is no number of instructions from 1 up")
        }
        return count
    }
}
