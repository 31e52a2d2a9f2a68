import Hypervisor
import MachineMemory
import Testing
import X86

/// Frames that become tables while large pages of other sizes or of other processors map them.
@Suite("Tables inside large pages")
struct LargePageTableTests {
    typealias M = TestMachine
    static let policies: [Policy] = Array(M.policies.prefix(5))

    @Test(
        "a table inside a page that another processor has cached ends what that has cached",
        arguments: policies)
    func otherProcessor(policy: Policy) throws {
        let machine = try M(processors: 2, policy: policy)
        let page = machine.page
        machine.nextFrame = 0x1000
        machine.poke(map: page, to: 0x20_0000, M.all)
        let entry = machine.directMap + machine.entryAddress(page, .table)
        machine.current = 1
        machine.load()
        #expect(machine.reach(entry, .write) == machine.entryAddress(page, .table))
        #expect(machine.cache[entry >> 12] != nil)
        machine.current = 0
        #expect(machine.reach(page) == 0x20_0000)
        // The other one writes the table that it could write unnoticed.
        machine.current = 1
        machine.write(entry, 0x30_0000 | M.all, processor: 1)
        machine.current = 0
        machine.invalidatePage(page)
        #expect(machine.reach(page) == 0x30_0000)
        machine.verify()
    }

    @Test("a table inside a 1 GiB page splits it", arguments: policies)
    func gigabytePage(policy: Policy) throws {
        let machine = try M(
            guestBytes: 2 << 30, policy: policy, mapsDirectly: .directoryPointer)
        let page = machine.page
        // In the second GiB, where no table is yet.
        machine.nextFrame = 0x4_0005
        machine.poke(map: page, to: 0x20_0000, M.all)
        let place = machine.entryAddress(page, .table)
        #expect(place >> 30 == 1)
        #expect(machine.reach(machine.directMap + place, .write) == place)
        #expect(machine.reach(page) == 0x20_0000)
        machine.edit(place, 0x30_0000 | M.all)
        machine.invalidatePage(page)
        #expect(machine.reach(page) == 0x30_0000)
        machine.verify()
    }
}
