import Comparison
import Foundation
import Testing

@Suite struct ProfileTests {
    /// A profile in which every figure costs 2 cycles, and a reference 0.5 × 4 + 0.5 × 20.
    static func sample(_ change: (inout [String: String]) -> Void = { _ in }) -> String {
        var figures: [String: String] = [:]
        for figure in Figure.allCases {
            figures[figure.rawValue] =
                figure == .walkReference
                ? "{caches: [{level: L1, share: 0.5, cycles: 4}, {level: L2, share: 0.5, cycles: 20}], "
                    + "state: recalled, source: somewhere}"
                : "{value: 2, unit: cycles, state: recalled, source: somewhere}"
        }
        change(&figures)
        let lines = figures.sorted { $0.key < $1.key }.map { "  \($0.key): \($0.value)\n" }
        return "version: 1\nname: sample\ndescription: one\ngigahertz: 2.5\nfigures:\n"
            + lines.joined()
    }

    private static func error(_ text: String) -> InputError? {
        do {
            _ = try Profile.parse(text, file: "p.yaml")
            return nil
        } catch { return error }
    }

    @Test(arguments: Profile.names)
    func `each profile of the program has every figure, with its source and state`(
        name: String
    ) throws {
        let profile = try Profile.named(name)
        #expect(profile.name == name)
        #expect(profile.figures.count == Figure.allCases.count)
        for figure in Figure.allCases {
            let entry = try #require(profile.figures[figure.rawValue])
            #expect(entry.cycles > 0)
            #expect(entry.source.count > 5)
            #expect(entry.state != .derived || (entry.derivation?.count ?? 0) > 20)
        }
        #expect(profile.figures["walk-reference"]?.caches?.count == 4)
    }

    @Test func `profiles order exits as their sources do`() throws {
        let cycles = try Profile.names.map { try Profile.named($0).cycles(.exit) }
        // 784 on Sandy Bridge; 2 × 105 ns and 2 × 1300 ns at 2.5 GHz.
        #expect(cycles == [784, 525, 6500])
    }

    @Test func `nanoseconds become cycles, and a reference is the sum over the caches`() throws {
        let text = Self.sample {
            $0["exit"] = "{value: 210, unit: nanoseconds, state: recalled, source: there}"
        }
        let profile = try Profile.parse(text, file: "p.yaml")
        #expect(profile.cycles(.exit) == 525)
        #expect(profile.cycles(.walkReference) == 12)
        #expect(profile.cycles(.drain) == 2)
    }

    @Test func `a profile that misses a figure is refused, whichever it is`() {
        for figure in Figure.allCases {
            let error = Self.error(Self.sample { $0[figure.rawValue] = nil })
            #expect(
                error?.description.hasPrefix(
                    "p.yaml:6: the profile misses the figure '\(figure.rawValue)'; give each of ")
                    == true, "\(error?.description ?? "accepted")")
        }
    }

    @Test(arguments: [
        (
            "exit", "{value: -1, unit: cycles, state: recalled, source: x}",
            "exit cannot be -1; give"
        ),
        ("exit", "{value: 2000000, unit: cycles, state: recalled, source: x}", "from 0 to 1000000"),
        (
            "exit", "{value: 900000, unit: nanoseconds, state: recalled, source: x}",
            "from 0 to 400000"
        ),
        ("instruction", "{value: 101, unit: cycles, state: recalled, source: x}", "from 0 to 100"),
        ("exit", "{value: .nan, unit: cycles, state: recalled, source: x}", "exit cannot be .nan"),
        ("exit", "{value: nan, unit: cycles, state: recalled, source: x}", "exit cannot be nan"),
        ("exit", "{value: inf, unit: cycles, state: recalled, source: x}", "exit cannot be inf"),
        ("exit", "{value: many, unit: cycles, state: recalled, source: x}", "exit cannot be many"),
        ("exit", "{value: [1], unit: cycles, state: recalled, source: x}", "exit cannot be that"),
        ("exit", "{value: 1, unit: hours, state: recalled, source: x}", "give cycles or nanosec"),
        ("exit", "{value: 1, unit: cycles, state: guessed, source: x}", "give one of checked,"),
        ("exit", "{value: 1, unit: cycles, state: derived, source: x}", "give 'derivation: …'"),
        ("exit", "{value: 1, unit: cycles, state: recalled}", "exit has no source; give"),
        ("exit", "{value: 1, unit: cycles, state: recalled, source: ''}", "source is empty; give"),
        ("exit", "{value: 1, unit: cycles, state: recalled, source: x, f: 1}", "exit has no 'f';"),
        ("exit", "3", "exit is no mapping; give"),
        ("walk-reference", "{value: 1, unit: cycles, state: recalled, source: x}", "allowed are c"),
        (
            "walk-reference",
            "{caches: [{level: L1, share: 0.7, cycles: 4}], state: recalled, source: x}",
            "they must sum up to 1"
        ),
        ("walk-reference", "{caches: 3, state: recalled, source: x}", "caches is no list; give"),
        ("surprise", "{value: 1, unit: cycles, state: recalled, source: x}", "has no 'surprise'"),
    ])
    func `a bad figure is refused with its line and what is allowed`(
        figure: String, text: String, words: String
    ) throws {
        let profile = Self.sample { $0[figure] = text }
        let line = try #require(
            profile.split(separator: "\n").firstIndex { $0.hasPrefix("  \(figure):") })
        let error = try #require(Self.error(profile))
        #expect(error.line == line + 1)
        #expect(error.description.contains(words), "\(error)")
        #expect(!error.description.contains("\n"))
    }

    @Test(arguments: [
        ("", "p.yaml: is empty; give a profile"),
        ("version: 2", "p.yaml:1: is a profile of another version; this program reads version 1"),
        ("name: x", "p.yaml:1: has no version; give 'version: 1'"),
        ("version: 1\nnick: x", "p.yaml:2: a profile has no 'nick'; allowed are version,"),
        ("version: 1\nversion: 1", "p.yaml:1: 'version' is given twice; give it once"),
        ("version: 1\n- 3", "p.yaml:2: "),
        ("version: 1\n\tname: x", "p.yaml:2: "),
        ("[1, 2", "p.yaml:2: "),
        ("just words", "p.yaml:1: a profile is no mapping; give 'key: value' lines"),
        ("version: one", "p.yaml:1: version is no count; give a whole number"),
    ])
    func `a bad profile is refused with its line and what is allowed`(
        text: String, words: String
    ) throws {
        let error = try #require(Self.error(text))
        #expect(error.description.hasPrefix(words), "\(error)")
        #expect(!error.description.contains("\n"))
    }

    @Test func `nesting without end is refused`() throws {
        for opening in ["[", "{a: ", "- "] {
            let text = "version: " + String(repeating: opening, count: 200_000)
            #expect(Self.error(text) != nil)
        }
    }

    @Test func `no change of one character makes a profile trap`() throws {
        let text = Array(Self.sample().utf8)
        var refused = 0
        for index in stride(from: 0, to: text.count, by: 7) {
            var bytes = text
            bytes[index] = [0x00, 0x3A, 0x7B, 0xFF, 0x0A, 0x2D][index % 6]
            if Self.error(String(decoding: bytes, as: UTF8.self)) != nil { refused += 1 }
        }
        #expect(refused > 100)
    }

    @Test func `a name that is no profile's names those that are`() {
        #expect(throws: InputError.self) { try Profile.named("nehalem") }
        #expect(throws: InputError.self) { try Profile.named("/no/such/file.yaml") }
        do { _ = try Profile.named("nehalem") } catch {
            #expect(
                "\(error)"
                    == "nehalem: is no profile; give sandy-bridge, cascade-lake, nested-cloud "
                    + "or a file (NAME.yaml)")
        }
    }

    @Test func `the digest is FIPS 180-4's`() {
        #expect(
            SHA256Digest.of("abc")
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    }
}
