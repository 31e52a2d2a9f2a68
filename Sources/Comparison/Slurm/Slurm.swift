import Foundation
import Glibc

/// Slurm's own commands, as far as a sweep needs them: sbatch, squeue, scancel.
///
/// Partition, account, time limit and the like are Slurm's affair: it takes them from its SBATCH_
/// variables.
public struct Slurm: Sendable {
    private let sbatch: String
    private let squeue: String
    private let scancel: String

    /// - Throws: `ComparisonError.noSlurm` where a command is missing.
    public init() throws(ComparisonError) {
        sbatch = try Self.find("sbatch")
        squeue = try Self.find("squeue")
        scancel = try Self.find("scancel")
    }

    private static func find(_ name: String) throws(ComparisonError) -> String {
        let path = unsafe getenv("PATH").map { unsafe String(cString: $0) } ?? "/usr/bin:/bin"
        for folder in path.split(separator: ":") {
            let file = "\(folder)/\(name)"
            if unsafe access(file, X_OK) == 0 { return file }
        }
        throw .noSlurm(name)
    }

    /// Submits a script as an array of `count` tasks, numbered from 0.
    /// - Parameter most: how many may run at a time; nil: as Slurm likes.
    /// - Returns: the array's job number.
    func submit(
        _ script: String, count: Int, most: Int?, name: String, words: String
    ) throws(ComparisonError) -> String {
        let limit = most.map { "%\($0)" } ?? ""
        let answer = try ask(
            [
                sbatch, "--parsable", "--array=0-\(count - 1)\(limit)", "--job-name=\(name)",
                "--no-requeue", "--input=/dev/null", "--output=\(words)/output-%a.txt", script,
            ], notes: words)
        guard answer.ending == .exited(0),
            // `JOB`, or `JOB;CLUSTER`.
            let job = answer.output.split(whereSeparator: { $0 == ";" || $0.isNewline }).first,
            UInt64(job) != nil
        else { throw .slurm("sbatch", answer.problem) }
        return String(job)
    }

    /// The tasks of an array that Slurm still has to run or runs; nil where it cannot tell now.
    func active(_ job: String, notes: String) throws(ComparisonError) -> [Int: String]? {
        let answer = try ask(
            [squeue, "--noheader", "--array", "--jobs=\(job)", "--format=%K %T"], notes: notes)
        guard answer.ending == .exited(0) else {
            // Slurm forgets jobs some minutes after their end.
            return answer.errors.contains("Invalid job id") ? [:] : nil
        }
        var tasks: [Int: String] = [:]
        for line in answer.output.split(whereSeparator: \.isNewline) {
            let words = line.split(separator: " ")
            guard words.count == 2, let task = Int(words[0]) else { continue }
            tasks[task] = String(words[1])
        }
        return tasks
    }

    /// Asks for the end of all tasks of an array.
    func cancel(_ job: String, notes: String) throws(ComparisonError) {
        _ = try ask([scancel, "--quiet", job], notes: notes)
    }

    private struct Answer {
        var ending: ChildProcess.Ending
        var output: String
        var errors: String

        /// The last thing that was said, on one line.
        var problem: String {
            errors.split(whereSeparator: \.isNewline).last.map(String.init) ?? "\(ending)"
        }
    }

    /// Runs a command to its end; what it says is kept beside the notes.
    private func ask(_ arguments: [String], notes: String) throws(ComparisonError) -> Answer {
        let (output, errors) = ("\(notes)/answer.txt", "\(notes)/answer-errors.txt")
        var process = try ChildProcess(
            arguments, input: "/dev/null", output: output, errors: errors)
        func text(_ path: String) -> String {
            (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        }
        while true {
            if let ending = process.poll() {
                return Answer(ending: ending, output: text(output), errors: text(errors))
            }
            usleep(5000)
        }
    }
}
