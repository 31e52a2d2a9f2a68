import Differential
import Testing

/// Sequences of every user-level instruction against the host's own processor: state, memory and
/// faults (`Docs/Differential.md`). `make fuzz` runs it for as long as wanted.
@Suite(.serialized) struct HostSequenceTests {
    @Test("random sequences end on the host's processor as under both engines")
    func sequences() throws {
        guard let campaign = Campaign() else {
            print("skipped: this host forbids tracing a child, or executable shared memory")
            return
        }
        let cases: UInt64 = 40_000
        for number in 0..<cases {
            guard let failure = campaign.run(seed: 20, number: number) else { continue }
            Issue.record("\(campaign.shrink(failure).report)")
        }
        // Most run to their end, and faults of the common kinds are among them.
        #expect((campaign.ends[3] ?? 0) > Int(cases) / 2)
        for vector in [0, 6, 12, 13, 14, 16] {
            #expect((campaign.ends[vector] ?? 0) > 20, "vector \(vector)")
        }
    }

    @Test("what once differed from the host's processor does not", arguments: Regression.all)
    func regressions(regression: Regression) throws {
        guard let campaign = Campaign() else { return }
        let found = campaign.difference(regression.test)
        #expect(found == nil, "\(found?.list.joined(separator: "; ") ?? "")")
    }
}
