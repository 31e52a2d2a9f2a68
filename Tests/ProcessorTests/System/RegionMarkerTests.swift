import MachineMemory
import Processor
import Testing
import X86

/// The reserved CPUID leaf by which code marks regions (Docs/Regions.md).
@Suite struct RegionMarkerTests {
    /// mov eax, 0x40000001; mov ecx, subleaf; cpuid; nop
    static func code(_ subleaf: UInt32, leaf: UInt32 = 0x4000_0001) -> [UInt8] {
        [0xb8] + bytes(leaf) + [0xb9] + bytes(subleaf) + [0x0f, 0xa2, 0x90]
    }

    @Test(
        "the leaf with a region tells the platform that it begins or ends",
        arguments: [
            (1, .begin(1)), (0xffff, .begin(0xffff)), (0x8000_0001, .end(1)),
            (0x8000_ffff, .end(0xffff)), (0, nil), (0x8000_0000, nil), (0x1_0001, nil),
            (0x4000_0001, nil), (.max, nil),
        ] as [(UInt32, RegionMarker?)])
    func marks(subleaf: UInt32, marker: RegionMarker?) throws {
        let machine = try BareMachine()
        #expect(machine.run(Self.code(subleaf), count: 4) == .limit)
        #expect(machine.platform.markers == (marker.map { [$0] } ?? []))
        #expect(machine.processor[.rax] == 1)
        #expect(machine.processor[.rbx] | machine.processor[.rcx] | machine.processor[.rdx] == 0)
    }

    @Test("other leaves are no markers, nor is the leaf's number in the upper half of RAX")
    func otherLeaves() throws {
        let machine = try BareMachine()
        for leaf in [0, 1, 0x4000_0000, 0x4000_0002, 0x8000_0001] as [UInt32] {
            #expect(machine.run(Self.code(1, leaf: leaf), count: 4) == .limit)
        }
        #expect(machine.platform.markers.isEmpty)
    }

    @Test("a platform that stops at a marker does so behind it, and changes nothing else")
    func stops() throws {
        func run(stopping: Bool) throws -> (UInt64, UInt64, [Exit]) {
            let machine = try BareMachine()
            let processor = machine.processor
            if stopping { machine.platform.onMarker = { processor.requestStop() } }
            var exits = [machine.run(Self.code(7), count: 4)]
            if stopping {
                #expect(processor.retired == 3 && processor.rip == BareMachine.code + 12)
                exits.append(processor.run(until: 4))
            }
            return (processor.retired, processor.registerDigest, exits)
        }
        let plain = try run(stopping: false)
        let stopped = try run(stopping: true)
        #expect(plain.2 == [.limit] && stopped.2 == [.stopped, .limit])
        #expect(plain.0 == stopped.0 && plain.1 == stopped.1)
    }

    @Test("level 3 marks as level 0 does")
    func userCode() throws {
        let machine = try SystemMachine(.long)
        machine.enterUser()
        for (offset, byte) in Self.code(3).enumerated() {
            machine.store(byte, at: SystemMachine.code + UInt64(offset))
        }
        #expect(machine.processor.privilegeLevel == 3)
        #expect(machine.processor.run(until: machine.processor.retired + 4) == .limit)
        #expect(machine.platform.markers == [.begin(3)])
    }
}
