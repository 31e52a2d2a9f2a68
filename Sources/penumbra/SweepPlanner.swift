import ArgumentParser
import Comparison
import VirtualMachine
import X86

/// Checks the parameters of a sweep as `penumbra run` would, and makes its plan.
struct SweepPlanner {
    private let sweep: Sweep
    private let build: String
    /// What has been worked out already.
    private var plans: [[String]: RunPlan] = [:]
    private var digests: [String: String] = [:]

    /// - Throws: `InputError`.
    init(_ sweep: Sweep) throws(InputError) {
        self.sweep = sweep
        build = try SHA256Digest.ofFile(ComparisonSession.program)
    }

    /// - Parameter profile: prices where the sweep names no profile.
    /// - Throws: `InputError` at the first thing that is wrong.
    func plan(profile: Profile) throws -> ComparisonPlan {
        try checkValues()
        var planner = self
        return try sweep.plan(profile: profile) { point in try planner.runPlan(point) }
    }

    /// Checks each value of each parameter by itself, so that errors have the value's line.
    private func checkValues() throws(InputError) {
        var seen: Set<[String]> = []
        for point in sweep.points {
            for (name, value) in point.values {
                guard let option = SweepParameter(rawValue: name)?.option,
                    seen.insert([name, value.text]).inserted
                else { continue }
                do {
                    let run = try RunCommand.parse([option, value.text])
                    if let model = run.processor { _ = try ProcessorModel(parsing: model) }
                } catch {
                    throw sweep.error("\(name): \(Self.words(error))", line: value.line)
                }
            }
        }
    }

    private mutating func runPlan(_ point: Sweep.Point) throws(InputError) -> RunPlan {
        let (machine, run) = (point.options(.machine), point.options(.run))
        let key = machine + ["/"] + run
        if let plan = plans[key] { return plan }
        let plan: RunPlan
        do { plan = try newPlan(machine, run) } catch {
            // A file that cannot be read stands for the value that names it.
            let file = (error as? InputError)?.file
            let value = point.values.first { $0.value.text == file }?.value
            throw sweep.error(Self.words(error), line: value?.line ?? point.line)
        }
        plans[key] = plan
        return plan
    }

    private mutating func newPlan(_ machine: [String], _ run: [String]) throws -> RunPlan {
        let options = try RunCommand.parse(machine + run)
        let saved = try options.saving.restore.map { path throws(SavedMachineError) in
            try SavedMachine(path: path)
        }
        var (guest, region) = (machine, sweep.region)
        if options.kernel == nil && options.append == nil && saved == nil {
            guest += ["--append", DefaultGuest.waitingCommandLine]
            region = region ?? DefaultGuest.waitingRegion
        }
        guard region == nil || saved == nil else {
            throw ValidationError("from-region and restore contradict each other; give one")
        }
        let configuration = try options.machineConfiguration(saved)
        var files: [ComparisonDocument.File] = []
        for file in ComparisonSession.files(configuration, options) {
            let digest = try digests[file.path] ?? SHA256Digest.ofFile(file.path)
            digests[file.path] = digest
            files.append(
                ComparisonDocument.File(role: file.role, path: file.path, sha256: digest))
        }
        return RunPlan(
            program: ComparisonSession.program, version: Penumbra.programVersion, build: build,
            guest: guest, run: run, region: region, files: files)
    }

    /// An error of the command line without the name of the option: the file has another.
    private static func words(_ error: any Error) -> String {
        RunCommand.message(for: error)
            .split(whereSeparator: \.isNewline).joined(separator: " ")
    }
}
