import MachineMemory
import Processor
import Testing
import X86

/// The short walk of the hypervisor's tables against the general one, which a processor with
/// paging-structure caches takes.
@Suite struct ShadowWalkTests {
    /// An entry of which every bit that counts is tried: where it is, what it holds beside them,
    /// and an address that it maps.
    private struct Place {
        var slot: UInt64
        var base: UInt64
        var address: UInt64
    }

    private static let places = [
        Place(slot: BareMachine.smallTable, base: BareMachine.data, address: BareMachine.small),
        Place(slot: 0x3018, base: 0x60_0000, address: 0x60_0000),
        Place(slot: 0x2008, base: 0, address: 1 << 30 | BareMachine.data),
        Place(slot: 0x1008, base: 0x2000, address: 1 << 39 | BareMachine.data),
    ]

    /// P, R/W, U/S, A, D, PS, a bit that is reserved in large leaves, T and XD.
    private static let bits: [UInt64] = [
        1, 2, 4, 0x20, 0x40, 0x80, 0x2000, PagingEntry.tracedBit, PagingEntry.executeDisableBit,
    ]

    /// MOV RAX, [RBX] and MOV [RBX], AL.
    private static let accesses: [[UInt8]] = [[0x48, 0x8b, 0x03], [0x88, 0x03]]

    /// What one access does: how it ends, what it reads, what it leaves of the entry, and the
    /// writes that it completes.
    private struct Outcome: Equatable {
        var exit: Exit
        var value: UInt64
        var entry: UInt64?
        var completed: [UInt64] = []
    }

    private static func outcome(
        _ machine: BareMachine, _ place: Place, _ entry: UInt64, _ access: [UInt8],
        completes: Bool
    ) -> Outcome {
        let slot = MachineAddress(place.slot)
        machine.memory.store(entry, at: slot)
        machine.processor.invalidateAll()
        machine.processor[.rax] = 0x55
        machine.processor[.rbx] = place.address
        machine.processor.control.completesProtectedWrites = completes
        let exit = machine.run(access, count: 1)
        machine.processor.control.completesProtectedWrites = false
        var outcome = Outcome(
            exit: exit, value: machine.processor[.rax],
            entry: machine.memory.load(UInt64.self, at: slot))
        outcome.completed = machine.processor.takeCompletedWrites()
        // As it was: the next place's tables are none of this one's.
        machine.memory.store(UInt64(0), at: slot)
        return outcome
    }

    private static func machine(_ hardware: Hardware) throws -> BareMachine {
        let machine = try BareMachine(hardware: hardware)
        machine.mapSmall([])
        machine.memory.store(UInt64(0xe7), at: MachineAddress(0x3000))
        machine.processor.control.paging = .shadow(root: MachineAddress(0x1000))
        return machine
    }

    @Test("the short walk of the hypervisor's tables ends as the general one does, for any entry")
    func agrees() throws {
        let short = try Self.machine(Hardware())
        let general = try Self.machine(try Hardware(parsing: "tlb=keep"))
        var (faults, others) = (0, 0)
        for place in Self.places {
            for combination in 0..<1 << Self.bits.count {
                let entry = Self.bits.indices.reduce(place.base) {
                    combination >> $1 & 1 == 0 ? $0 : $0 | Self.bits[$1]
                }
                for access in Self.accesses {
                    for completes in [false, true] {
                        let one = Self.outcome(
                            short, place, entry, access, completes: completes)
                        let other = Self.outcome(
                            general, place, entry, access, completes: completes)
                        if one != other { Issue.record("\(place) \(entry): \(one), \(other)") }
                        if case .pageFault = one.exit { faults += 1 } else { others += 1 }
                    }
                }
            }
        }
        #expect(faults > 1000 && others > 500)
    }
}
