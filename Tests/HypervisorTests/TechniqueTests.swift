import Hypervisor
import Testing

@Suite("Techniques as text")
struct TechniqueTests {
    @Test("each technique is parsed from what it describes itself as")
    func roundTrip() throws {
        let parameters = try TraceParameters(capacity: 8192, threshold: 100, coalesce: 4)
        let nesting = try NestingParameters(writes: 65_536, quiet: 1_000_000)
        for technique in [
            Technique.bare, .trap, .unsync, .nested, .agile(nesting), .traced(parameters),
        ] {
            #expect(try Technique(parsing: technique.description) == technique)
        }
        #expect(try Technique(parsing: "agile") == .agile(.standard))
        #expect(
            try Technique(parsing: "agile,quiet=7").description
                == "agile,writes=\(NestingParameters.standard.writes),quiet=7")
        #expect(try Technique(parsing: "traced") == .traced(.standard))
    }

    @Test("the default threshold is three quarters of the buffer")
    func threshold() throws {
        #expect(TraceParameters.standard.effectiveThreshold == 384)
        #expect(
            try TraceParameters(capacity: 2 << 20, threshold: 9).effectiveThreshold == 9)
    }

    @Test("what is no technique is refused with one line that names it")
    func refusals() {
        #expect(throws: TechniqueError.unknownTechnique("turbo")) {
            try Technique(parsing: "turbo")
        }
        #expect(throws: TechniqueError.unknownTechnique("")) { try Technique(parsing: "") }
        #expect(throws: TechniqueError.unknownParameter(technique: "bare", parameter: "x=1")) {
            try Technique(parsing: "bare,x=1")
        }
        #expect(throws: TechniqueError.unknownParameter(technique: "traced", parameter: "depth")) {
            try Technique(parsing: "traced,depth=1")
        }
        #expect(
            throws: TechniqueError.unknownParameter(technique: "traced", parameter: "coalesce")
        ) {
            try Technique(parsing: "traced,coalesce=1,coalesce=2")
        }
        for bad in [
            "capacity=4095", "capacity=2048", "capacity=12288", "capacity=4194304", "capacity=",
            "capacity", "capacity=-1", "threshold=513", "coalesce=9",
            "coalesce=18446744073709551615",
        ] {
            #expect(throws: TechniqueError.self, "\(bad)") {
                try Technique(parsing: "traced," + bad)
            }
        }
        for bad in [
            "writes=0", "writes=65537", "writes", "writes=", "writes=-1", "writes=8k", "quiet=0",
            "quiet=1000001", "quiet=18446744073709551616",
        ] {
            #expect(throws: TechniqueError.self, "\(bad)") {
                try Technique(parsing: "agile," + bad)
            }
        }
        for (bad, name) in [
            ("capacity=4096", "capacity"), ("writes=1,writes=2", "writes"), ("", ""),
            ("quiet=5,depth=2", "depth"),
        ] {
            #expect(
                throws: TechniqueError.unknownParameter(technique: "agile", parameter: name)
            ) { try Technique(parsing: "agile," + bad) }
        }
        #expect(
            TechniqueError.unknownParameter(technique: "agile", parameter: "depth").description
                == "technique agile takes writes and quiet, each once, not 'depth'")
        #expect(
            TechniqueError.badValue(parameter: "coalesce", value: "9", expected: "a number")
                .description == "coalesce cannot be '9': give a number")
    }
}
