import Snapshot
import X86

/// The memory type range registers (SDM Vol. 3A §11.11): kept and checked, and without effect, for
/// caches are not modelled.
///
/// They begin as PC firmware leaves them: everything is write-back, but for 0xa0000…0xbffff.
struct MemoryTypeRegisters: Equatable {
    /// IA32_MTRR_DEF_TYPE: both kinds enabled, write-back.
    private(set) var defaultType: UInt64 = 0xc06
    /// IA32_MTRR_PHYSBASE0, IA32_MTRR_PHYSMASK0, …
    private(set) var variable = InlineArray<16, UInt64>(repeating: 0)
    /// In the order of `fixedNumbers`.
    private(set) var fixed: InlineArray<11, UInt64> = {
        var fixed = InlineArray<11, UInt64>(repeating: 0x0606_0606_0606_0606)
        fixed[2] = 0
        return fixed
    }()

    /// IA32_MTRRCAP: eight variable ranges, the fixed ones, and write-combining.
    private static let capabilities: UInt64 = 0x508
    private static let fixedNumbers: InlineArray<11, UInt32> = [
        0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
    ]

    /// The value of a register; nil where the number is none of these.
    subscript(_ number: UInt32) -> UInt64? {
        if number == MSR.mtrrCapabilities { return Self.capabilities }
        if number == MSR.mtrrDefaultType { return defaultType }
        if 0x200..<0x210 ~= number { return variable[Int(number - 0x200)] }
        return Self.fixedIndex(number).map { fixed[$0] }
    }

    /// Writes a register; false, with nothing changed, where it is none of these or cannot hold
    /// the value.
    mutating func set(_ number: UInt32, _ value: UInt64, physicalAddressBits: UInt64) -> Bool {
        let beyond: UInt64 = ~((1 << physicalAddressBits) &- 1)
        if number == MSR.mtrrDefaultType {
            guard value & ~0xcff == 0, Self.isType(value) else { return false }
            defaultType = value
        } else if 0x200..<0x210 ~= number {
            let isMask = number & 1 != 0
            guard value & (beyond | (isMask ? 0x7ff : 0xf00)) == 0, isMask || Self.isType(value)
            else { return false }
            variable[Int(number - 0x200)] = value
        } else if let index = Self.fixedIndex(number) {
            for byte in 0..<8 as Range<UInt64> where !Self.isType(value >> (byte &* 8)) {
                return false
            }
            fixed[index] = value
        } else {
            return false
        }
        return true
    }

    private static func fixedIndex(_ number: UInt32) -> Int? {
        for index in 0..<11 where fixedNumbers[index] == number { return index }
        return nil
    }

    /// Whether the low byte is a type that exists: UC, WC, WT, WP, WB.
    private static func isType(_ value: UInt64) -> Bool {
        let type = value & 0xff
        return type <= 6 && type != 2 && type != 3
    }

    static func == (a: Self, b: Self) -> Bool {
        var isEqual = a.defaultType == b.defaultType
        for index in 0..<16 { isEqual = isEqual && a.variable[index] == b.variable[index] }
        for index in 0..<11 { isEqual = isEqual && a.fixed[index] == b.fixed[index] }
        return isEqual
    }

    // MARK: Saved machines

    /// Every register that can be written.
    private static var numbers: [UInt32] {
        [MSR.mtrrDefaultType] + (0x200..<0x210) + (0..<11).map { fixedNumbers[$0] }
    }

    func save(to writer: inout FieldWriter) {
        for value in values { writer.put(value) }
    }

    mutating func restore(
        from reader: inout FieldReader, physicalAddressBits: UInt64
    ) throws(FieldError) {
        for number in Self.numbers {
            let value: UInt64 = try reader.get("a memory type range register")
            guard set(number, value, physicalAddressBits: physicalAddressBits) else {
                throw .badValue("a memory type range register")
            }
        }
    }

    /// All that can be written, in the order in which it is saved.
    var values: [UInt64] { Self.numbers.map { self[$0] ?? 0 } }
}
