import Comparison
import Foundation
import Testing

@Suite struct SweepTests {
    private func sweep(_ text: String) throws -> Sweep {
        try Sweep.parse("version: 1\nname: s\n" + text, file: "s.yaml")
    }

    /// The points as `workload|technique`.
    private func names(_ sweep: Sweep) -> [String] {
        sweep.points.map { "\($0.workload)|\($0.technique)" }
    }

    @Test func `axes combine each value with each`() throws {
        let sweep = try sweep(
            """
            points:
              - axes:
                  workload: ["fork {size}", "map {size}"]
                  size: [10, 20]
                  technique: traced
                  technique.record: [address, value, mask]
                  technique.elide: [on, off]
            """)
        #expect(sweep.points.count == 2 * 2 * 3 * 2)
        #expect(Set(names(sweep)).count == 24)
        #expect(names(sweep).first == "fork 10|traced,record=address,elide=on")
        #expect(names(sweep).last == "map 20|traced,record=mask,elide=off")
    }

    @Test func `zipped lists go together, and combine with axes`() throws {
        let sweep = try sweep(
            """
            common: {technique: bare}
            points:
              - axes: {workload: [a, b, c]}
                zipped: {memory: [256M, 512M], processors: [1, 2]}
              - zipped: {workload: [d, e], hardware: [default, tlb=keep]}
            """)
        #expect(sweep.points.count == 3 * 2 + 2)
        let options = sweep.points.map { $0.options(.machine).joined(separator: " ") }
        let pair = ["--memory 256M --smp 1", "--memory 512M --smp 2"]
        #expect(Array(options.prefix(6)) == pair + pair + pair)
        #expect(options.suffix(2) == ["--hardware default", "--hardware tlb=keep"])
        #expect(sweep.points.allSatisfy { $0.technique == "bare" })
    }

    @Test func `cells agree within what the guest can notice, and are told apart by the rest`()
        throws
    {
        let sweep = try sweep(
            """
            points:
              - axes:
                  workload: [a, b]
                  memory: [256M, 512M]
                  technique: [bare, traced]
                  engine: [interpreter, translator]
                  profile: [sandy-bridge, cascade-lake]
                  seed: 1
            """)
        let plan = try sweep.plan(profile: Profile.named("nested-cloud")) { point in
            RunPlan(
                program: "p", version: "v", build: "b", guest: point.options(.machine),
                run: point.options(.run), region: nil, files: [])
        }
        let document = plan.document
        #expect(document.cells.count == 32)
        #expect(
            document.workloads == [
                "a; memory=256M", "a; memory=512M", "b; memory=256M", "b; memory=512M",
            ])
        #expect(document.techniques.count == 8)
        #expect(document.techniques[0] == "bare; engine=interpreter; profile=sandy-bridge")
        #expect(
            document.cells.map(\.workload)
                == document.workloads.flatMap {
                    Array(repeating: $0, count: 8)
                })
        // A profile needs no run of its own.
        #expect(Set(document.cells.map(\.identity)).count == 16)
        #expect(document.profiles?.map(\.name) == ["sandy-bridge", "cascade-lake"])
        #expect(document.cells[0].point?.parameters["memory"] == "256M")
        #expect(
            document.cells[0].point?.guest
                == ["--memory", "256M", "--seed", "1", "--engine", "interpreter"])
    }

    @Test func `the studies in the documents are sound`() throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../Docs/Studies").standardized
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path)
            .filter { $0.hasSuffix(".yaml") }
        #expect(files.contains("buffer.yaml"))
        for file in files {
            #expect(try Sweep.read(folder.appending(path: file).path).points.count > 1)
        }
    }

    /// After `version: 1`, `name: s`: text, line, words.
    private static let mistakes: [(String, Int, String)] = [
        ("pionts: []", 3, "a sweep has no 'pionts'; allowed are version, name"),
        ("points: []", 3, "the sweep has no points; give at least one block"),
        ("points:\n  - axis: {}", 4, "a block has no 'axis'; allowed are axes, zipped"),
        (
            "points:\n  - axes:\n      workload: a\n      technque: bare", 6,
            "there is no parameter 'technque'; allowed are workload, size, technique, profile"
        ),
        ("points:\n  - axes:\n      technique: bare", 4, "the block has no workload"),
        ("points:\n  - axes:\n      workload: a", 4, "the block has no technique"),
        (
            "points:\n  - axes:\n      workload: a\n      technique: [bare,\n        magic]", 7,
            "technique: unknown technique 'magic': give bare,"
        ),
        (
            "points:\n  - axes:\n      workload: a\n      technique: traced\n"
                + "      technique.capacity:\n        - 4096\n        - 5000", 9, "a power of two"
        ),
        (
            "points:\n  - axes:\n      workload: a\n      technique: traced\n"
                + "      technique.size: 4096", 7, "size"
        ),
        (
            "points:\n  - axes: {workload: a}\n  - axes:\n      workload: a\n"
                + "      technique: traced\n      technique.coalesce: [0, 2]\n"
                + "      technique.record: [address, mask]\ncommon: {engine: interpreter}", 4,
            "the block has no technique"
        ),
        (
            "points:\n  - axes:\n      workload: a\n      technique: traced\n"
                + "      technique.coalesce: [0, 2]\n      technique.record: [address, mask]", 4,
            "coalesce"
        ),
        ("points:\n  - axes:\n      workload: [a, b, a]", 5, "workload has the value 'a' twice"),
        ("points:\n  - axes:\n      workload: []", 5, "workload has no value; give at least one"),
        ("points:\n  - axes:\n      workload: {a: b}", 5, "workload is no text; give a text"),
        (
            "points:\n  - zipped:\n      workload: [a, b]\n      technique: [bare, trap,\n"
                + "        traced]", 6,
            "zipped lists are of different lengths: workload has 2 values, technique has 3"
        ),
        (
            "points:\n  - axes: {workload: a, technique: bare}\n    zipped: {workload: a}", 4,
            "workload is given twice, in this block or in common; give it once"
        ),
        (
            "common: {workload: [a, b]}\npoints:\n  - axes: {technique: bare}", 3,
            "common has several values of workload; give one"
        ),
        (
            "points:\n  - axes: {workload: a, technique: traced}\n"
                + "  - axes: {workload: a, technique: traced, technique.record: address}", 5,
            "the point 'a', traced,record=address is the same as one of the block at line 4"
        ),
        (
            "points:\n  - axes: {workload: a, size: 3, technique: bare}", 4,
            "the workload 'a' has no place for a size; give 'a {size}'"
        ),
        (
            "points:\n  - axes: {workload: 'a {size}', technique: bare}", 4,
            "the workload 'a {size}' misses its size; give 'size: …'"
        ),
        (
            "points:\n  - axes:\n      workload: a {size}\n      technique: bare\n      size: [1, x]",
            7, "size cannot be 'x'; give a whole number from 1"
        ),
        (
            "points:\n  - axes: {workload: a, technique: bare,\n      profile: nehalem}", 5,
            "profile nehalem: is no profile; give sandy-bridge,"
        ),
        ("from-region: 0\npoints: []", 3, "from-region is no region; give 1 to 65535"),
        ("points: 7", 3, "points is no list; give a list"),
    ]

    @Test(arguments: Self.mistakes)
    func `a mistake is one line, with file, line and what is allowed`(
        text: String, line: Int, words: String
    ) throws {
        let error = #expect(throws: InputError.self) { try sweep(text) }
        let message = try #require(error).description
        #expect(message.hasPrefix("s.yaml:\(line): "), "\(message)")
        #expect(message.contains(words), "\(message)")
        #expect(!message.contains("\n"))
    }

    @Test func `another version is refused`() {
        let error = #expect(throws: InputError.self) {
            try Sweep.parse("version: 2\nname: s\npoints: []", file: "s.yaml")
        }
        #expect(
            error?.description
                == "s.yaml:1: is a sweep of another version; this program reads version 1")
    }

    @Test func `a sweep has at most a thousand points, however many are asked for`() throws {
        func text(_ seeds: Int, _ quanta: Int) -> String {
            "points:\n  - axes:\n      workload: a\n      technique: bare\n"
                + "      seed: [\((0..<seeds).map(String.init).joined(separator: ","))]\n"
                + "      quantum: [\((0..<quanta).map(String.init).joined(separator: ","))]\n"
        }
        #expect(try sweep(text(100, 10)).points.count == 1000)
        let error = #expect(throws: InputError.self) { try sweep(text(1001, 1)) }
        #expect(
            error?.description.hasPrefix("s.yaml:4: the sweep has more than 1000 points") == true)
        // A product that no integer holds.
        let many = (0..<1000).map(String.init).joined(separator: ",")
        let names = ["seed", "quantum", "interleaving", "memory", "append", "kernel", "initrd"]
        let huge = "points:\n  - axes:\n" + names.map { "      \($0): [\(many)]\n" }.joined()
        #expect(throws: InputError.self) { try sweep(huge) }
    }
}
