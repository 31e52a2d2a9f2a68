import Foundation
import Glibc

/// The folder that keeps what has been measured, so that the same comparison goes on later.
///
/// ```
/// FOLDER/cells/IDENTITY/   a folder a cell, named by the first 32 digits of its identity
///     workload.txt         the guest's console input
///     console.txt          what it printed
///     errors.txt           what `penumbra run` said on standard error
///     ledger.json          its ledger
///     run.json             the run's identity, time and status: written last, whole or not at all
/// FOLDER/machines/         saved machines, named by the identity of what they were made from, with
///                          console and errors of the run that saved them
/// FOLDER/slurm/array-N/    what Slurm was given, and what its tasks said (`SlurmArray`)
/// ```
/// A cell is done where `run.json` says so; everything else can be run again.
struct ResultFolder {
    /// The part of a cell that its ledger does not have.
    struct Run: Codable, Equatable {
        var identity: String
        var workload: String
        var technique: String
        var status: Cell.Status
        var problem: String?
        var seconds: Double
    }

    let path: String
    /// Held locked, so that two comparisons do not write over each other.
    private let lock: Int32

    /// - Throws: `ComparisonError.cannotWrite` or `busy`.
    init(_ path: String) throws(ComparisonError) {
        self.path = path
        do {
            try FileManager.default.createDirectory(
                atPath: path + "/cells", withIntermediateDirectories: true)
            try FileManager.default.createDirectory(
                atPath: path + "/machines", withIntermediateDirectories: true)
        } catch { throw .writing(path, error) }
        lock = unsafe open(path + "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard lock >= 0 else {
            throw .cannotWrite(path: path + "/lock", reason: ComparisonError.words(errno))
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else { throw .busy(path) }
    }

    /// The folder as a task of another process that holds it sees it.
    init(heldElsewhere path: String) {
        self.path = path
        lock = -1
    }

    /// The folder of a cell.
    func folder(_ identity: String) -> String { "\(path)/cells/\(identity.prefix(32))" }

    /// The file of a saved machine.
    func machine(_ identity: String) -> String { "\(path)/machines/\(identity.prefix(32)).pnb" }

    /// Makes the folder of a cell, with its console input, and without what an earlier try left.
    func prepare(_ identity: String, input: String) throws(ComparisonError) {
        let folder = folder(identity)
        do {
            try? FileManager.default.removeItem(atPath: folder)
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true)
        } catch { throw .writing(folder, error) }
        try WholeFile.write(input, to: folder + "/workload.txt")
    }

    /// Notes how a run ended.
    func keep(_ run: Run) throws(ComparisonError) {
        let path = folder(run.identity) + "/run.json"
        let text: String
        do { text = try Data.json(run) } catch { throw .writing(path, error) }
        try WholeFile.write(text, to: path)
    }

    /// A cell whose run ended before, done or failed; nil where none did, or where its files are not
    /// whole.
    func ended(_ cell: Cell) -> Cell? {
        let folder = folder(cell.identity)
        guard let data = try? Data(contentsOf: URL(filePath: folder + "/run.json")),
            let run = try? JSONDecoder().decode(Run.self, from: data),
            run.identity == cell.identity
        else { return nil }
        let ledger = try? LedgerDocument.read(folder + "/ledger.json")
        var cell = cell
        cell.status = run.status
        cell.problem = run.problem
        cell.seconds = run.seconds
        switch run.status {
        case .missing: return nil
        case .done: if ledger == nil { return nil }
        case .failed: break
        }
        if let ledger { cell.take(ledger) }
        return cell
    }
}
