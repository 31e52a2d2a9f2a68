import MachineMemory
import Processor
import Testing
import X86

/// What is around the host's arithmetic: which registers, which memory, which flags.
@Suite struct SSETests {
    let machine: VectorMachine

    init() throws { machine = try VectorMachine() }

    private func load(_ pairs: [Int: SIMD2<UInt64>]) {
        for (number, value) in pairs { machine.before[xmm: number] = value }
    }

    @Test("both register fields and their REX extensions name the registers that they should")
    func registerFields() {
        let first = SIMD2<Double>(1.5, -2.25)
        let second = SIMD2<Double>(3, 1e300)
        for (rex, a, b) in [(0, 1, 2), (0x44, 9, 2), (0x41, 1, 10), (0x45, 9, 10)] {
            machine.before = FXImage()
            machine.before[double: a] = first
            machine.before[double: b] = second
            let prefix: [UInt8] = rex == 0 ? [0x66] : [0x66, UInt8(rex)]
            #expect(machine.run(prefix + [0x0f, 0x58, 0xca]) == nil)  // addpd
            #expect(machine.after[double: a] == first + second)
            #expect(machine.after[double: b] == second)
            for other in 0..<16 where other != a && other != b {
                #expect(machine.after[xmm: other] == SIMD2(0, 0))
            }
        }
    }

    @Test("a memory source is read through base, index, scale and displacement")
    func memoryForms() {
        machine.store([0x0000_0002_0000_0001, 0x0000_0004_ffff_ffff])
        let before = SIMD2<UInt64>(0x0000_0010_0000_0020, 0x0000_0030_0000_0001)
        let sum = SIMD2<UInt64>(0x0000_0012_0000_0021, 0x0000_0034_0000_0000)
        load([9: before, 1: before])
        machine.processor[.r10] = VectorMachine.data - 0x50
        machine.processor[.r11] = 0x10
        // paddd xmm9, [r10+r11*4+0x10]
        #expect(machine.run([0x66, 0x47, 0x0f, 0xfe, 0x4c, 0x9a, 0x10]) == nil)
        #expect(machine.after[xmm: 9] == sum)
        // paddd xmm1, [ebx], with rubbish in RBX's upper half
        // bts rbx, 40; paddd xmm1, [ebx]
        #expect(
            machine.run([0x48, 0x0f, 0xba, 0xeb, 40, 0x67, 0x66, 0x0f, 0xfe, 0x0b]) == nil)
        #expect(machine.after[xmm: 1] == sum)
        // lea rcx, [rip+0x19]; then the same distance from the paddd: 7 bytes less 8 of its own.
        // jmp +16; 16 bytes of data; paddd xmm9, [rip-25]
        let inline: [UInt8] = [1, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 4, 0, 0, 0]
        // The data must be aligned: the prologue's length decides how many NOPs precede it.
        var aligned = false
        for padding in 0..<16 {
            let code =
                [UInt8](repeating: 0x90, count: padding) + [0xeb, 16] + inline
                + [0x66, 0x44, 0x0f, 0xfe, 0x0d] + [0xe7, 0xff, 0xff, 0xff]
            if machine.run(code) == nil {
                #expect(machine.after[xmm: 9] == sum)
                aligned = true
            }
        }
        #expect(aligned)
    }

    @Test("general registers are sources and destinations by their own numbers")
    func generalRegisters() {
        machine.processor[.r10] = UInt64(bitPattern: -7)
        machine.before[double: 2] = SIMD2(-123.75, 0)
        machine.before[double: 10] = SIMD2(9.5, -1)
        #expect(machine.run([0xf2, 0x49, 0x0f, 0x2a, 0xda]) == nil)  // cvtsi2sd xmm3, r10
        #expect(machine.after[double: 3][0] == -7)
        machine.processor[.rax] = 0xffff_ffff_0000_0005
        #expect(machine.run([0xf2, 0x44, 0x0f, 0x2a, 0xd8]) == nil)  // cvtsi2sd xmm11, eax
        #expect(machine.after[double: 11][0] == 5)
        #expect(machine.run([0xf2, 0x4c, 0x0f, 0x2c, 0xda]) == nil)  // cvttsd2si r11, xmm2
        #expect(machine.processor[.r11] == UInt64(bitPattern: -123))
        machine.processor[.rax] = .max
        #expect(machine.run([0xf2, 0x41, 0x0f, 0x2c, 0xc2]) == nil)  // cvttsd2si eax, xmm10
        #expect(machine.processor[.rax] == 9)
        machine.processor[.r9] = .max
        #expect(machine.run([0x66, 0x45, 0x0f, 0x50, 0xca]) == nil)  // movmskpd r9d, xmm10
        #expect(machine.processor[.r9] == 2)
    }

    @Test("inserts and extracts reach every lane, in registers and in memory")
    func lanes() {
        load([9: SIMD2(0x7766_5544_3322_1100, 0xffee_ddcc_bbaa_9988)])
        machine.processor[.r12] = .max
        #expect(machine.run([0x66, 0x45, 0x0f, 0xc5, 0xe1, 3]) == nil)  // pextrw r12d, xmm9, 3
        #expect(machine.processor[.r12] == 0x7766)
        // pextrq r13, xmm9, 1
        #expect(machine.run([0x66, 0x4d, 0x0f, 0x3a, 0x16, 0xcd, 1]) == nil)
        #expect(machine.processor[.r13] == 0xffee_ddcc_bbaa_9988)
        machine.store([0, 0])
        // pextrb [rbx], xmm9, 5
        #expect(machine.run([0x66, 0x44, 0x0f, 0x3a, 0x14, 0x0b, 5]) == nil)
        #expect(machine.word(VectorMachine.data) == 0x55)
        machine.processor[.r9] = 0x1_dead_beef
        // pinsrd xmm9, r9d, 2
        #expect(machine.run([0x66, 0x45, 0x0f, 0x3a, 0x22, 0xc9, 2]) == nil)
        #expect(machine.after[xmm: 9] == SIMD2(0x7766_5544_3322_1100, 0xffee_ddcc_dead_beef))
        machine.store([0x1234])
        #expect(machine.run([0x66, 0x0f, 0xc4, 0x0b, 7]) == nil)  // pinsrw xmm1, [rbx], 7
        #expect(machine.after[xmm: 1] == SIMD2(0, 0x1234 << 48))
        #expect(machine.run([0x66, 0x41, 0x0f, 0xd7, 0xc1]) == nil)  // pmovmskb eax, xmm9
        #expect(machine.processor[.rax] == 0xff00)
    }

    @Test("immediates stay with the re-encoded instruction")
    func immediates() {
        load([10: SIMD2(0x0000_0001_0000_0000, 0x0000_0003_0000_0002), 9: SIMD2(.max, .max)])
        // pshufd xmm9, xmm10, 0x1b
        #expect(machine.run([0x66, 0x45, 0x0f, 0x70, 0xca, 0x1b]) == nil)
        #expect(machine.after[xmm: 9] == SIMD2(0x0000_0002_0000_0003, 0x0000_0000_0000_0001))
        #expect(machine.run([0x66, 0x41, 0x0f, 0x73, 0xd9, 3]) == nil)  // psrldq xmm9, 3
        #expect(machine.after[xmm: 9] == SIMD2(.max, .max >> 24))
    }

    @Test("MOVD, MOVQ, MOVSS and MOVSD clear or keep the rest as they should")
    func partialMoves() {
        let full = SIMD2<UInt64>(0x1111_2222_3333_4444, 0x5555_6666_7777_8888)
        load([1: full, 2: SIMD2(0xaaaa_bbbb_cccc_dddd, 1), 9: full])
        machine.processor[.r9] = 0xfedc_ba98_7654_3210
        #expect(machine.run([0x66, 0x45, 0x0f, 0x6e, 0xc9]) == nil)  // movd xmm9, r9d
        #expect(machine.after[xmm: 9] == SIMD2(0x7654_3210, 0))
        #expect(machine.run([0x66, 0x4d, 0x0f, 0x6e, 0xc9]) == nil)  // movq xmm9, r9
        #expect(machine.after[xmm: 9] == SIMD2(0xfedc_ba98_7654_3210, 0))
        #expect(machine.run([0x66, 0x45, 0x0f, 0x7e, 0xca]) == nil)  // movd r10d, xmm9
        #expect(machine.processor[.r10] == 0x3333_4444)
        #expect(machine.run([0xf3, 0x41, 0x0f, 0x7e, 0xc9]) == nil)  // movq xmm1, xmm9
        #expect(machine.after[xmm: 1] == SIMD2(full[0], 0))
        #expect(machine.run([0xf3, 0x0f, 0x10, 0xca]) == nil)  // movss xmm1, xmm2
        #expect(machine.after[xmm: 1] == SIMD2(0x1111_2222_cccc_dddd, full[1]))
        machine.store([0x0123_4567_89ab_cdef])
        #expect(machine.run([0xf2, 0x0f, 0x10, 0x0b]) == nil)  // movsd xmm1, [rbx]
        #expect(machine.after[xmm: 1] == SIMD2(0x0123_4567_89ab_cdef, 0))
        #expect(machine.run([0x44, 0x0f, 0x16, 0x0b]) == nil)  // movhps xmm9, [rbx]
        #expect(machine.after[xmm: 9] == SIMD2(full[0], 0x0123_4567_89ab_cdef))
        #expect(machine.run([0x44, 0x0f, 0x17, 0x0b]) == nil)  // movhps [rbx], xmm9
        #expect(machine.word(VectorMachine.data) == full[1])
        #expect(machine.run([0x66, 0x44, 0x0f, 0x13, 0x0b]) == nil)  // movlpd [rbx], xmm9
        #expect(machine.word(VectorMachine.data) == full[0])
    }

    @Test("bitwise logic agrees with Swift's, from registers and from memory")
    func logic() {
        let a = SIMD2<UInt64>(0xf0f0_1234_5678_9abc, 0x0f0f_ffff_0000_aaaa)
        let b = SIMD2<UInt64>(0x00ff_00ff_00ff_00ff, 0x5555_5555_1234_4321)
        load([1: a, 9: b])
        machine.store([b[0], b[1]])
        let table: [(UInt8, SIMD2<UInt64>)] = [
            (0x54, a & b), (0x55, ~a & b), (0x56, a | b), (0x57, a ^ b),
        ]
        for (opcode, expected) in table {
            #expect(machine.run([0x41, 0x0f, opcode, 0xc9]) == nil)  // op xmm1, xmm9
            #expect(machine.after[xmm: 1] == expected)
            #expect(machine.run([0x0f, opcode, 0x0b]) == nil)  // op xmm1, [rbx]
            #expect(machine.after[xmm: 1] == expected)
            #expect(machine.run([0x66, 0x0f, opcode, 0x0b]) == nil)
            #expect(machine.after[xmm: 1] == expected)
        }
    }

    @Test("comparisons set all six arithmetic flags")
    func comparisonFlags() {
        let all = RFLAGS.arithmetic
        let cases: [(Double, Double, UInt64)] = [
            (1, 2, RFLAGS.carry), (2, 1, 0), (2, 2, RFLAGS.zero),
            (.nan, 2, RFLAGS.carry | RFLAGS.zero | RFLAGS.parity),
        ]
        for (left, right, expected) in cases {
            machine.before[double: 1] = SIMD2(left, 0)
            machine.before[double: 2] = SIMD2(right, 0)
            #expect(machine.run([0x66, 0x0f, 0x2f, 0xca]) == nil)  // comisd xmm1, xmm2
            #expect(machine.processor.flags & all == expected)
        }
        load([1: SIMD2(0xf0, 0), 9: SIMD2(0x0f, 0)])
        #expect(machine.run([0x66, 0x41, 0x0f, 0x38, 0x17, 0xc9]) == nil)  // ptest xmm1, xmm9
        #expect(machine.processor.flags & all == RFLAGS.zero)
    }

    @Test("string comparisons use their implicit registers")
    func stringComparisons() {
        func text(_ string: String) -> SIMD2<UInt64> {
            var image = FXImage()
            for (index, byte) in string.utf8.enumerated() { image.bytes[160 + index] = byte }
            return image[xmm: 0]
        }
        load([1: text("lo"), 2: text("hello, world")])
        machine.processor[.rcx] = .max
        #expect(machine.run([0x66, 0x0f, 0x3a, 0x63, 0xca, 0x0c]) == nil)  // pcmpistri ordered
        #expect(machine.processor[.rcx] == 3)
        #expect(machine.processor.flags & RFLAGS.carry != 0)
        // pcmpestri xmm1, [rbx+1], 0: any of the two characters, in the first RDX bytes
        machine.store([0, 0, 0])
        machine.write([0] + Array("zzzzzlzzzz".utf8))
        machine.processor[.rax] = 2
        machine.processor[.rdx] = 5
        #expect(machine.run([0x66, 0x0f, 0x3a, 0x61, 0x4b, 1, 0]) == nil)
        #expect(machine.processor[.rcx] == 16)
        #expect(machine.processor.flags & RFLAGS.carry == 0)
        machine.processor[.rax] = 2
        machine.processor[.rdx] = 6
        #expect(machine.run([0x66, 0x0f, 0x3a, 0x61, 0x4b, 1, 0]) == nil)
        #expect(machine.processor[.rcx] == 5)
        #expect(machine.processor[.rdx] == 6)
        #expect(machine.processor[.rax] == 2)
        // pcmpistrm xmm1, xmm2, 0x40: a byte mask of "l" and "o" in XMM0
        #expect(machine.run([0x66, 0x0f, 0x3a, 0x62, 0xca, 0x40]) == nil)
        #expect(machine.after[xmm: 0] == SIMD2(0x0000_00ff_ffff_0000, 0x0000_0000_00ff_00ff << 0))
    }

    @Test("variable blends take their mask from XMM0")
    func blends() {
        load([
            0: SIMD2(0x8000_0000_0000_0000, 0x0000_0000_8000_0000), 1: SIMD2(1, 2),
            2: SIMD2(0xaaaa_aaaa_bbbb_bbbb, 0xcccc_cccc_dddd_dddd),
        ])
        #expect(machine.run([0x66, 0x0f, 0x38, 0x14, 0xca]) == nil)  // blendvps
        #expect(machine.after[xmm: 1] == SIMD2(0xaaaa_aaaa_0000_0001, 0x0000_0000_dddd_dddd))
        #expect(machine.after[xmm: 0] == machine.before[xmm: 0])
    }

    @Test("16-byte operands must be aligned, except where the manual says not")
    func alignment() {
        func at(_ offset: UInt8, _ code: [UInt8]) -> ExceptionVector? {
            // add rbx, offset; code
            machine.run([0x48, 0x83, 0xc3, offset] + code)
        }
        let strict: [[UInt8]] = [
            [0x0f, 0x28, 0x0b], [0x44, 0x0f, 0x29, 0x0b], [0x0f, 0x58, 0x0b],
            [0x0f, 0x57, 0x0b], [0x66, 0x0f, 0x6f, 0x0b], [0x66, 0x0f, 0xe7, 0x0b],
            [0x66, 0x0f, 0x38, 0x2a, 0x0b], [0x66, 0x0f, 0x60, 0x0b],
        ]
        for code in strict {
            #expect(at(0, code) == nil)
            #expect(at(8, code) == .generalProtection)
        }
        let lax: [[UInt8]] = [
            [0x0f, 0x10, 0x0b], [0x0f, 0x11, 0x0b], [0xf2, 0x0f, 0xf0, 0x0b],
            [0xf2, 0x0f, 0x10, 0x0b], [0xf3, 0x0f, 0x6f, 0x0b], [0xf2, 0x0f, 0x58, 0x0b],
            [0x66, 0x0f, 0x3a, 0x63, 0x0b, 0],
        ]
        for code in lax { #expect(at(3, code) == nil) }
    }

    @Test("a store that runs into an unmapped page writes nothing")
    func tornStore() {
        let edge: UInt64 = 16 << 20
        load([9: SIMD2(1, 2)])
        machine.store([0x5555, 0x6666], at: edge - 16)
        // mov ebx, edge - 8; movups [rbx], xmm9
        let address: [UInt8] = [0xbb, 0xf8, 0xff, 0xff, 0x00]
        #expect(machine.run(address + [0x44, 0x0f, 0x11, 0x0b]) == .pageFault)
        #expect(machine.word(edge - 8) == 0x6666)
        #expect(machine.processor.cr2 == edge)
        #expect(machine.run(address + [0x0f, 0x10, 0x0b]) == .pageFault)
        #expect(machine.after[xmm: 1] == SIMD2(0, 0))
    }

    @Test("masked stores write the selected bytes alone")
    func maskedStores() {
        machine.store([0x1111_1111_1111_1111, 0x2222_2222_2222_2222])
        load([1: SIMD2(0x8877_6655_4433_2211, .max), 2: SIMD2(0x0080_0000_0000_8000, 1 << 63)])
        // mov rdi, rbx; maskmovdqu xmm1, xmm2
        #expect(machine.run([0x48, 0x89, 0xdf, 0x66, 0x0f, 0xf7, 0xca]) == nil)
        #expect(machine.word(VectorMachine.data) == 0x1177_1111_1111_2211)
        #expect(machine.word(VectorMachine.data + 8) == 0xff22_2222_2222_2222)
    }

    @Test("instructions that are not advertised are undefined")
    func notAdvertised() {
        let codes: [[UInt8]] = [
            [0xc5, 0xf0, 0x58, 0xc2],  // vaddps
            [0x66, 0x0f, 0x38, 0xdc, 0xca],  // aesenc
            [0x66, 0x0f, 0x3a, 0x44, 0xca, 0],  // pclmulqdq
            [0x0f, 0x38, 0xcb, 0xca],  // sha256rnds2
            [0x0f, 0x0f, 0xca, 0x9e],  // pfadd
            [0xf2, 0x0f, 0x79, 0xca],  // insertq
        ]
        for code in codes { #expect(machine.run(code) == .invalidOpcode) }
    }

    @Test("more distinct instructions than there is room for stubs are executed all the same")
    func manyStubs() {
        var lanes: [UInt32] = [10, 20, 30, 40]
        load([5: SIMD2(20 << 32 | 10, 40 << 32 | 30)])
        // PSHUFD with every immediate from and to every register: some 60 000 instructions. XMM5 is
        // written from itself only, by permutations.
        for immediate in 0..<256 as Range<Int> {
            var code: [UInt8] = []
            let isPermutation = Set((0..<4).map { immediate >> (2 * $0) & 3 }).count == 4
            for register in 0..<256 {
                let (to, from) = (UInt8(register & 15), UInt8(register >> 4))
                guard to != 5 || from == 5 && isPermutation else { continue }
                code += [0x66, 0x40 | (to >> 3) << 2 | from >> 3, 0x0f, 0x70]
                code += [0xc0 | (to & 7) << 3 | from & 7, UInt8(immediate)]
            }
            #expect(machine.run(code) == nil)
            if isPermutation { lanes = (0..<4).map { lanes[immediate >> (2 * $0) & 3] } }
            let expected = SIMD2(
                UInt64(lanes[1]) << 32 | UInt64(lanes[0]),
                UInt64(lanes[3]) << 32 | UInt64(lanes[2]))
            #expect(machine.after[xmm: 5] == expected)
            machine.before = machine.after
        }
    }
}
