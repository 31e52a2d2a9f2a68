import Processor
import Testing
import X86

/// x87 arithmetic through the host, and the control instructions that are Penumbra's own.
@Suite struct X87Tests {
    let machine: VectorMachine
    private let one = SIMD2<UInt64>(0x8000_0000_0000_0000, 0x3fff)

    init() throws { machine = try VectorMachine() }

    private func double(at offset: UInt64) -> Double {
        Double(bitPattern: machine.word(VectorMachine.data + offset))
    }

    @Test("loads, arithmetic and stores of every format go through guest memory")
    func formats() {
        machine.store([(1.5).bitPattern, (-4.25).bitPattern, 0])
        // fld qword [rbx]; fadd qword [rbx+8]; fstp qword [rbx+16]
        #expect(machine.run([0xdd, 0x03, 0xdc, 0x43, 8, 0xdd, 0x5b, 16]) == nil)
        #expect(double(at: 16) == -2.75)
        #expect(machine.after.tags == 0)
        #expect(machine.after.fsw & 0x3800 == 0)
        machine.store([0x8000_0000_0000_0001, 0xaaaa_aaaa_aaaa_c001, 0, 0xbbbb_bbbb_bbbb_bbbb])
        // fld tbyte [rbx]; fstp tbyte [rbx+16]: ten bytes and no more
        #expect(machine.run([0xdb, 0x2b, 0xdb, 0x7b, 16]) == nil)
        #expect(machine.word(VectorMachine.data + 16) == 0x8000_0000_0000_0001)
        #expect(machine.word(VectorMachine.data + 24) == 0xbbbb_bbbb_bbbb_c001)
        machine.store([UInt64(bitPattern: -1_234_567_890_123), 0])
        // fild qword [rbx]; fistp qword [rbx+8]
        #expect(machine.run([0xdf, 0x2b, 0xdf, 0x7b, 8]) == nil)
        #expect(machine.word(VectorMachine.data + 8) == UInt64(bitPattern: -1_234_567_890_123))
        machine.store([UInt64((2.5 as Float).bitPattern), 0])
        // fld dword [rbx]; fisttp word [rbx+8]
        #expect(machine.run([0xd9, 0x03, 0xdf, 0x4b, 8]) == nil)
        #expect(machine.word(VectorMachine.data + 8) == 2)
    }

    @Test("the register stack, its tags and TOP are kept between instructions")
    func stack() {
        // fld1; fldz; fldpi; fxch st(2): one at the top
        #expect(machine.run([0xd9, 0xe8, 0xd9, 0xee, 0xd9, 0xeb, 0xd9, 0xca]) == nil)
        #expect(machine.after[st: 0] == one)
        #expect(machine.after[st: 1] == SIMD2(0, 0))
        #expect(machine.after[st: 2] == SIMD2(0xc90f_daa2_2168_c235, 0x4000))
        #expect(machine.after.tags == 0b1110_0000)
        #expect(machine.after.fsw >> 11 & 7 == 5)
    }

    @Test("no host address shows in the saved instruction and operand pointers")
    func pointers() {
        machine.store([(1.5).bitPattern])
        #expect(machine.run([0xdd, 0x03, 0xd9, 0xee, 0xde, 0xf9]) == nil)
        #expect(machine.after[8, 8] < 0x100000)
        #expect(machine.after[16, 8] == 0)
        #expect(machine.after[28, 4] == 0xffff)
        // Some hosts save them only while an exception is pending.
        machine.store([0])
        machine.before.fcw = 0x037b
        // fld1; fdiv qword [rbx]
        #expect(machine.run([0xd9, 0xe8, 0xdc, 0x33]) == nil)
        #expect(machine.after.fsw & 0x84 == 0x84)
        #expect(machine.after[8, 8] < 0x100000)
        #expect(machine.after[16, 8] == VectorMachine.data)
    }

    @Test("the full tag word tells special values from ordinary ones and zeros")
    func tags() {
        let values: [(SIMD2<UInt64>, UInt64)] = [
            (SIMD2(1 << 63, 0x3fff), 0), (SIMD2(0, 0x8000), 1), (SIMD2(1 << 63, 0x7fff), 2),
            (SIMD2(3 << 62, 0xffff), 2), (SIMD2(1, 0), 2), (SIMD2(1, 0x3fff), 2),
        ]
        for (index, value) in values.enumerated() { machine.before[st: index] = value.0 }
        machine.before.tags = 0x3f
        #expect(machine.run([0xd9, 0x33]) == nil)  // fnstenv [rbx]
        var expected: UInt64 = 0xf000
        for (index, value) in values.enumerated() { expected |= value.1 << UInt64(2 * index) }
        #expect(machine.word(VectorMachine.data + 8) & 0xffff == expected)
    }

    @Test("FCOMI writes EFLAGS and FCMOV reads them")
    func flags() {
        // fld1; fldz; fcomip st, st(1): 0 < 1
        #expect(machine.run([0xd9, 0xe8, 0xd9, 0xee, 0xdf, 0xf1]) == nil)
        #expect(machine.processor.flags & RFLAGS.arithmetic == RFLAGS.carry)
        for (setFlag, moved) in [(0xf9 as UInt8, true), (0xf8, false)] {
            // fld1; fldz; stc or clc; fcmovb st, st(1)
            #expect(machine.run([0xd9, 0xe8, 0xd9, 0xee, setFlag, 0xda, 0xc1]) == nil)
            #expect(machine.after[st: 0] == (moved ? one : SIMD2(0, 0)))
        }
    }

    @Test("FNSTSW reports the condition in AX and leaves the rest of RAX")
    func statusInAX() {
        machine.processor[.rax] = 0x1111_2222_3333_4444
        // fld1; fldz; fcom st(1); fnstsw ax
        #expect(machine.run([0xd9, 0xe8, 0xd9, 0xee, 0xd8, 0xd1, 0xdf, 0xe0]) == nil)
        #expect(machine.processor[.rax] == 0x1111_2222_3333_3100)
    }

    @Test("precision and rounding control are the guest's")
    func control() {
        machine.store([(3 as Double).bitPattern, 0])
        let cases: [(UInt16, UInt64)] = [
            (0x037f, 0xaaaa_aaaa_aaaa_aaab), (0x0f7f, 0xaaaa_aaaa_aaaa_aaaa),
            (0x007f, 0xaaaa_ab00_0000_0000),
        ]
        for (word, expected) in cases {
            machine.before.fcw = word
            // fld1; fdiv qword [rbx]
            #expect(machine.run([0xd9, 0xe8, 0xdc, 0x33]) == nil)
            #expect(machine.after[st: 0] == SIMD2(expected, 0x3ffd))
            #expect(machine.after.fcw == word)
        }
        // fldcw [rbx]; fnstcw [rbx+8]: bits that do not exist
        machine.store([0xffff, 0])
        machine.before.fcw = 0x037f
        #expect(machine.run([0xd9, 0x2b, 0xd9, 0x7b, 8]) == nil)
        #expect(machine.word(VectorMachine.data + 8) == 0x1f7f)
    }

    @Test("an unmasked exception is pending until the next instruction that waits")
    func pendingException() {
        machine.before.fcw = 0x037b  // zero divide unmasked
        // fld1; fldz; fdivp
        let divide: [UInt8] = [0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9]
        #expect(machine.run(divide) == nil)
        #expect(machine.after.fsw & 0x80ff == 0x8084)
        // The operands are still there.
        #expect(machine.after[st: 0] == SIMD2(0, 0))
        #expect(machine.after[st: 1] == one)
        #expect(machine.run(divide + [0x9b]) == .floatingPoint)  // fwait
        #expect(machine.run(divide + [0xd9, 0xe8]) == .floatingPoint)  // fld1
        #expect(machine.run(divide + [0x0f, 0xfc, 0xca]) == .floatingPoint)  // paddb mm1, mm2
        #expect(machine.run(divide + [0xdf, 0xe0]) == nil)  // fnstsw ax
        #expect(machine.run(divide + [0xdb, 0xe2, 0xd9, 0xe8]) == nil)  // fnclex; fld1
        #expect(machine.after[st: 0] == one)
        #expect(machine.run(divide + [0xdb, 0xe3, 0x9b]) == nil)  // fninit; fwait
    }

    @Test("unmasking a flag that is set makes it pending")
    func unmaskingLater() {
        machine.store([0x037b])
        // fld1; fldz; fdivp; fldcw [rbx]; fwait
        #expect(
            machine.run([0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0xd9, 0x2b, 0x9b]) == .floatingPoint)
    }

    @Test("a store that overflows, unmasked, leaves memory and the stack alone")
    func suppressedStore() {
        machine.store([(1e300).bitPattern, 0x7777_7777_7777_7777])
        machine.before.fcw = 0x0377  // overflow unmasked
        // fld qword [rbx]; fstp dword [rbx+8]
        #expect(machine.run([0xdd, 0x03, 0xd9, 0x5b, 8]) == nil)
        #expect(machine.word(VectorMachine.data + 8) == 0x7777_7777_7777_7777)
        #expect(machine.after.tags == 0x80)
        #expect(machine.after.fsw & 0x88 == 0x88)
        // Inexact alone stores, and pops.
        machine.store([(0.1).bitPattern, 0])
        machine.before.fcw = 0x035f
        #expect(machine.run([0xdd, 0x03, 0xd9, 0x5b, 8]) == nil)
        #expect(machine.word(VectorMachine.data + 8) == UInt64((0.1 as Float).bitPattern))
        #expect(machine.after.tags == 0)
        #expect(machine.after.fsw & 0xa0 == 0xa0)
    }

    @Test("a store that faults does not pop")
    func faultingStore() {
        // fld1; mov ebx, 16 MiB; fstp qword [rbx]
        #expect(machine.run([0xd9, 0xe8, 0xbb, 0, 0, 0, 1, 0xdd, 0x1b]) == .pageFault)
        #expect(machine.after.tags == 0x80)
        #expect(machine.after[st: 0] == one)
    }

    @Test("FNSTENV stores the full tag word and masks exceptions; FLDENV brings all back")
    func environment() {
        machine.before.fcw = 0x037e
        // fldz; fld1; fnstenv [rbx]
        #expect(machine.run([0xd9, 0xee, 0xd9, 0xe8, 0xd9, 0x33]) == nil)
        #expect(machine.word(VectorMachine.data) == 0xffff_3000_ffff_037e)
        #expect(machine.word(VectorMachine.data + 8) & 0xffff_ffff == 0xffff_4fff)
        #expect(machine.word(VectorMachine.data + 16) == 0)
        #expect(machine.word(VectorMachine.data + 24) & 0xffff_ffff == 0xffff_0000)
        #expect(machine.after.fcw == 0x037f)
        // … fstp st(0); fldenv [rbx]
        #expect(
            machine.run([0xd9, 0xee, 0xd9, 0xe8, 0xd9, 0x33, 0xdd, 0xd8, 0xd9, 0x23]) == nil)
        #expect(machine.after.fcw == 0x037e)
        #expect(machine.after.fsw == 0x3000)
        #expect(machine.after.tags == 0xc0)
        #expect(machine.after[st: 0] == one)
        // The 16-bit form.
        machine.store([0, 0, 0, 0])
        #expect(machine.run([0xd9, 0xee, 0x66, 0xd9, 0x33]) == nil)
        #expect(machine.word(VectorMachine.data) & ~0 >> 16 == 0x7fff_3800_037e)
        #expect(machine.word(VectorMachine.data + 8) == 0)
    }

    @Test("FNSAVE stores the stack and initializes; FRSTOR restores it")
    func saveAndRestore() {
        // fldz; fld1; fnsave [rbx]
        let save: [UInt8] = [0xd9, 0xee, 0xd9, 0xe8, 0xdd, 0x33]
        #expect(machine.run(save) == nil)
        #expect(machine.after.fcw == 0x037f)
        #expect(machine.after.fsw == 0)
        #expect(machine.after.tags == 0)
        let area = machine.read(count: 108)
        #expect(Array(area[28..<38]) == [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f])
        #expect(Array(area[38..<48]) == [UInt8](repeating: 0, count: 10))
        #expect(machine.run(save + [0xdd, 0x23]) == nil)  // frstor [rbx]
        #expect(machine.after.fsw == 0x3000)
        #expect(machine.after.tags == 0xc0)
        #expect(machine.after[st: 0] == one)
        #expect(machine.after[st: 1] == SIMD2(0, 0))
    }

    @Test("FNINIT keeps the registers' contents where they are")
    func initialization() {
        // fldz; fld1 (physical 6); fninit
        #expect(machine.run([0xd9, 0xee, 0xd9, 0xe8, 0xdb, 0xe3]) == nil)
        #expect(machine.after.tags == 0)
        #expect(machine.after[st: 6] == one)
    }
}

/// MMX: the x87 registers under another name.
@Suite struct MMXTests {
    let machine: VectorMachine

    init() throws { machine = try VectorMachine() }

    @Test("an MMX write sets TOP to 0, all tags valid, and the exponent to ones")
    func aliasing() {
        machine.store([0x0101_0101_0101_0101, 0x7f02_0304_0506_07ff])
        // movq mm1, [rbx]; movq mm2, [rbx+8]; paddb mm1, mm2; movq [rbx], mm1
        #expect(
            machine.run([
                0x0f, 0x6f, 0x0b, 0x0f, 0x6f, 0x53, 8, 0x0f, 0xfc, 0xca, 0x0f, 0x7f, 0x0b,
            ]) == nil)
        #expect(machine.word(VectorMachine.data) == 0x8003_0405_0607_0800)
        #expect(machine.after[st: 1] == SIMD2(0x8003_0405_0607_0800, 0xffff))
        #expect(machine.after.tags == 0xff)
        #expect(machine.run([0x0f, 0x6f, 0x0b, 0x0f, 0x77]) == nil)  // movq; emms
        #expect(machine.after.tags == 0)
    }

    @Test("MMX registers are physical ones whatever TOP was")
    func physical() {
        machine.store([0x1234])
        // fld1 (physical 7); movq mm0, [rbx]
        #expect(machine.run([0xd9, 0xe8, 0x0f, 0x6f, 0x03]) == nil)
        #expect(machine.after.fsw & 0x3800 == 0)
        #expect(machine.after[st: 0][0] == 0x1234)
        #expect(machine.after[st: 7] == SIMD2(0x8000_0000_0000_0000, 0x3fff))
    }

    @Test("values pass between MMX, XMM and general registers")
    func transfers() {
        machine.before[xmm: 9] = SIMD2(0x8000_0000_0000_0080, 7)
        machine.processor[.rcx] = .max
        // movdq2q mm3, xmm9; pmovmskb ecx, mm3; movq2dq xmm10, mm3
        #expect(
            machine.run([
                0xf2, 0x41, 0x0f, 0xd6, 0xd9, 0x0f, 0xd7, 0xcb, 0xf3, 0x44, 0x0f, 0xd6, 0xd3,
            ]) == nil)
        #expect(machine.processor[.rcx] == 0x81)
        #expect(machine.after[xmm: 10] == SIMD2(0x8000_0000_0000_0080, 0))
        machine.processor[.r9] = 0x0000_0003_ffff_fffe
        // movq mm2, r9; cvtpi2ps xmm1, mm2
        #expect(machine.run([0x49, 0x0f, 0x6e, 0xd1, 0x0f, 0x2a, 0xca]) == nil)
        #expect(machine.after[xmm: 1][0] == 0x4040_0000_c000_0000)
    }

    @Test("an unmasked SIMD exception leaves the MMX destination alone")
    func unmasked() {
        machine.before.mxcsr = 0x1f80 & ~0x80
        machine.before[xmm: 2] = SIMD2(0x7fc0_0000_7fc0_0000, 0)
        machine.before[st: 1] = SIMD2(0x55, 0x1234)
        #expect(machine.run([0x0f, 0x2d, 0xca]) == .simdFloatingPoint)  // cvtps2pi mm1, xmm2
        #expect(machine.after[st: 1] == SIMD2(0x55, 0x1234))
        #expect(machine.after.tags == 0)
        #expect(machine.after.mxcsr == 0x1f80 & ~0x80 | 1)
    }

    @Test("MASKMOVQ stores the selected bytes and enters MMX state")
    func maskedStore() {
        machine.store([0x1111_1111_1111_1111])
        machine.before[st: 1] = SIMD2(0x8877_6655_4433_2211, 0)
        machine.before[st: 2] = SIMD2(0x8000_0000_0000_8000, 0)
        // mov rdi, rbx; maskmovq mm1, mm2
        #expect(machine.run([0x48, 0x89, 0xdf, 0x0f, 0xf7, 0xca]) == nil)
        #expect(machine.word(VectorMachine.data) == 0x8811_1111_1111_2211)
        #expect(machine.after.tags == 0xff)
    }
}
