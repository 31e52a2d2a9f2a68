/// Cases that once differed, kept by name.
package struct Regression: Sendable, CustomStringConvertible {
    package var description: String
    package var size = CodeSize.bits64
    package var code: [[UInt8]]
    /// Values of general registers, by number.
    package var registers: [Int: UInt64] = [:]

    package var test: Case {
        var test = Generator.plainCase
        test.size = size
        test.code = code
        for (number, value) in registers { test.general[number] = value }
        return test
    }

    package static let all: [Regression] = [
        Regression(
            description: "a 32-byte operand that is missing as a whole faults at its first byte",
            code: [[0xc4, 0x02, 0x7d, 0x29, 0x30]]),  // vpcmpeqq ymm14, ymm0, [r8]
        Regression(
            description: "a SIB without a base has none where REX.B is set and addresses are short",
            code: [[0x67, 0x43, 0xdb, 0x0c, 0x25, 0x47, 0x07, 0x01, 0x10]]),  // fisttp [10010747h]
        Regression(
            description: "and where VEX.B is set",
            code: [[0x67, 0xc4, 0xc1, 0xcd, 0x7c, 0x1c, 0x25, 0x40, 0x0c, 0x01, 0x10]],
            registers: [13: 0x1234_5678]),  // vhaddpd ymm3, ymm6, [10010c40h]
        Regression(
            description: "ENTER needs a new top of stack that can be written",
            code: [[0x66, 0xc8, 0x22, 0x2f, 0xff]]),
        Regression(
            description: "VCVTSI2SS takes 32 bits of memory in 32-bit code whatever W is",
            size: .bits32, code: [[0xc4, 0xe1, 0xfa, 0x2a, 0x15, 0xc0, 0x03, 0x01, 0x10]]),
        Regression(
            description: "VMOVD takes 32 bits in 32-bit code whatever W is", size: .bits32,
            code: [[0xc4, 0xe1, 0xf9, 0x6e, 0xd1]], registers: [1: 0x7fff_ffff_ffff_ffff]),
        Regression(
            description: "a register in an immediate is one of 8 in 32-bit code", size: .bits32,
            code: [[0xc4, 0xe3, 0x49, 0x4c, 0xc9, 0xfa]]),  // vpblendvb xmm1, xmm6, xmm1, xmm7
        Regression(
            description: "F3 90 with REX.B is XCHG of R8 with RAX", code: [[0xf3, 0x4d, 0x90]],
            registers: [0: 1, 8: 2]),
        Regression(
            description: "the last segment override holds for a string instruction",
            code: [[0x3e, 0x36, 0x64, 0x66, 0xad]], registers: [6: 0x10]),  // lodsw fs:[rsi]
        Regression(
            description: "ES does not override FS in 64-bit code",
            code: [[0x64, 0x26, 0xad]], registers: [6: 0x20]),  // lodsd fs:[rsi]
        Regression(
            description: "VPCMPESTRI's lengths have 32 bits in 32-bit code whatever W is",
            size: .bits32, code: [[0xc4, 0xe3, 0xf9, 0x61, 0xc1, 0xff]],
            registers: [0: 0xffff_ffff]),
        Regression(
            description: "POPA reads upwards", size: .bits32, code: [[0x61]],
            registers: [4: 0x1002_0ff8]),
    ]
}
