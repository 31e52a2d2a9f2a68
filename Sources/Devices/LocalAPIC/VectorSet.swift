/// A set of interrupt vectors: IRR, ISR or TMR, as eight 32-bit registers (SDM Vol. 3A §10.8.4).
package struct VectorSet: Hashable, Sendable {
    private var words = SIMD8<UInt32>()

    package init() {}

    /// The set that eight registers hold.
    package init(words: SIMD8<UInt32>) { self.words = words }

    /// Register `index & 7`: vectors 32 × index and up.
    package func word(_ index: Int) -> UInt32 { words[index & 7] }

    package func contains(_ vector: UInt8) -> Bool {
        words[Int(vector >> 5)] >> UInt32(vector & 31) & 1 != 0
    }

    package mutating func insert(_ vector: UInt8) {
        words[Int(vector >> 5)] |= 1 << UInt32(vector & 31)
    }

    package mutating func remove(_ vector: UInt8) {
        words[Int(vector >> 5)] &= ~(1 << UInt32(vector & 31))
    }

    /// The highest vector, which has the highest priority; nil if there is none.
    package var highest: UInt8? {
        for index in stride(from: 7, through: 0, by: -1) where words[index] != 0 {
            let bit = 31 - words[index].leadingZeroBitCount
            return UInt8(truncatingIfNeeded: index * 32 + bit)
        }
        return nil
    }
}
