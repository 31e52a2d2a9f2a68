import Processor
import Testing
import X86

/// FIP, FDP and FOP: what FXSAVE and FNSTENV tell of the last x87 instruction.
@Suite struct X87PointerTests {
    let machine: VectorMachine
    /// lea rax, [rip]: what follows is at RAX.
    private static let here: [UInt8] = [0x48, 0x8d, 0x05, 0, 0, 0, 0]

    init() throws { machine = try VectorMachine() }

    private var here: UInt64 { machine.processor[.rax] }

    @Test("FIP is the last instruction that is not about control")
    func instruction() {
        machine.store([(1.5).bitPattern])
        // fld qword [rbx]; fld1; fdivp; fnstcw [rbx]; fldcw [rbx]; fnstsw [rbx]; fwait
        let code: [UInt8] = [
            0xdd, 0x03, 0xd9, 0xe8, 0xde, 0xf9, 0xd9, 0x3b, 0xd9, 0x2b, 0xdd, 0x3b, 0x9b,
        ]
        #expect(machine.run(Self.here + code) == nil)
        #expect(machine.after[8, 8] == here + 4)
        // No exception was unmasked.
        #expect(machine.after[16, 8] == 0)
        #expect(machine.after[6, 2] == 0)
    }

    @Test("FOP and FDP are those of an instruction with an unmasked exception")
    func exception() {
        machine.store([0])
        machine.before.fcw = 0x037b
        // fld1; fdiv qword [rbx]; then it waits: fld1
        #expect(
            machine.run(Self.here + [0xd9, 0xe8, 0xdc, 0x33, 0xd9, 0xe8]) == .floatingPoint)
        #expect(machine.after[8, 8] == here + 2)
        #expect(machine.after[6, 2] == 0x433)
        #expect(machine.after[16, 8] == VectorMachine.data)
        // fnstenv [rbx]
        #expect(machine.run(Self.here + [0xd9, 0xe8, 0xdc, 0x33, 0xd9, 0x33]) == nil)
        #expect(machine.word(VectorMachine.data + 8) >> 32 == here + 2)
        #expect(machine.word(VectorMachine.data + 16) == VectorMachine.data << 32 | 0x433_0000)
    }

    @Test("a store that faults leaves FIP as it was")
    func fault() {
        // mov rbx, 1 << 46; fld1; fstp qword [rbx]
        let far: [UInt8] = [0x48, 0xbb, 0, 0, 0, 0, 0, 0x40, 0, 0]
        #expect(machine.run(far + Self.here + [0xd9, 0xe8, 0xdd, 0x1b]) == .pageFault)
        #expect(machine.after[8, 8] == here)
    }

    @Test("FXRSTOR and FLDENV load the pointers, FNINIT clears them")
    func loads() {
        for (offset, value) in [(8, 0x1234_5678_9abc), (16, 0x7fff_1111_2222)] as [(Int, UInt64)] {
            for byte in 0..<8 {
                machine.before.bytes[offset + byte] = UInt8(truncatingIfNeeded: value >> (8 * byte))
            }
        }
        machine.before.bytes[6] = 0x21
        machine.before.bytes[7] = 3
        #expect(machine.run([]) == nil)
        #expect(machine.after[8, 8] == 0x1234_5678_9abc)
        #expect(machine.after[16, 8] == 0x7fff_1111_2222)
        #expect(machine.after[6, 2] == 0x321)
        // fnstenv [rbx]; fninit; fldenv [rbx]
        #expect(machine.run([0xd9, 0x33, 0xdb, 0xe3, 0xd9, 0x23]) == nil)
        #expect(machine.after[8, 8] == 0x5678_9abc)
        #expect(machine.after[16, 8] == 0x1111_2222)
        #expect(machine.after[6, 2] == 0x321)
        #expect(machine.run([0xdb, 0xe3]) == nil)
        #expect(machine.after[8, 8] == 0)
        #expect(machine.after[16, 8] == 0)
    }

    @Test("an FIP that was loaded does not mix with one that is recorded in the same block")
    func loadedBetween() {
        // fld1; fnstenv [rbx]; fldenv [rbx]; fld1; nop
        #expect(
            machine.run(Self.here + [0xd9, 0xe8, 0xd9, 0x33, 0xd9, 0x23, 0xd9, 0xe8, 0x90]) == nil)
        #expect(machine.after[8, 8] == here + 6)
    }
}
