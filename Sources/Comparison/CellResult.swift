import Foundation
import Glibc

/// What became of a cell whose process has ended.
enum CellResult {
    /// The cell with what its files tell. It is done where the guest ended itself: by powering off,
    /// or by the debug-exit device; and did not say that it had failed.
    static func read(
        _ cell: Cell, ending: ChildProcess.Ending, folder: String, seconds: Double
    ) -> Cell {
        var cell = cell
        cell.seconds = seconds
        func failed(_ problem: String) -> Cell {
            cell.status = .failed
            cell.problem = problem
            return cell
        }
        if case .signaled(let signal) = ending {
            return failed("the process was ended by signal \(signal)\(name(of: signal))")
        }
        let lastWords = lastLine(folder + "/errors.txt")
        let ledger: LedgerDocument
        do { ledger = try LedgerDocument.read(folder + "/ledger.json") } catch {
            guard case .exited(let status) = ending, status != 0 else { return failed("\(error)") }
            return failed(lastWords ?? "exit status \(status), without a word")
        }
        cell.take(ledger)
        let outcome = cell.outcome ?? "no outcome"
        guard outcome == "powered off" || outcome.hasPrefix("debug exit ") else {
            return failed("\(outcome): \(lastWords ?? "without a word")")
        }
        if let line = complaint(folder + "/console.txt") { return failed(line) }
        cell.status = .done
        cell.problem = nil
        return cell
    }

    /// The word by which the guest's scripts say that they failed.
    private static let failureWord = "GUEST-FAILED"

    /// The guest's own word that something is wrong.
    private static func complaint(_ path: String) -> String? {
        guard let data = try? Data(contentsOf: URL(filePath: path), options: .alwaysMapped),
            let range = data.range(of: Data(failureWord.utf8))
        else { return nil }
        let line = data[range.lowerBound...].prefix(200).prefix { $0 >= 0x20 }
        return String(decoding: line, as: UTF8.self)
    }

    /// The last line of a run's standard error.
    static func lastLine(_ path: String) -> String? {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8),
            let line = text.split(whereSeparator: \.isNewline).last
        else { return nil }
        let prefix = "penumbra: "
        return String((line.hasPrefix(prefix) ? line.dropFirst(prefix.count) : line).prefix(300))
    }

    private static func name(of signal: Int32) -> String {
        guard let text = unsafe strsignal(signal) else { return "" }
        return unsafe " (\(String(cString: text)))"
    }
}
