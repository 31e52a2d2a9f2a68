/// The registers of AVX instructions. The lower halves of YMM registers lie in the image of FXSAVE,
/// the upper ones behind it.
extension StubBuilder {
    mutating func loadWide(_ number: UInt8) {
        moveLower(0x28, number)
        half(0x18, number, source: number)
    }

    mutating func storeWide(_ number: UInt8) {
        moveLower(0x29, number)
        half(0x19, number, source: 0)
    }

    /// Legacy SSE code after AVX code is slow on many processors while upper halves are in use.
    mutating func clearUpper() { emit(0xc5, 0xf8, 0x77) }  // vzeroupper

    /// VMOVAPS between an XMM register and its place: 28h loads, 29h stores.
    private mutating func moveLower(_ opcode: UInt8, _ number: UInt8) {
        append(VEX(map: 1, last: 0x78, reg: number).bytes)
        emit(opcode, 0x87 | (number & 7) << 3)
        emit32(UInt32(VectorBlock.xmm(number)))
    }

    /// VINSERTF128 (18h) and VEXTRACTF128 (19h) of the upper half.
    private mutating func half(_ opcode: UInt8, _ number: UInt8, source: UInt8) {
        // L is 1, the mandatory prefix 66.
        append(VEX(map: 3, last: (~source & 15) << 3 | 4 | 1, reg: number).bytes)
        emit(opcode, 0x87 | (number & 7) << 3)
        emit32(UInt32(VectorBlock.upper(number)))
        emit(1)
    }
}
