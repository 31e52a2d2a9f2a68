import MachineMemory
import Processor
import Testing
import X86

/// The translator against the interpreter: the same code from the same state, everything compared,
/// flags that the architecture leaves undefined too.
@Suite(.enabled(if: Engine.translatorLack == nil)) struct EngineLockstepTests {
    /// Two machines, one an engine.
    struct Pair {
        let interpreted: BareMachine
        let translated: BareMachine

        init() throws {
            interpreted = try BareMachine(.interpreter)
            translated = try BareMachine(.translator)
        }

        var all: [BareMachine] { [interpreted, translated] }

        /// What differs between the two; nil where nothing does.
        func difference() -> String? {
            let a = interpreted.processor
            let b = translated.processor
            for register in GeneralRegister.allCases where a[register] != b[register] {
                return "\(register): \(String(a[register], radix: 16)) and "
                    + String(b[register], radix: 16)
            }
            if a.flags != b.flags {
                return "flags: \(String(a.flags, radix: 16)) and \(String(b.flags, radix: 16))"
            }
            if a.rip != b.rip {
                return "rip: \(String(a.rip, radix: 16)) and \(String(b.rip, radix: 16))"
            }
            if a.retired != b.retired { return "retired: \(a.retired) and \(b.retired)" }
            let start = MachineAddress(BareMachine.data)
            for page in 0..<2 as Range<UInt64> {
                let x = interpreted.memory.read(at: start + page * 4096, count: 4096)
                let y = translated.memory.read(at: start + page * 4096, count: 4096)
                if x != y { return "memory" }
            }
            return nil
        }
    }

    @Test("one integer instruction does the same under both engines, undefined flags included")
    func instructions() throws {
        var generator = SeededGenerator(seed: 7)
        let tests = HostDifferentialTests()
        let pair = try Pair()
        for template in HostDifferentialTests.templates {
            for _ in 0..<40 {
                guard let (code, _, count) = tests.encode(template, &generator) else { continue }
                var state = (0..<16).map { _ in tests.interesting(&generator) }
                let flags = generator.next() & RFLAGS.arithmetic | 2
                if let count { state[1] = UInt64(count) }
                let word = tests.interesting(&generator)
                for machine in pair.all {
                    machine.memory.store(word, at: MachineAddress(BareMachine.data))
                    for register in GeneralRegister.allCases where register != .rsp {
                        machine.processor[register] = state[Int(register.rawValue)]
                    }
                    machine.processor[.rsi] = BareMachine.data
                    machine.processor.flags = flags
                    #expect(machine.run(code + [0xeb, 0], count: 2) == .limit)
                }
                let hex = code.map { String($0, radix: 16) }.joined(separator: " ")
                #expect(
                    pair.difference() == nil,
                    "\(template.name): \(hex), \(pair.difference() ?? "")")
            }
        }
    }

    @Test("random blocks with loops end in the same state", arguments: 0..<60 as Range<UInt64>)
    func blocks(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed &* 977 &+ 5)
        let tests = HostDifferentialTests()
        let pair = try Pair()
        var body: [UInt8] = []
        for _ in 0..<12 {
            let template = HostDifferentialTests.templates.randomElement(using: &generator)
            guard let template,
                let (code, _, _) = tests.encode(template, &generator)
            else { continue }
            body += code
            // RSI stays a pointer to the data, and sometimes the stack and a jump take part.
            body += [0xbe] + (0..<4).map { UInt8(truncatingIfNeeded: BareMachine.data >> ($0 * 8)) }
            switch generator.next() % 6 {
            case 0: body += [0x50, 0x41, 0x59]  // push rax; pop r9
            case 1: body += [0x74, 0x02, 0x48, 0xff, 0xc3]  // jz over the half of inc rbx
            case 2: body += [0xe8, 0, 0, 0, 0, 0x58, 0x30, 0xc0]  // call next; pop rax; xor al, al
            case 3: body += [0x48, 0x89, 0x06, 0x4c, 0x03, 0x4e, 0x03]  // mov, add r9, [rsi+3]
            default: break
            }
        }
        // dec qword [data + 64]; jnz start; jmp .
        var code = body
        code += [0x48, 0xff, 0x0c, 0x25, 0x40, 0, 2, 0, 0x0f, 0x85]
        let back = UInt32(bitPattern: Int32(-(code.count + 4)))
        code += (0..<4).map { UInt8(truncatingIfNeeded: back >> UInt32($0 * 8)) } + [0xeb, 0xfe]
        let state = (0..<16).map { _ in tests.interesting(&generator) }
        for machine in pair.all {
            machine.memory.store(UInt64(6), at: MachineAddress(BareMachine.data + 64))
            for register in GeneralRegister.allCases where register != .rsp {
                machine.processor[register] = state[Int(register.rawValue)]
            }
            machine.processor[.rsi] = BareMachine.data
            _ = machine.run(code, count: 0)
        }
        // In slices of odd lengths, so that blocks are also cut.
        for slice in [1, 7, 100, 3, 50, 211] as [UInt64] {
            let exits = pair.all.map { machine in
                machine.processor.run(until: machine.processor.retired + slice)
            }
            #expect(exits[0] == exits[1])
            #expect(pair.difference() == nil, "after \(slice): \(pair.difference() ?? "")")
        }
    }
}

/// What the lockstep tests do not meet.
@Suite(.enabled(if: Engine.translatorLack == nil)) struct TranslatorTests {
    @Test("a limit that is never reached does not keep translated code from running")
    func farLimit() throws {
        let machine = try BareMachine(.translator)
        // dec ecx; jnz to it; hlt
        machine.processor[.rcx] = 1000
        machine.store([0xff, 0xc9, 0x75, 0xfc, 0xf4], at: BareMachine.code)
        machine.processor.jump(to: BareMachine.code)
        #expect(machine.processor.run(until: .max) == .halted)
        #expect(machine.processor.retired == 2001)
    }

    @Test("a jump that was left for a limit is not chained to where the guest goes on")
    func chainAfterLimit() throws {
        let machine = try BareMachine(.translator)
        // a: inc eax; jmp b; b: inc ebx; inc ecx; jmp a
        machine.store(
            [0xff, 0xc0, 0xeb, 0, 0xff, 0xc3, 0xff, 0xc1, 0xeb, 0xf6], at: BareMachine.code)
        machine.processor.jump(to: BareMachine.code)
        for register in [.rax, .rbx, .rcx] as [GeneralRegister] { machine.processor[register] = 0 }
        // Blocks are cut in every place.
        for slice in 1..<40 as Range<UInt64> {
            _ = machine.processor.run(until: machine.processor.retired + slice)
        }
        let rounds = machine.processor.retired / 5
        let rest = machine.processor.retired % 5
        #expect(machine.processor[.rax] == rounds + (rest >= 1 ? 1 : 0))
        #expect(machine.processor[.rbx] == rounds + (rest >= 3 ? 1 : 0))
        #expect(machine.processor[.rcx] == rounds + (rest >= 4 ? 1 : 0))
    }

    @Test("code that rewrites itself behaves as under the interpreter")
    func selfModification() throws {
        // add eax, 1; inc byte [its immediate]; dec ecx; jnz to the start; hlt
        let code: [UInt8] = [
            0x83, 0xc0, 0x01, 0xfe, 0x05, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xc9, 0x75, 0xf3, 0xf4,
        ]
        for engine in Engine.allCases {
            let machine = try BareMachine(engine)
            machine.processor[.rax] = 0
            machine.processor[.rcx] = 10
            machine.store(code, at: BareMachine.code)
            machine.processor.jump(to: BareMachine.code)
            #expect(machine.processor.run(until: 1000) == .halted)
            #expect(machine.processor[.rax] == 55)
        }
    }

    @Test("a store that faults leaves registers and flags as they were before it")
    func preciseFault() throws {
        for engine in Engine.allCases {
            let machine = try BareMachine(engine)
            machine.mapSmall([0])
            machine.processor[.rax] = 1
            machine.processor[.rbx] = BareMachine.small
            // sub eax, 1; mov [rbx], rcx; nop; jmp .
            machine.store(
                [0x83, 0xe8, 1, 0x48, 0x89, 0x0b, 0x90, 0xeb, 0xfe], at: BareMachine.code)
            machine.processor.jump(to: BareMachine.code)
            // There is no IDT: the fault becomes a shutdown, at the store.
            _ = machine.processor.run(until: 100)
            #expect(machine.processor.cr2 == BareMachine.small)
            #expect(machine.processor.rip == BareMachine.code + 3)
            #expect(machine.processor.retired == 1)
            #expect(machine.processor[.rax] == 0)
            #expect(machine.processor.flags & RFLAGS.arithmetic == RFLAGS.zero | RFLAGS.parity)
        }
    }
}
