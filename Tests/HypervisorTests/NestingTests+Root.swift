import Hypervisor
import Testing
import X86

extension NestingTests {
    @Test("a nested table that nobody has watched is protected as soon as it is a root")
    func becomesRootUnwatched() throws {
        let machine = try M(policy: .agile(NestingParameters(writes: 3, quiet: 1_000_000)))
        machine.poke(map: page, to: a, M.all)
        #expect(machine.reach(page) == a)
        let upper = machine.entryAddress(page, .directoryPointer)
        let table = upper & ~0xfff
        for _ in 0..<3 { machine.edit(upper + 8, 0) }
        #expect(machine.switchEntry(page)?.shift == 39)
        let old = machine.mode.cr3
        for index in 256..<512 as Range<UInt64> where machine.peek(old + index * 8) != 0 {
            machine.edit(table + index * 8, machine.peek(old + index * 8))
        }
        machine.mode.cr3 = table
        machine.cache.removeAll()
        machine.load()
        machine.verify("a root")
        let writes = machine.mmu.ledger.tableWrites.sum
        machine.edit(table + 16, 0)
        #expect(machine.mmu.ledger.tableWrites.sum == writes + 1)
        machine.verify()
    }
}
