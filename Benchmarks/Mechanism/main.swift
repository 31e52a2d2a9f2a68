// What the mechanism costs, in host nanoseconds: a hidden fault, a drained record, a recorded write,
// a trapped write, INVLPG, with few and with many shadow pages. Prints rows of a table.
//
//     mechanism [TABLES [ROUNDS]]      so many page tables (default 100); of so many rounds (30) the
//                                      fastest counts
//
// A cost is that of everything between the guest's instruction and its next one, the instruction
// itself and the few of the guest's loop included. Only "record" is the time of a drain alone.

import Glibc
import Hypervisor
import X86

func stop(_ message: String) -> Never {
    print("mechanism: \(message)")
    exit(1)
}

let arguments = CommandLine.arguments.dropFirst().map { UInt64($0) }
guard arguments.count <= 2, arguments.allSatisfy({ $0 != nil }) else {
    stop("usage: mechanism [TABLES [ROUNDS]]")
}
let tables = (arguments.first ?? nil) ?? 100
let rounds = arguments.count == 2 ? (arguments[1] ?? 30) : 30
guard tables >= SyntheticGuest.hotTables, tables <= 4_000_000, rounds > 0 else {
    stop("TABLES is from \(SyntheticGuest.hotTables) to 4000000, ROUNDS from 1")
}

/// Nanoseconds for one of `count`, in the fastest round.
struct Cost {
    var best = Double.infinity
    mutating func add(_ nanoseconds: UInt64, _ count: UInt64) {
        best = min(best, Double(nanoseconds) / Double(max(count, 1)))
    }
    var text: String { String(Int(best.rounded())) }
}

/// Fails unless what was to be measured did happen.
func expect(_ found: UInt64, _ expected: UInt64, _ what: String) {
    if found != expected { stop("\(found) \(what), not \(expected)") }
}

/// What a round does to a machine whose guest tables are traced.
struct TracedCosts {
    var shadowPages: UInt64 = 0
    var fault = Cost()
    var record = Cost()
    var write = Cost()
    var invlpg = Cost()
}

/// The machine is gone when this returns: with a million tables, each of which is a page of the
/// guest's, a page of the shadow and a page of lists, two of them are more than a host may have.
func measureTraced(tables: UInt64, rounds: UInt64) throws -> TracedCosts {
    let round = SyntheticGuest.round
    let guest = try SyntheticGuest(.traced(.standard), tables: tables)
    var costs = TracedCosts(shadowPages: guest.shadowPages)
    for number in 1...rounds {
        let before = guest.hypervisor.ledger
        let edit = guest.editAll(generation: number)
        let afterEdit = guest.hypervisor.ledger
        // The rest of the records.
        _ = guest.invalidate(1)
        costs.fault.add(guest.touchAll(), round)
        let after = guest.hypervisor.ledger
        costs.invlpg.add(guest.invalidate(round), round)
        let drained = afterEdit.recordsDrained - before.recordsDrained
        costs.record.add(edit.drains, drained)
        costs.write.add(edit.all - edit.drains, round)
        expect(after.recordsDrained - before.recordsDrained, round, "records")
        // One more where code or a table was cached with what had to go.
        let faults = after.hiddenFaults - afterEdit.hiddenFaults
        if faults < round || faults > round + 4 { expect(faults, round, "hidden faults") }
    }
    return costs
}

/// A write to a protected table, of a machine of its own.
func measureTrapped(tables: UInt64, rounds: UInt64) throws -> Cost {
    let round = SyntheticGuest.round
    let guest = try SyntheticGuest(.trap(.standard), tables: tables)
    var cost = Cost()
    for number in 1...rounds {
        let before = guest.hypervisor.ledger
        cost.add(guest.editAll(generation: number).all, round)
        expect(
            guest.hypervisor.ledger.tableWrites.sum - before.tableWrites.sum, round,
            "trapped writes")
        _ = guest.touchAll()
    }
    return cost
}

do {
    let traced = try measureTraced(tables: tables, rounds: rounds)
    let trapped = try measureTrapped(tables: tables, rounds: rounds)
    print(
        "| \(traced.shadowPages) | \(traced.fault.text) | \(traced.record.text)"
            + " | \(traced.write.text) | \(trapped.text) | \(traced.invlpg.text) |")
} catch {
    stop("\(error)")
}
