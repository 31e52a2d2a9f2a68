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

do {
    let round = SyntheticGuest.round
    var (fault, record, write, trapped, invlpg) = (Cost(), Cost(), Cost(), Cost(), Cost())
    let traced = try SyntheticGuest(.traced(.standard), tables: tables)
    let shadowPages = traced.shadowPages
    for number in 1...rounds {
        let before = traced.hypervisor.ledger
        let edit = traced.editAll(generation: number)
        let afterEdit = traced.hypervisor.ledger
        // The rest of the records.
        _ = traced.invalidate(1)
        fault.add(traced.touchAll(), round)
        let after = traced.hypervisor.ledger
        invlpg.add(traced.invalidate(round), round)
        let drained = afterEdit.recordsDrained - before.recordsDrained
        record.add(edit.drains, drained)
        write.add(edit.all - edit.drains, round)
        expect(after.recordsDrained - before.recordsDrained, round, "records")
        // One more where code or a table was cached with what had to go.
        let faults = after.hiddenFaults - afterEdit.hiddenFaults
        if faults < round || faults > round + 4 { expect(faults, round, "hidden faults") }
    }
    let trap = try SyntheticGuest(.trap(.standard), tables: tables)
    for number in 1...rounds {
        let before = trap.hypervisor.ledger
        trapped.add(trap.editAll(generation: number).all, round)
        expect(
            trap.hypervisor.ledger.tableWrites.sum - before.tableWrites.sum, round,
            "trapped writes")
        _ = trap.touchAll()
    }
    print(
        "| \(shadowPages) | \(fault.text) | \(record.text) | \(write.text) | \(trapped.text)"
            + " | \(invlpg.text) |")
} catch {
    stop("\(error)")
}
