import Hypervisor
import MachineMemory
import Processor
import Testing
import X86

/// A platform with nothing on it.
final class EmptyPlatform: Platform {
    func readPort(_ port: UInt16, size: Int) -> UInt32 { .max }
    func writePort(_ port: UInt16, size: Int, value: UInt32) {}
    func readDevice(_ address: MachineAddress, size: Int) -> UInt64 { .max }
    func writeDevice(_ address: MachineAddress, size: Int, value: UInt64) {}
    func readAPICRegister(_ register: UInt32, processor: Int) -> UInt64? { nil }
    func writeAPICRegister(_ register: UInt32, value: UInt64, processor: Int) -> Bool { false }
    func taskPriority(processor: Int) -> UInt8 { 0 }
    func setTaskPriority(_ value: UInt8, processor: Int) {}
    func acknowledgeInterrupt(processor: Int) -> UInt8? { nil }
    func timeStamp(retired: UInt64, processor: Int) -> UInt64 { retired }
}

@Suite("The hypervisor and its processors")
struct HypervisorTests {
    private let platform = EmptyPlatform()

    private func machine(
        _ technique: Technique, shadowBytes: UInt64 = 1 << 20, processors: Int = 1
    ) throws -> (MachineMemory, [Processor], Hypervisor) {
        let memory = try MachineMemory(
            guestBytes: 16 << 20,
            hypervisorBytes: Hypervisor.hypervisorBytes(
                for: technique, shadowBytes: shadowBytes, processors: processors,
                guestBytes: 16 << 20))
        let all = (0..<processors).map {
            Processor(memory: memory, platform: platform, model: .penumbraV2, index: $0)
        }
        let hypervisor = try Hypervisor(
            memory: memory, processors: all, technique: technique, shadowBytes: shadowBytes)
        hypervisor.start()
        return (memory, all, hypervisor)
    }

    /// The machine address that the shadow translates `address` to, by a walk of its own.
    private func translate(_ address: UInt64, _ processor: Processor, _ memory: MachineMemory)
        -> UInt64?
    {
        guard case .shadow(let root, _) = processor.control.paging else { return nil }
        var table = root.rawValue
        for shift in [39, 30, 21, 12] as [UInt64] {
            let raw =
                memory.load(UInt64.self, at: MachineAddress(table + (address >> shift & 511) * 8))
                ?? 0
            if raw & 1 == 0 { return nil }
            let base = raw & 0x000f_ffff_ffff_f000
            if shift == 12 || raw & 0x80 != 0 { return base + address & ((1 << shift) - 1) }
            table = base
        }
        return nil
    }

    @Test("bare walks the guest's tables, needs no memory and traces nothing")
    func bare() throws {
        let (memory, processors, hypervisor) = try machine(.bare)
        #expect(memory.guestBase == 0)
        #expect(processors[0].control.paging == .guest)
        #expect(!processors[0].control.exitsOnPagingOperations)
        #expect(!processors[0].control.trace.isEnabled)
        #expect(!hypervisor.handle(.halted, processor: 0))
        #expect(hypervisor.ledger.exits.sum == 1)
        #expect(hypervisor.ledger.shadowPagesMade == 0)
        #expect(hypervisor.audit() == [])
    }

    @Test("traced gives each processor its own write buffer, and a root of the identity map")
    func traced() throws {
        let parameters = try TraceParameters(capacity: 8192, coalesce: 2)
        let (memory, processors, hypervisor) = try machine(.traced(parameters), processors: 2)
        #expect(memory.guestBase == 1 << 30)
        for (number, processor) in processors.enumerated() {
            let trace = processor.control.trace
            #expect(trace.isEnabled && processor.control.exitsOnPagingOperations)
            #expect(trace.base == MachineAddress(UInt64(number) * 8192))
            #expect(trace.capacity == 8192 && trace.threshold == 768 && trace.coalesce == 2)
        }
        #expect(processors[0].control.paging == processors[1].control.paging)
        #expect(translate(0x7c00, processors[1], memory) == nil)
        #expect(
            hypervisor.handle(.pageFault(GuestVirtualAddress(0x7c00), .fetch), processor: 1))
        #expect(translate(0x7c00, processors[1], memory) == memory.guestBase + 0x7c00)
        #expect(hypervisor.handle(.pageFault(GuestVirtualAddress(0xfee0_0000), []), processor: 1))
        #expect(
            translate(0xfee0_0000, processors[1], memory) == memory.guestBase + 0xfee0_0000)
        #expect(processors[1].control.injection == nil)
        #expect(hypervisor.audit() == [])
    }

    @Test("nested walks the guest's tables, and the second dimension is filled as it is used")
    func nested() throws {
        let (memory, processors, hypervisor) = try machine(.nested, processors: 2)
        #expect(!processors[0].control.exitsOnPagingOperations)
        #expect(!processors[0].control.trace.isEnabled)
        guard case .nested(let root) = processors[1].control.paging else {
            Issue.record("not nested")
            return
        }
        #expect(processors[0].control.paging == processors[1].control.paging)
        func entry(_ address: UInt64) -> UInt64 {
            memory.load(UInt64.self, at: MachineAddress(address)) ?? 0
        }
        #expect(entry(root.rawValue) == 0)
        for guest in [0x20_1000, 0xfee0_0000, 0xff_ffff_f000] as [UInt64] {
            #expect(
                hypervisor.handle(
                    .secondDimensionFault(GuestPhysicalAddress(guest), []), processor: 1))
        }
        let low = entry(root.rawValue) & PagingEntry.addressMask
        let directory = entry(low) & PagingEntry.addressMask
        // RAM by 2 MiB, devices by 1 GiB; where there is neither, too.
        #expect(entry(directory + 8) == memory.guestBase + 0x20_0000 | 0xe7)
        #expect(entry(low + 3 * 8) == memory.guestBase + 0xc000_0000 | 0xe7)
        #expect(hypervisor.ledger.exits[.secondDimensionFault] == 3)
        #expect(hypervisor.ledger.shadowPagesLive == 4)
        #expect(hypervisor.audit() == [])
    }

    @Test("the second dimension stays under the ceiling")
    func nestedCeiling() throws {
        let least = ShadowMMU.leastPages(processors: 1, policy: Technique.nested.policy)
        let (memory, processors, hypervisor) = try machine(
            .nested, shadowBytes: least * 4096)
        for number in 0..<256 as Range<UInt64> {
            let guest = GuestPhysicalAddress(number << 39 & (1 << 48 - 1) | number << 30)
            _ = hypervisor.handle(.secondDimensionFault(guest, .write), processor: 0)
            #expect(hypervisor.ledger.shadowPagesLive < least)
        }
        #expect(hypervisor.ledger.shadowPagesReclaimed > 0)
        #expect(hypervisor.audit() == [])
        guard case .nested(let root) = processors[0].control.paging else { return }
        #expect(memory.isMemory(root, size: 4096))
    }

    @Test("exits that are not memory virtualization's go back to the board, and are counted")
    func exits() throws {
        let (_, _, hypervisor) = try machine(.traced(.standard))
        for exit in [Exit.limit, .halted, .stopped, .tripleFault] {
            #expect(!hypervisor.handle(exit, processor: 0))
        }
        let drains: [(Exit, DrainCause)] = [
            (.rootLoaded(flushed: true), .rootLoaded),
            (.invalidatePage(GuestVirtualAddress(0)), .invalidatePage),
            (.invalidatePCID(type: 2, pcid: 0, address: GuestVirtualAddress(0)), .invalidatePCID),
            (.pagingModeChanged(cr0: CR0.paging, cr4: 0, efer: 0x800), .pagingModeChanged),
            (.bufferThreshold, .bufferThreshold), (.bufferFull, .bufferFull),
            (.pageFault(GuestVirtualAddress(0), []), .pageFault),
        ]
        for (exit, cause) in drains {
            #expect(hypervisor.handle(exit, processor: 0))
            #expect(hypervisor.ledger.drains[cause] == 1, "\(cause)")
        }
        let ledger = hypervisor.ledger
        for (reason, count) in ledger.exits.pairs {
            #expect(count == (Self.others.contains(reason) ? 0 : 1))
        }
        #expect(ledger.drains.sum == 7 && ledger.emptyDrains == 7)
        #expect(ledger.hiddenFaults + ledger.trueFaults == ledger.exits[.pageFault])
        #expect(hypervisor.audit() == [])
    }

    /// What no exit under `traced` is.
    private static let others: [ExitReason] = [.tableWrite, .secondDimensionFault]

    @Test("what does not fit is refused with the figure that would")
    func refusals() throws {
        for technique in [Technique.traced(.standard), .nested, .agile(.standard)] {
            let least = ShadowMMU.leastPages(processors: 1, policy: technique.policy) * 4096
            #expect(
                throws: HypervisorError.tooLittleShadowMemory(given: least - 1, least: least)
            ) { _ = try machine(technique, shadowBytes: least - 1) }
            _ = try machine(technique, shadowBytes: least)
        }
        let memory = try MachineMemory(guestBytes: 1 << 20, hypervisorBytes: 0)
        let processor = Processor(
            memory: memory, platform: platform, model: .penumbraV2, index: 0)
        #expect(throws: HypervisorError.noHypervisorMemory(needed: 4096 + 1 << 20)) {
            _ = try Hypervisor(
                memory: memory, processors: [processor], technique: .traced(.standard),
                shadowBytes: 1 << 20)
        }
        #expect(throws: HypervisorError.noProcessor) {
            _ = try Hypervisor(
                memory: memory, processors: [], technique: .bare, shadowBytes: 0)
        }
        #expect(
            HypervisorError.tooLittleShadowMemory(given: 1, least: 2).description
                == "1 bytes are too little shadow memory: give at least 2")
    }

    @Test("every case of a tally has its own place and its own name")
    func tallies() {
        check(ExitReason.self)
        check(DrainCause.self)
        check(TableLevel.self)
        var tally = Tally<TableLevel>()
        tally[.pml4] = 2
        tally[.table] += 1
        #expect(tally.sum == 3)
        #expect(tally.pairs.map { $0.count } == [1, 0, 0, 2, 0])
    }

    private func check<Key: TallyKey>(_ type: Key.Type) {
        #expect(type.allCases.map { $0.index } == Array(0..<type.allCases.count))
        #expect(Set(type.allCases.map { $0.rawValue }).count == type.allCases.count)
    }
}
