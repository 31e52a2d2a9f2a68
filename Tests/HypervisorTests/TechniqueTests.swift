import Hypervisor
import Testing

@Suite("Techniques as text")
struct TechniqueTests {
    @Test("each technique is parsed from what it describes itself as")
    func roundTrip() throws {
        let parameters = try TraceParameters(capacity: 8192, threshold: 100, coalesce: 4)
        for technique in [Technique.bare, .trap, .unsync, .nested, .traced(parameters)] {
            #expect(try Technique(parsing: technique.description) == technique)
        }
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
        #expect(
            TechniqueError.badValue(parameter: "coalesce", value: "9", expected: "a number")
                .description == "coalesce cannot be '9': give a number")
    }
}
