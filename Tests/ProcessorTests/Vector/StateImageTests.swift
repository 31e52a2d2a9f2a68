import Processor
import Testing
import X86

/// FXSAVE and XSAVE: layout, alignment, reserved bits, header rules.
@Suite struct StateImageTests {
    let machine: VectorMachine
    private let xsave: [UInt8] = [0x48, 0x0f, 0xae, 0x23]
    private let xrstor: [UInt8] = [0x48, 0x0f, 0xae, 0x2b]

    init() throws { machine = try VectorMachine() }

    /// mov eax, components; xor edx, edx
    private func request(_ components: UInt8) -> [UInt8] {
        [0xb8, components, 0, 0, 0, 0x31, 0xd2]
    }

    /// XCR0 := components, CR4.OSXSAVE set.
    private func enable(_ components: UInt8) -> [UInt8] {
        machine.cr4 |= CR4.osXSAVE
        // xor ecx, ecx; xsetbv
        return [0x31, 0xc9] + request(components) + [0x0f, 0x01, 0xd1]
    }

    @Test("FXRSTOR and FXSAVE are inverse, all registers of both kinds")
    func roundTrip() {
        for number in 0..<16 {
            machine.before[xmm: number] = SIMD2(UInt64(number) &* 0x0101_0101, ~UInt64(number))
        }
        for index in 0..<8 {
            machine.before[st: index] = SIMD2(UInt64(index) | 1 << 63, UInt64(0x4000 + index))
        }
        machine.before.fcw = 0x0c7f
        machine.before.fsw = 0x5300
        machine.before.tags = 0xa5
        machine.before.mxcsr = 0xdf95
        #expect(machine.run([]) == nil)
        var expected = machine.before
        expected[28, 4] = 0xffff
        #expect(machine.after == expected)
    }

    @Test("FXSAVE writes nothing beyond byte 415, and needs 16-byte alignment")
    func extent() {
        machine.write([UInt8](repeating: 0xcc, count: 512))
        #expect(machine.run([0x0f, 0xae, 0x03]) == nil)
        #expect(machine.read(at: VectorMachine.data + 416, count: 96).allSatisfy { $0 == 0xcc })
        // add rbx, 8; fxsave [rbx]
        #expect(machine.run([0x48, 0x83, 0xc3, 8, 0x0f, 0xae, 0x03]) == .generalProtection)
        #expect(machine.run([0x48, 0x83, 0xc3, 8, 0x0f, 0xae, 0x0b]) == .generalProtection)
    }

    @Test("FXRSTOR refuses reserved bits of MXCSR and then changes nothing")
    func reservedMXCSR() {
        var image = FXImage()
        image.mxcsr = 0x1_1f80
        image[xmm: 3] = SIMD2(1, 1)
        machine.write(image.bytes)
        machine.before[xmm: 3] = SIMD2(5, 6)
        #expect(machine.run([0x0f, 0xae, 0x0b]) == .generalProtection)
        #expect(machine.after[xmm: 3] == SIMD2(5, 6))
    }

    @Test("in 32-bit code FXSAVE and FXRSTOR leave XMM8 to XMM15 alone")
    func compatibility() {
        machine.before[xmm: 7] = SIMD2(7, 7)
        machine.before[xmm: 8] = SIMD2(8, 8)
        machine.write([UInt8](repeating: 0xcc, count: 512))
        let target: UInt64 = 0x10800
        // In 32-bit code: fxsave [ebx]; fxrstor [ebx]; jmp 08:10900h
        machine.write(
            [0x0f, 0xae, 0x03, 0x0f, 0xae, 0x0b, 0xea, 0x00, 0x09, 0x01, 0x00, 0x08, 0x00],
            at: target)
        // … where 64-bit code ends the program: fxsave64 [20200h]; hlt
        machine.write([0x48, 0x0f, 0xae, 0x04, 0x25, 0, 2, 2, 0, 0xf4], at: 0x10900)
        // push 18h; push 10800h; retfq
        #expect(machine.run([0x6a, 0x18, 0x68, 0x00, 0x08, 0x01, 0x00, 0x48, 0xcb]) == nil)
        let area = FXImage(machine.read(count: 512))
        #expect(area[xmm: 7] == SIMD2(7, 7))
        #expect(area[xmm: 8] == SIMD2(repeating: 0xcccc_cccc_cccc_cccc))
        #expect(machine.after[xmm: 8] == SIMD2(8, 8))
    }

    @Test("XSAVE is undefined without CR4.OSXSAVE and wants 64-byte alignment")
    func permission() {
        #expect(machine.run(request(3) + xsave) == .invalidOpcode)
        #expect(machine.run(request(3) + xrstor) == .invalidOpcode)
        let code = enable(3)
        #expect(machine.run(code + xsave) == nil)
        #expect(machine.run(code + [0x48, 0x83, 0xc3, 16] + xsave) == .generalProtection)
        #expect(machine.run(code + [0x48, 0x83, 0xc3, 16] + xrstor) == .generalProtection)
    }

    @Test("XSAVE writes the requested components and no others")
    func components() {
        machine.before[xmm: 2] = SIMD2(22, 23)
        machine.before[st: 1] = SIMD2(11, 12)
        let enabled = enable(3)
        for (mask, hasX87, hasSSE) in [(1, true, false), (2, false, true), (3, true, true)]
            as [(UInt8, Bool, Bool)]
        {
            machine.write([UInt8](repeating: 0xcc, count: 576))
            machine.store([0, 0, 0], at: VectorMachine.data + 512)
            #expect(machine.run(enabled + request(mask) + xsave) == nil)
            let area = FXImage(machine.read(count: 512))
            #expect((area[st: 1] == SIMD2(11, 12)) == hasX87)
            #expect((area.fcw == 0x037f) == hasX87)
            #expect((area[xmm: 2] == SIMD2(22, 23)) == hasSSE)
            #expect((area.mxcsr == 0x1f80) == hasSSE)
            #expect(machine.word(VectorMachine.data + 512) == UInt64(mask))
        }
        // XCR0 limits what is saved, whatever EDX:EAX ask for; old bits of the header stay.
        machine.store([0x8000_0000_0000_0002], at: VectorMachine.data + 512)
        // xsaveopt
        #expect(machine.run(enable(1) + request(7) + [0x0f, 0xae, 0x33]) == nil)
        #expect(machine.word(VectorMachine.data + 512) == 0x8000_0000_0000_0003)
    }

    @Test("XRSTOR loads what the header has and initializes what it lacks")
    func restoring() {
        var image = FXImage()
        image[xmm: 2] = SIMD2(1, 2)
        image[st: 0] = SIMD2(3, 4)
        image.tags = 0xff
        image.fcw = 0x0c7f
        image.mxcsr = 0x9f80
        machine.before[xmm: 2] = SIMD2(5, 6)
        machine.before[st: 0] = SIMD2(7, 8)
        machine.before.fcw = 0x077f
        let enabled = enable(3)
        machine.write(image.bytes)
        for present in 0..<4 as Range<UInt64> {
            machine.store([present, 0, 0, 0, 0, 0, 0, 0], at: VectorMachine.data + 512)
            #expect(machine.run(enabled + request(3) + xrstor) == nil)
            #expect(machine.after[xmm: 2] == (present & 2 != 0 ? SIMD2(1, 2) : SIMD2(0, 0)))
            #expect(machine.after[st: 0] == (present & 1 != 0 ? SIMD2(3, 4) : SIMD2(0, 0)))
            #expect(machine.after.fcw == (present & 1 != 0 ? 0x0c7f : 0x037f))
            #expect(machine.after.mxcsr == 0x9f80)
            // Components that are not asked for stay.
            #expect(machine.run(enabled + request(1) + xrstor) == nil)
            #expect(machine.after[xmm: 2] == SIMD2(5, 6))
            #expect(machine.after.mxcsr == 0x1f80)
            #expect(machine.run(enabled + request(2) + xrstor) == nil)
            #expect(machine.after[st: 0] == SIMD2(7, 8))
        }
    }

    @Test("XRSTOR refuses headers that it does not know")
    func badHeaders() {
        machine.write(FXImage().bytes)
        machine.before[xmm: 2] = SIMD2(5, 6)
        let enabled = enable(3)
        let headers: [[UInt64]] = [
            [4, 0, 0], [1 << 63, 0, 0], [3, 1, 0], [3, 1 << 63, 0], [3, 0, 1],
        ]
        for header in headers {
            machine.store(header, at: VectorMachine.data + 512)
            #expect(machine.run(enabled + request(3) + xrstor) == .generalProtection)
            #expect(machine.after[xmm: 2] == SIMD2(5, 6))
        }
        machine.store([3, 0, 0], at: VectorMachine.data + 512)
        machine.store([0x1_0000_1f80], at: VectorMachine.data + 24)
        #expect(machine.run(enabled + request(3) + xrstor) == nil)
        machine.store([0x0001_1f80], at: VectorMachine.data + 24)
        #expect(machine.run(enabled + request(3) + xrstor) == .generalProtection)
    }
}
