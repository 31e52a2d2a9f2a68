import MachineMemory
import Processor
import Testing
import X86

/// Instructions after which code has other rights, lies elsewhere, or may be interrupted:
/// translated code goes on without the run loop, and nothing may show it.
@Suite(.enabled(if: Engine.translatorLack == nil)) struct RightsChangeTests {
    @Test("CLAC closes user pages to the very next instruction")
    func closing() throws {
        for engine in Engine.allCases {
            let machine = try BareMachine(engine)
            machine.processor[.rsi] = BareMachine.data
            // mov rax, cr4; bts eax, 21; mov cr4, rax; stac
            let opening: [UInt8] = [
                0x0f, 0x20, 0xe0, 0x0f, 0xba, 0xe8, 21, 0x0f, 0x22, 0xe0, 0x0f, 0x01, 0xcb,
            ]
            // mov rdx, [rsi]; clac; mov rdx, [rsi]; jmp .
            let closing: [UInt8] = [
                0x48, 0x8b, 0x16, 0x0f, 0x01, 0xca, 0x48, 0x8b, 0x16, 0xeb, 0xfe,
            ]
            machine.store(opening + closing, at: BareMachine.code)
            machine.processor.jump(to: BareMachine.code)
            // There is no IDT: the fault becomes a shutdown, at the last load.
            _ = machine.processor.run(until: 100)
            #expect(machine.processor.cr2 == BareMachine.data)
            #expect(machine.processor.rip == BareMachine.code + UInt64(opening.count) + 6)
            #expect(machine.processor.retired == 6)
        }
    }

    /// What a test compares after each slice.
    private struct Moment: Equatable {
        var retired: UInt64
        var rip: UInt64
        var flags: UInt64
        var registers: [UInt64]
        var interrupted: UInt64
    }

    private func moments(_ engine: Engine) throws -> [Moment] {
        let machine = try SystemMachine(.long)
        let processor = machine.processor
        TestEngine.apply(to: processor, engine)
        // sti; inc eax; inc ebx; cli; inc ecx; pushfq; popfq; jmp to the start
        let code: [UInt8] = [
            0xfb, 0xff, 0xc0, 0xff, 0xc3, 0xfa, 0xff, 0xc1, 0x9c, 0x9d, 0xeb, 0xf4,
        ]
        // mov rdx, [rsp]; add [data], rdx; iretq
        let handler: [UInt8] = [
            0x48, 0x8b, 0x14, 0x24, 0x48, 0x01, 0x14, 0x25, 0, 0, 2, 0, 0x48, 0xcf,
        ]
        machine.memory.write(code.span, at: MachineAddress(SystemMachine.code))
        machine.memory.write(
            handler.span, at: MachineAddress(SystemMachine.handlers + 0x40 * 16))
        processor.jump(to: SystemMachine.code)
        var moments: [Moment] = []
        for slice in 0..<600 as Range<UInt64> {
            if slice % 3 == 0 {
                machine.platform.interrupts.append(0x40)
                processor.interruptRequested = true
            }
            _ = processor.run(until: processor.retired + slice % 13 + 1)
            moments.append(
                Moment(
                    retired: processor.retired, rip: processor.rip, flags: processor.flags,
                    registers: [
                        processor[.rax], processor[.rbx], processor[.rcx], processor[.rdx],
                    ],
                    interrupted: machine.memory.load(
                        UInt64.self, at: MachineAddress(SystemMachine.data)) ?? 0))
        }
        return moments
    }

    @Test("interrupts come at the same instructions, and not in the shadow of STI")
    func interrupts() throws {
        let interpreted = try moments(.interpreter)
        let translated = try moments(.translator)
        for (slice, (a, b)) in zip(interpreted, translated).enumerated() {
            #expect(a == b, "slice \(slice)")
        }
        #expect((interpreted.last?.interrupted ?? 0) > SystemMachine.code * 20)
    }

    @Test("a jump goes where its page lies now: after a flush, and in another frame")
    func movedCode() throws {
        var ends: [[UInt64]] = []
        for engine in Engine.allCases {
            let machine = try BareMachine(engine)
            machine.mapSmall([0x60_0067])
            // inc rdx; ret, and in the other frame: lea rdx, [rdx + 0x10000]; ret
            machine.store([0x48, 0xff, 0xc2, 0xc3], at: 0x60_0000)
            machine.store([0x48, 0x8d, 0x92, 0, 0, 1, 0, 0xc3], at: 0x60_1000)
            let code: [UInt8] = [
                0xbb, 100, 0, 0, 0,  // mov ebx, 100
                0xff, 0xd7, 0xff, 0xcb, 0x75, 0xfa,  // call rdi; dec ebx; jnz back
                0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8,  // mov rax, cr3; mov cr3, rax
                0xbb, 100, 0, 0, 0, 0xff, 0xd7, 0xff, 0xcb, 0x75, 0xfa,
                0x48, 0x8b, 0x06, 0x48, 0x35, 0, 0x10, 0, 0,  // mov rax, [rsi]; xor rax, 0x1000
                0x48, 0x89, 0x06, 0x0f, 0x01, 0x3f,  // mov [rsi], rax; invlpg [rdi]
                0xeb, 0xd3,  // jmp to the start
            ]
            machine.processor[.rdx] = 0
            machine.processor[.rsi] = BareMachine.smallTable
            machine.processor[.rdi] = BareMachine.small
            #expect(machine.run(code, count: 20 * 1009) == .limit)
            let processor = machine.processor
            #expect(processor[.rdx] == 10 * 200 * 0x1_0001, "\(engine)")
            ends.append([
                processor.retired, processor.rip, processor.statistics.tlbMisses,
                processor.statistics.walkReferences,
            ])
        }
        #expect(ends[0] == ends[1])
    }
}
