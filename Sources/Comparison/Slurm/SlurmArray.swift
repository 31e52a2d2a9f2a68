import Foundation

/// The runs of a sweep as the tasks of one of Slurm's job arrays.
///
/// ```
/// FOLDER/slurm/array-N/
///     tasks.json       what each task is to run
///     task.sh          the script that Slurm runs for each
///     output-I.txt     what Slurm and task I said, if anything
///     job              the array's job number, as long as anything may still run
/// ```
struct SlurmArray: Codable {
    /// One task.
    struct Task: Codable {
        var identity: String
        var workload: String
        var technique: String
        /// The command.
        var arguments: [String]
    }

    /// SHA-256 of the program that made this; tasks are to be of the same.
    var build: String
    /// The folder of results.
    var folder: String
    var tasks: [Task]

    /// Writes what Slurm needs into a folder.
    /// - Returns: the script.
    func write(to path: String, program: String) throws -> String {
        try WholeFile.write(Data.json(self), to: path + "/tasks.json")
        let script = path + "/task.sh"
        try WholeFile.write(
            "#!/bin/sh\nexec \(Self.quoted(program)) slurm-task \(Self.quoted(path + "/tasks.json"))"
                + " \"$SLURM_ARRAY_TASK_ID\"\n", to: script)
        return script
    }

    /// A word as a shell reads it literally.
    private static func quoted(_ word: String) -> String {
        "'" + word.replacing("'", with: "'\\''") + "'"
    }
}

/// One task of a job array, in the process that Slurm starts for it.
public enum SlurmTask {
    /// Runs it, and notes its result where the sweep looks for it.
    /// - Returns: the signal that ended it before it was done.
    public static func run(_ path: String, index: Int) throws -> Int32? {
        let data: Data
        do { data = try Data(contentsOf: URL(filePath: path)) } catch {
            throw InputError.unreadable(path, error)
        }
        guard let array = try? JSONDecoder().decode(SlurmArray.self, from: data),
            array.tasks.indices.contains(index)
        else {
            throw InputError(file: path, line: nil, "has no task \(index); it is made by a sweep")
        }
        let task = array.tasks[index]
        let folder = ResultFolder(heldElsewhere: array.folder)
        var run = ResultFolder.Run(
            identity: task.identity, workload: task.workload, technique: task.technique,
            status: .failed, problem: nil, seconds: 0)
        guard try SHA256Digest.ofFile("/proc/self/exe") == array.build else {
            run.problem = "the program's file has been replaced since the sweep began"
            try folder.keep(run)
            return nil
        }
        let files = folder.folder(task.identity)
        let start = ComparisonRun.now
        var process = try ChildProcess(
            task.arguments, input: files + "/workload.txt", output: files + "/console.txt",
            errors: files + "/errors.txt")
        while true {
            if let ending = process.poll() {
                let cell = CellResult.read(
                    Cell(
                        workload: task.workload, technique: task.technique,
                        identity: task.identity, status: .missing),
                    ending: ending, folder: files, seconds: ComparisonRun.now - start)
                if let signal = Interruption.number, cell.status == .failed { return signal }
                (run.status, run.problem) = (cell.status, cell.problem)
                run.seconds = cell.seconds ?? 0
                try folder.keep(run)
                return nil
            }
            if Interruption.number != nil { process.end() }
            usleep(20_000)
        }
    }
}
