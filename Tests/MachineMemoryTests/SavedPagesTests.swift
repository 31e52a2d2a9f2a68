import MachineMemory
import Testing
import X86

@Suite struct SavedPagesTests {
    @Test("used pages come in ascending runs, below and above the hole, and none that is all zero")
    func runs() throws {
        let memory = try MachineMemory(
            guestBytes: MachineMemory.lowLimit + 16 * pageSize, hypervisorBytes: 4096)
        func touch(_ address: UInt64, _ value: UInt8 = 1) {
            memory.store(value, at: memory.machineAddress(of: GuestPhysicalAddress(address)))
        }
        let last = MachineMemory.lowLimit / pageSize - 1
        let high = MachineMemory.highStart / pageSize
        // The first and last byte of a page, pages side by side, the ends of both parts.
        for frame in [0, 5, 6, 7, 8, last, high, high + 15] { touch(frame * pageSize + 4095) }
        touch(9 * pageSize)
        touch(11 * pageSize, 0)
        memory.store(1 as UInt8, at: MachineAddress(0))
        var runs: [[UInt64]] = []
        unsafe memory.forEachUsedRun(atMost: 4) { (frame, pages) throws(Never) in
            runs.append([frame, UInt64(pages.count) / pageSize])
            #expect(unsafe pages[frame == 9 ? 0 : 4095] == 1)
        }
        #expect(runs == [[0, 1], [5, 4], [9, 1], [last, 1], [high, 1], [high + 15, 1]])
    }

    @Test("pages that are not all RAM are not given")
    func bounds() throws {
        let memory = try MachineMemory(
            guestBytes: MachineMemory.lowLimit + 16 * pageSize, hypervisorBytes: 4096)
        func has(_ frame: UInt64, _ count: UInt64) -> Bool {
            unsafe memory.guestPages(frame, count: count) != nil
        }
        let end = MachineMemory.lowLimit / pageSize
        let high = MachineMemory.highStart / pageSize
        #expect(has(0, 1) && has(0, end) && has(end - 1, 1) && has(high, 16) && has(high + 15, 1))
        #expect(!has(0, 0) && !has(0, end + 1) && !has(end, 1) && !has(high - 1, 1))
        #expect(!has(high, 17) && !has(high + 16, 1) && !has(end - 1, 2) && !has(0, .max))
        #expect(!has(.max, 1) && !has(.max, .max) && !has(1, .max))
        let small = try MachineMemory(guestBytes: 16 * pageSize, hypervisorBytes: 0)
        #expect(unsafe small.guestPages(high, count: 1) == nil)
        #expect(unsafe small.guestPages(0, count: 17) == nil)
    }
}
