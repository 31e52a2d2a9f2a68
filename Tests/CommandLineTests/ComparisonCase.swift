import Foundation
import Testing

/// A comparison or a sweep in a folder of its own, which keeps what is done in `out`.
protocol ComparisonCase {
    var folder: Scratch { get }
    var arguments: [String] { get }
}

extension ComparisonCase {
    func run(_ more: String...) throws -> Program.Result {
        try Program.runTool(arguments + more)
    }

    /// When each run that ended was noted, by its folder.
    func ended() throws -> [String: Date] {
        let cells = folder.url.appending(path: "out/cells")
        var result: [String: Date] = [:]
        guard FileManager.default.fileExists(atPath: cells.path) else { return result }
        for name in try FileManager.default.contentsOfDirectory(atPath: cells.path) {
            let path = cells.appending(path: name + "/run.json").path
            guard let facts = try? FileManager.default.attributesOfItem(atPath: path)
            else { continue }
            result[name] = facts[.modificationDate] as? Date
        }
        return result
    }

    /// Starts it without waiting for it.
    func start() throws -> pid_t {
        let null = try Program.openFile("/dev/null", O_RDWR)
        let errors = try Program.openFile(folder.file("err"), O_RDWR)
        defer {
            close(null)
            close(errors)
        }
        return try Program.start(arguments, input: null, output: null, errors: errors)
    }

    /// Waits until so many runs are noted; a minute at most.
    func wait(forEnded count: Int) throws {
        for _ in 0..<6000 {
            if let ended = try? ended(), ended.count >= count { return }
            usleep(10_000)
        }
        Issue.record("\(count) runs did not end in a minute")
    }

    /// Starts it, and waits until so many runs are noted.
    func start(forEnded count: Int) throws -> pid_t {
        let process = try start()
        try wait(forEnded: count)
        return process
    }
}
