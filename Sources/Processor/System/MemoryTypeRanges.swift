import Snapshot
import X86

/// The memory type range registers (SDM Vol. 3A §11.11): eight variable ranges, the fixed ones, and
/// the default type. There are no caches, so that nothing follows from what they hold.
///
/// 64-bit kernels take them for granted (Xen reads them whatever CPUID says), so every model has them,
/// and the feature `mtrr` only says so. After a reset they hold what firmware leaves there: all is
/// write-back, but for the devices below 4 GiB and the legacy hole.
struct MemoryTypeRanges {
    /// IA32_MTRRCAP: eight variable ranges, fixed ranges, write-combining.
    static let capabilities: UInt64 = 8 | 1 << 8 | 1 << 10

    /// The registers, in the order of `slot`.
    private var values = InlineArray<28, UInt64>(repeating: 0)
    private let physicalAddressBits: UInt64

    /// - Parameter physicalAddressBits: MAXPHYADDR, less than 64.
    init(physicalAddressBits: UInt64) {
        self.physicalAddressBits = physicalAddressBits
        // The gigabyte below 4 GiB: uncacheable.
        values[0] = 0xc000_0000
        values[1] = (1 << physicalAddressBits &- 0x4000_0000) | Self.valid
        for slot in Self.fixedSlots { values[slot] = 0x0606_0606_0606_0606 }
        values[18] = 0  // video memory
        // ROM: write-protected.
        for slot in 19..<Self.defaultSlot { values[slot] = 0x0505_0505_0505_0505 }
        values[Self.defaultSlot] = Self.enable | Self.fixedEnable | 6
    }

    private static let fixedSlots = 16..<27
    private static let defaultSlot = 27
    /// IA32_MTRR_PHYSMASKn: the range counts.
    private static let valid: UInt64 = 1 << 11
    /// IA32_MTRR_DEF_TYPE: any range counts, and the fixed ones do.
    private static let enable: UInt64 = 1 << 11
    private static let fixedEnable: UInt64 = 1 << 10

    /// Where a register is among the values; nil: it is none of these.
    private static func slot(_ register: UInt32) -> Int? {
        switch register {
        case MSR.mtrrFirstVariable...MSR.mtrrLastVariable:
            Int(register &- MSR.mtrrFirstVariable)
        case MSR.mtrrFixed64K: 16
        case MSR.mtrrFixed16K...MSR.mtrrFixed16K + 1: 17 + Int(register &- MSR.mtrrFixed16K)
        case MSR.mtrrFixed4K...MSR.mtrrFixed4K + 7: 19 + Int(register &- MSR.mtrrFixed4K)
        case MSR.mtrrDefaultType: defaultSlot
        default: nil
        }
    }

    /// What RDMSR gives; nil where the register is none of these.
    func value(_ register: UInt32) -> UInt64? {
        if register == MSR.mtrrCapabilities { return Self.capabilities }
        return Self.slot(register).map { values[$0] }
    }

    /// WRMSR.
    /// - Returns: false, and nothing written, where the register is none of these, cannot be written,
    ///   or cannot hold the value.
    mutating func set(_ register: UInt32, _ value: UInt64) -> Bool {
        guard let slot = Self.slot(register), allows(value, in: slot) else { return false }
        values[slot] = value
        return true
    }

    private func allows(_ value: UInt64, in slot: Int) -> Bool {
        if Self.fixedSlots ~= slot {
            return (0..<8 as Range<UInt64>).allSatisfy { Self.isType(value >> ($0 &* 8) & 0xff) }
        }
        if slot == Self.defaultSlot {
            return value & ~(Self.enable | Self.fixedEnable | 0xff) == 0
                && Self.isType(value & 0xff)
        }
        guard value >> physicalAddressBits == 0 else { return false }
        return slot & 1 == 0
            ? value & 0xf00 == 0 && Self.isType(value & 0xff) : value & 0x7ff == 0
    }

    /// Uncacheable, write-combining, write-through, write-protected or write-back.
    private static func isType(_ type: UInt64) -> Bool {
        type == 0 || type == 1 || type == 4 || type == 5 || type == 6
    }

    /// The registers that do not hold what they do after a reset, each with its place.
    var changes: [(place: UInt64, value: UInt64)] {
        let start = MemoryTypeRanges(physicalAddressBits: physicalAddressBits)
        return values.indices.filter { values[$0] != start.values[$0] }
            .map { (UInt64($0), values[$0]) }
    }
}

// MARK: Saved machines

extension MemoryTypeRanges {
    func save(to writer: inout FieldWriter) {
        for slot in values.indices { writer.put(values[slot]) }
    }

    mutating func restore(from reader: inout FieldReader) throws(FieldError) {
        for slot in values.indices {
            let value: UInt64 = try reader.get("memory type ranges")
            guard allows(value, in: slot) else { throw .badValue("memory type ranges") }
            values[slot] = value
        }
    }
}
