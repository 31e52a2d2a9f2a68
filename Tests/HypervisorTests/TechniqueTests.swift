import Hypervisor
import Processor
import Testing

@Suite("Techniques as text")
struct TechniqueTests {
    /// Every combination of the parameters' values, with a few capacities and thresholds.
    private static func everyTechnique() throws -> [Technique] {
        let stops: [StopRule] = [.standard, .never, .writes(1), .writes(1_000_000)]
        var all: [Technique] = [.bare, .unsync, .nested]
        for stop in stops {
            for refill in [false, true] { all.append(.trap(.init(refill: refill, stop: stop))) }
        }
        for writes in [1, 2, 65_536] as [UInt64] {
            for quiet in [1, 64, 1_000_000] as [UInt64] {
                all.append(.agile(try NestingParameters(writes: writes, quiet: quiet)))
            }
        }
        for record in TraceFormat.allCases {
            let sizes: [(UInt64?, UInt64?)] = [(nil, nil), (4096, 1), (2 << 20, 0), (8192, 256)]
            for (capacity, threshold) in sizes {
                for coalesce in record == .address ? [nil, 0, 8] as [UInt64?] : [nil] {
                    var parameters = try TraceParameters(
                        record: record, capacity: capacity, threshold: threshold,
                        coalesce: coalesce)
                    for choice in 0..<64 {
                        parameters.indication = choice & 1 == 0 ? .entry : .frame
                        parameters.elide = choice & 2 != 0
                        parameters.refill = choice & 4 != 0
                        parameters.levels = choice & 8 == 0 ? .all : .leaf
                        parameters.stop = stops[choice >> 4]
                        all.append(.traced(parameters))
                    }
                }
            }
        }
        return all
    }

    @Test("what a technique is printed as is parsed to the same technique, and no other is")
    func roundTrip() throws {
        let all = try Self.everyTechnique()
        #expect(all.count > 1000)
        for technique in all {
            #expect(try Technique(parsing: technique.description) == technique)
        }
        #expect(Set(all.map(\.description)).count == all.count)
        #expect(try Technique(parsing: "traced") == .traced(.standard))
        #expect(try Technique(parsing: "trap") == .trap(.standard))
        #expect(try Technique(parsing: "agile") == .agile(.standard))
        #expect(
            try Technique(parsing: "agile,quiet=7").description
                == "agile,writes=\(NestingParameters.standard.writes),quiet=7")
        #expect(
            try Technique(parsing: "traced,stop=9,refill=on,capacity=8192,record=value")
                == Technique(parsing: "traced,record=value,capacity=8192,refill=on,stop=9"))
    }

    @Test("a buffer holds 512 records, and three quarters of it are the threshold")
    func defaults() throws {
        #expect(TraceParameters.standard == (try TraceParameters()))
        for record in TraceFormat.allCases {
            let parameters = try TraceParameters(record: record)
            #expect(parameters.capacity == 512 * record.recordBytes)
            #expect(parameters.threshold == 384)
            #expect(parameters.coalesce == (record == .address ? 1 : 0))
        }
        #expect(try TraceParameters(record: .value, capacity: 4096).threshold == 96)
        #expect(try TraceParameters(capacity: 2 << 20, threshold: 0).threshold == 0)
        #expect(
            Technique.traced(.standard).description
                == "traced,indication=entry,record=address,capacity=4096,threshold=384,coalesce=1,"
                + "elide=off,refill=off,levels=all,stop=64")
    }

    @Test(
        "what is no technique is refused with one line that says what is allowed",
        arguments: [
            (
                "turbo",
                "unknown technique 'turbo': give bare, trap, unsync, traced, nested or agile"
            ),
            ("", "unknown technique '': give bare, trap, unsync, traced, nested or agile"),
            ("bare,x=1", "technique bare takes no parameters, not 'x'"),
            ("nested,", "technique nested takes no parameters, not ''"),
            ("agile,depth=1", "technique agile takes writes and quiet, not 'depth'"),
            ("agile,", "technique agile takes writes and quiet, not ''"),
            ("agile,writes=1,writes=2", "writes is given twice: give it once"),
            ("agile,writes=0", "writes cannot be '0': give a count of writes from 1 to 65536"),
            (
                "agile,writes=65537",
                "writes cannot be '65537': give a count of writes from 1 to 65536"
            ),
            ("agile,writes=8k", "writes cannot be '8k': give a decimal number"),
            ("agile,quiet", "quiet cannot be '': give a decimal number"),
            ("agile,quiet=0", "quiet cannot be '0': give a count of root loads from 1 to 1000000"),
            ("trap,elide=on", "technique trap takes refill and stop, not 'elide'"),
            (
                "traced,depth=1",
                "technique traced takes indication, record, capacity, threshold, coalesce, elide, "
                    + "refill, levels and stop, not 'depth'"
            ),
            ("traced,coalesce=1,coalesce=1", "coalesce is given twice: give it once"),
            ("traced,record=page", "record cannot be 'page': give address, value or mask"),
            ("traced,indication", "indication cannot be '': give entry or frame"),
            ("traced,levels=none", "levels cannot be 'none': give all or leaf"),
            ("traced,elide=yes", "elide cannot be 'yes': give on or off"),
            ("trap,refill=1", "refill cannot be '1': give on or off"),
            ("traced,stop=0", "stop cannot be '0': give a number from 1 to 1000000, or never"),
            ("trap,stop=-1", "stop cannot be '-1': give a number from 1 to 1000000, or never"),
            (
                "traced,capacity=12288",
                "capacity cannot be '12288': give a power of two from 4096 to 2097152"
            ),
            (
                "traced,threshold=513",
                "threshold cannot be '513': give a count of records from 0 to 512, which is what "
                    + "capacity=4096 holds with record=address"
            ),
            (
                "traced,record=value,capacity=4096,threshold=129",
                "threshold cannot be '129': give a count of records from 0 to 128, which is what "
                    + "capacity=4096 holds with record=value"
            ),
            ("traced,coalesce=9", "coalesce cannot be '9': give a number from 0 to 8"),
            (
                "traced,record=mask,coalesce=1",
                "coalesce means nothing with record=mask: leave one of them out"
            ),
            (
                "traced,coalesce=0,record=value",
                "coalesce means nothing with record=value: leave one of them out"
            ),
        ])
    func refusals(text: String, line: String) throws {
        let error = #expect(throws: TechniqueError.self) { try Technique(parsing: text) }
        #expect(error?.description == line)
    }

    @Test(
        "numbers that are none, too small or too large are refused",
        arguments: [
            "capacity=4095", "capacity=2048", "capacity=4194304", "capacity=", "capacity",
            "capacity=-1", "capacity=18446744073709551616", "threshold=x", "threshold=1.5",
            "coalesce=18446744073709551615", "stop=", "stop=1000001", "stop=on", "elide=ON",
        ])
    func badNumbers(text: String) {
        #expect(throws: TechniqueError.self) { try Technique(parsing: "traced," + text) }
    }
}
