import Processor
import X86

/// A case whose outcome on the model is not the host's.
package struct Failure: Sendable {
    package var seed: UInt64
    package var number: UInt64
    package var engine: String
    package var test: Case
    package var differences: [String]
}

/// Runs cases on the host and on the model under each engine.
package final class Campaign {
    private var generator = Generator()
    private let native: NativeRunner
    private let models: [(name: String, runner: ModelRunner)]
    /// How many cases ended in each vector, 3 being the end.
    package private(set) var ends: [Int: Int] = [:]
    package private(set) var cases = 0

    /// Nil where the host forbids what is needed.
    package init?() {
        guard let native = NativeRunner() else { return nil }
        self.native = native
        var models: [(name: String, runner: ModelRunner)] = []
        for engine in Engine.allCases where engine != .translator || Engine.translatorLack == nil {
            guard let runner = try? ModelRunner(engine, model: .penumbraV3) else { return nil }
            models.append((engine.rawValue, runner))
        }
        self.models = models
    }

    /// The case of that number, with what it shows; nil where nothing differs.
    package func run(seed: UInt64, number: UInt64) -> Failure? {
        let test = generator.make(seed: seed, number: number)
        cases += 1
        let host = native.run(test)
        ends[host.vector, default: 0] += 1
        guard let found = difference(test, host) else { return nil }
        return Failure(
            seed: seed, number: number, engine: found.engine, test: test, differences: found.list)
    }

    /// What differs in a case.
    package func difference(_ test: Case) -> (engine: String, list: [String])? {
        difference(test, native.run(test))
    }

    private func difference(_ test: Case, _ host: Outcome) -> (engine: String, list: [String])? {
        var test = test
        var listing = Listing(test.size)
        guard let undefined = FlagFlow.undefined(test.code, &listing) else { return nil }
        // Those left undefined up to where it ended.
        var place = test.start
        for (index, code) in test.code.enumerated() where host.rip > place {
            place += UInt64(code.count)
            test.undefined = undefined[index]
        }
        if !isSettled(test, host, &listing) { return nil }
        ignoreUnsettled(&test, host, &listing)
        for model in models {
            let list = model.runner.run(test).differences(from: host, of: test)
            if !list.isEmpty { return (model.name, list) }
        }
        return nil
    }

    /// Whether the host did not fault in a masked move: with no byte selected that is a processor's
    /// own choice (SDM Vol. 2B, MASKMOVDQU).
    private func isSettled(_ test: Case, _ host: Outcome, _ listing: inout Listing) -> Bool {
        guard host.vector != 3 else { return true }
        var place = test.start
        for code in test.code {
            if place == host.rip, let facts = listing.facts(code) {
                return !Forms.isMaskedMove(facts)
                    && !(host.vector == 12 && Forms.isKnownStackFault(facts))
            }
            place += UInt64(code.count)
        }
        return true
    }

    /// What processors leave differently where an instruction faults: the flags of a repeated
    /// comparison (Intel's restore them), whether MMX state was entered, and what of ENTER's frame is in
    /// memory (the model's ENTER writes all or nothing, so that it can be restarted).
    private func ignoreUnsettled(_ test: inout Case, _ host: Outcome, _ listing: inout Listing) {
        guard host.vector != 3 else { return }
        var place = test.start
        for code in test.code {
            if place == host.rip, let facts = listing.facts(code) {
                if facts.hasRepeat { test.undefined = RFLAGS.arithmetic }
                test.ignoresX87 = true
                test.ignoresGeneral = Forms.isPopAll(facts)
                test.ignoresMemory = Forms.isEnter(facts)
                test.ignoresAddress = Forms.touchesInAnyOrder(facts)
            }
            place += UInt64(code.count)
        }
    }

    /// A smaller case that still differs.
    package func shrink(_ failure: Failure) -> Failure {
        var best = failure
        func attempt(_ change: (inout Case) -> Void) {
            var test = best.test
            change(&test)
            guard let found = difference(test) else { return }
            best.test = test
            best.engine = found.engine
            best.differences = found.list
        }
        var index = best.test.code.count - 1
        while index >= 0 {
            let count = best.test.code.count
            attempt { $0.code.remove(at: index) }
            if best.test.code.count == count {
                attempt {
                    $0.code[index] = [UInt8](repeating: 0x90, count: $0.code[index].count)
                }
            }
            index -= 1
        }
        for register in 0..<16 where register != 4 { attempt { $0.general[register] = 0 } }
        attempt { $0.flags = 0x202 }
        attempt { $0.memory = [UInt8](repeating: 0, count: $0.memory.count) }
        return best
    }
}

extension Failure {
    /// What to print: how to repeat it, the differences, bytes with their text, and what they use.
    package var report: String {
        var listing = Listing(test.size)
        var lines = [
            "seed=\(seed) case=\(number) \(test.size.rawValue) (\(engine), then the host)"
        ]
        lines += differences.map { "  " + $0 }
        var address = test.start
        for code in test.code {
            let bytes = Listing.hex(code)
            lines.append(
                "    \(String(address, radix: 16))  \(bytes)    \(listing.text(code, at: address))")
            address += UInt64(code.count)
        }
        let registers = test.general.map { String($0, radix: 16) }.joined(separator: " ")
        lines.append("    registers \(registers)  flags \(String(test.flags, radix: 16))")
        let part = test.extended
        lines.append(
            "    FCW \(Listing.hex(part[0..<2])) FSW \(Listing.hex(part[2..<4])) tags "
                + "\(part[4]) MXCSR \(Listing.hex(part[24..<28]))")
        return lines.joined(separator: "\n")
    }
}
