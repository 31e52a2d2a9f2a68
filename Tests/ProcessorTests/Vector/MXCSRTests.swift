import Processor
import Testing
import X86

/// Rounding, flags and exceptions of SSE floating point.
@Suite struct MXCSRTests {
    let machine: VectorMachine
    private let divide: [UInt8] = [0x66, 0x0f, 0x5e, 0xca]  // divpd xmm1, xmm2

    init() throws {
        machine = try VectorMachine()
        machine.before[double: 1] = SIMD2(1, 6)
        machine.before[double: 2] = SIMD2(0, 3)
    }

    @Test("a masked exception leaves its flag and the default result, and flags stick")
    func masked() {
        machine.before.mxcsr = 0x1fa0
        #expect(machine.run(divide) == nil)
        #expect(machine.after[double: 1] == SIMD2(.infinity, 2))
        #expect(machine.after.mxcsr == 0x1fa4)
    }

    @Test("an unmasked exception raises #XM, with its flag, and no result")
    func unmasked() {
        machine.before.mxcsr = 0x1f80 & ~0x200
        #expect(machine.run(divide) == .simdFloatingPoint)
        #expect(machine.after[double: 1] == machine.before[double: 1])
        #expect(machine.after.mxcsr == 0x1f80 & ~0x200 | 4)
    }

    @Test("without CR4.OSXMMEXCPT it raises #UD")
    func unmaskedWithoutSupport() {
        machine.cr4 &= ~CR4.osSIMDExceptions
        machine.before.mxcsr = 0x1f80 & ~0x200
        #expect(machine.run(divide) == .invalidOpcode)
    }

    @Test("an old flag of an unmasked exception raises nothing")
    func staleFlag() {
        machine.before.mxcsr = 0x1f80 & ~0x200 | 4
        machine.before[double: 2] = SIMD2(4, 3)
        #expect(machine.run(divide) == nil)
        #expect(machine.after[double: 1] == SIMD2(0.25, 2))
        #expect(machine.after.mxcsr == 0x1f80 & ~0x200 | 4)
    }

    @Test("an unmasked invalid operand keeps COMISD from writing flags")
    func comparison() {
        machine.before.mxcsr = 0x1f80 & ~0x80
        machine.before[double: 1] = SIMD2(.nan, 0)
        // cmp ebx, ebx (ZF); comisd xmm1, xmm2
        #expect(machine.run([0x39, 0xdb, 0x66, 0x0f, 0x2f, 0xca]) == .simdFloatingPoint)
        #expect(machine.processor.flags & RFLAGS.arithmetic == RFLAGS.zero | RFLAGS.parity)
    }

    @Test("rounding, denormals-are-zeros and flush-to-zero are the guest's")
    func modes() {
        machine.before[double: 2] = SIMD2(2.5, 0)
        for (control, expected) in [(0, 2), (1, 2), (2, 3), (3, 2)] as [(UInt32, UInt64)] {
            machine.before.mxcsr = 0x1f80 | control << 13
            #expect(machine.run([0xf2, 0x0f, 0x2d, 0xca]) == nil)  // cvtsd2si ecx, xmm2
            #expect(machine.processor[.rcx] == expected)
        }
        machine.before[double: 1] = SIMD2(Double.leastNonzeroMagnitude, 1)
        machine.before[double: 2] = SIMD2(1, 1)
        machine.before.mxcsr = 0x1f80
        #expect(machine.run([0x66, 0x0f, 0x59, 0xca]) == nil)  // mulpd
        #expect(machine.after[double: 1][0] == Double.leastNonzeroMagnitude)
        machine.before.mxcsr = 0x1fc0
        #expect(machine.run([0x66, 0x0f, 0x59, 0xca]) == nil)
        #expect(machine.after[double: 1][0] == 0)
    }

    @Test("LDMXCSR and STMXCSR move it; reserved bits raise #GP")
    func loadAndStore() {
        machine.store([0xffff])
        // ldmxcsr [rbx]; stmxcsr [rbx+8]
        #expect(machine.run([0x0f, 0xae, 0x13, 0x0f, 0xae, 0x5b, 8]) == nil)
        #expect(machine.after.mxcsr == 0xffff)
        #expect(machine.word(VectorMachine.data + 8) & 0xffff_ffff == 0xffff)
        machine.store([0x1_0000])
        #expect(machine.run([0x0f, 0xae, 0x13]) == .generalProtection)
        #expect(machine.after.mxcsr == 0x1f80)
    }
}
