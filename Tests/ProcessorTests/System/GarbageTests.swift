import MachineMemory
import Processor
import Testing
import X86

/// Guests that execute garbage: the machine goes on or ends as hardware would, and never traps.
@Suite struct GarbageTests {
    /// SplitMix64.
    struct Generator: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var value = state
            value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
            value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
            return value ^ (value >> 31)
        }
    }

    /// Opcodes of system instructions, so that the garbage meets them often.
    static let seeds: [[UInt8]] = [
        [0x0f, 0x22], [0x0f, 0x20], [0x0f, 0x23], [0x0f, 0x30], [0x0f, 0x00], [0x0f, 0x01],
        [0x8e], [0xcf], [0x48, 0xcf], [0xcb], [0xff], [0xea], [0x9a], [0x9d], [0xcd], [0x62],
        [0xc4], [0x0f, 0xb2], [0x0f, 0x05], [0x0f, 0x07], [0x0f, 0x34], [0x0f, 0x35], [0xf3, 0x6e],
        [0x6d], [0x0f, 0x02], [0x0f, 0x03], [0x17], [0x1f], [0x66, 0x0f, 0x38, 0x82],
    ]

    @Test(
        "random code with random descriptor tables neither traps nor leaves privilege 0…3",
        arguments: [SystemMachine.Mode.real, .protected, .long])
    func code(_ mode: SystemMachine.Mode) throws {
        for seed in 0..<60 as Range<UInt64> {
            var random = Generator(state: seed)
            let machine = try SystemMachine(mode)
            if seed % 3 == 1 { machine.enterUser(flags: 0x3302) }
            if seed % 2 == 1 {
                for offset in stride(from: 8 as UInt64, to: 0x90, by: 8) {
                    machine.store(random.next(), at: SystemMachine.gdt + offset)
                }
                for offset in stride(from: 0 as UInt64, to: 0x200, by: 8) {
                    // Mostly valid types, so that deliveries get far.
                    let noise = random.next()
                    machine.store(
                        noise & 0xffff_9fff_00ff_ffff | 0x0000_8600_0000_0000,
                        at: SystemMachine.idt + offset)
                    if offset < 0x68 { machine.store(noise, at: SystemMachine.tss + offset) }
                }
            }
            for number in GeneralRegister.allCases where number != .rsp {
                machine.processor[number] = random.next() & (seed % 5 == 0 ? .max : 0xff_ffff)
            }
            // A repeated instruction counts as one, however long it takes: few iterations.
            machine.processor[.rcx] &= 0xff
            var code: [UInt8] = []
            while code.count < 256 {
                code += Self.seeds.randomElement(using: &random) ?? []
                let noise = random.next()
                code += bytes(noise).prefix(Int(noise >> 60))
            }
            machine.platform.interrupts = [0x21, 0x22]
            machine.processor.interruptRequested = true
            machine.platform.keepsLog = false
            machine.run(code)
            for _ in 0..<4 { machine.proceed() }
            #expect(machine.processor.privilegeLevel <= 3, "seed \(seed)")
        }
    }
}
