import Differential
import Glibc

/// The differential test for as long as wanted.
///
///     fuzz [seconds [seed [case]]]
///
/// With a case, that one alone is run and printed. The exit status is 1 if anything differed.
let arguments = CommandLine.arguments.dropFirst().compactMap { UInt64($0) }
let seconds = arguments.first ?? 60
let seed = arguments.count > 1 ? arguments[1] : UInt64.random(in: 1...999_999)

guard let campaign = Campaign() else {
    print("fuzz: this host forbids tracing, shared memory or the addresses that cases use")
    exit(2)
}
var failures = 0
if arguments.count > 2 {
    if let failure = campaign.run(seed: seed, number: arguments[2]) {
        failures = 1
        print(failure.report)
        print(campaign.shrink(failure).report)
    } else {
        print("seed=\(seed) case=\(arguments[2]): nothing differs")
    }
} else {
    let clock = ContinuousClock()
    let end = clock.now + .seconds(Int64(clamping: seconds))
    var number: UInt64 = 0
    while clock.now < end && failures < 200 {
        if let failure = campaign.run(seed: seed, number: number) {
            failures += 1
            print(campaign.shrink(failure).report)
        }
        number += 1
    }
    let ends = campaign.ends.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
    print(
        "seed=\(seed): \(campaign.cases) cases, \(failures) differ; by vector \(ends.joined(separator: ", "))"
    )
}
exit(failures == 0 ? 0 : 1)
