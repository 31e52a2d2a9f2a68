import MachineMemory
import Processor
import Testing
import X86

/// Runs of PUSH and POP, for which translated code asks the software TLB once.
@Suite(.enabled(if: Engine.translatorLack == nil)) struct StackRunTests {
    private struct Ending: Equatable {
        var registers: [UInt64]
        var rip: UInt64
        var retired: UInt64
        var faultAddress: UInt64
        var misses: UInt64
        var stack: [UInt64]
    }

    /// push rbp; mov rbp, rsp; push r15; push r9; push rcx; push rbx; push rax
    /// pop rdx; pop r10; pop r12; pop rsi; pop r11; pop rbp; dec rdi; jnz to the start; jmp .
    private static let code: [UInt8] = [
        0x55, 0x48, 0x89, 0xe5, 0x41, 0x57, 0x41, 0x51, 0x51, 0x53, 0x50, 0x5a, 0x41, 0x5a, 0x41,
        0x5c, 0x5e, 0x41, 0x5b, 0x5d, 0x48, 0xff, 0xcf, 0x75, 0xe7, 0xeb, 0xfe,
    ]

    /// Three times the run, with RSP `distance` bytes above the end of a page, until `limit`
    /// instructions have retired or it faults.
    private func end(
        _ engine: Engine, distance: UInt64, limit: UInt64, isMissing: Bool
    ) throws -> Ending {
        let machine = try BareMachine(engine)
        let processor = machine.processor
        // Two pages; below the first one there may be nothing.
        machine.mapSmall([isMissing ? 0 : 0x50_0003, 0x50_1003, 0x50_2003])
        for (number, register) in GeneralRegister.allCases.enumerated() {
            processor[register] = UInt64(number + 1) &* 0x1111_1111_1111_1111
        }
        processor[.rdi] = 3
        processor[.rsp] = BareMachine.small + 0x1000 + distance
        _ = machine.run(Self.code, count: limit)
        return Ending(
            registers: GeneralRegister.allCases.map { processor[$0] }, rip: processor.rip,
            retired: processor.retired, faultAddress: processor.cr2,
            misses: processor.statistics.tlbMisses,
            stack: (0..<16).map {
                machine.memory.load(UInt64.self, at: MachineAddress(0x50_1000 - 64 + $0 * 8)) ?? 0
            })
    }

    @Test(
        "a run of pushes and pops does what its instructions do, over a page's end and at any limit",
        arguments: [false, true])
    func runs(isMissing: Bool) throws {
        var faults = 0
        for distance in [0, 8, 16, 24, 40, 44, 48, 49, 56, 4096] as [UInt64] {
            for limit in [1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 20, 30, 44, 45, 60] as [UInt64] {
                let expected = try end(
                    .interpreter, distance: distance, limit: limit, isMissing: isMissing)
                let found = try end(
                    .translator, distance: distance, limit: limit, isMissing: isMissing)
                #expect(found == expected, "distance \(distance), limit \(limit)")
                if expected.faultAddress != 0 { faults += 1 }
            }
        }
        #expect((faults > 0) == isMissing)
    }

    @Test("pushes that reach their own code end where the interpreter ends")
    func code() throws {
        let ends = try Engine.allCases.map { engine in
            let machine = try BareMachine(engine)
            // push rax; push rcx; jmp to the first
            machine.store([0x50, 0x51, 0xeb, 0xfc], at: BareMachine.code)
            // What is pushed is HLT, eight times.
            machine.processor[.rax] = 0xf4f4_f4f4_f4f4_f4f4
            machine.processor[.rcx] = 0xf4f4_f4f4_f4f4_f4f4
            // The fifth round's second push is over the code.
            machine.processor[.rsp] = BareMachine.code + 72
            machine.processor.jump(to: BareMachine.code)
            #expect(machine.processor.run(until: 1000) == .halted)
            return [machine.processor.rip, machine.processor.retired, machine.processor[.rsp]]
        }
        #expect(Set(ends).count == 1)
        #expect(ends[0][1] < 20)
    }
}
