import MachineMemory
import X86

/// The second dimension of nested paging: guest-physical → machine, by the hypervisor's tables.
extension Processor {
    /// What the second dimension makes of a guest-physical address.
    struct SecondTranslation {
        /// The machine address of the byte.
        var machine: UInt64
        /// The size of the page that maps it.
        var level: PageLevel
        /// Whether writes need no exit, now and later.
        var isWritable: Bool
        /// Whether writes are completed for the hypervisor, and noted.
        var isCompleting: Bool
    }

    /// Translates a guest-physical address by the tables from `root`.
    /// - Parameters:
    ///   - write: whether it is to be written.
    ///   - kind: the guest's access, for the exit.
    /// - Returns: nil after raising `secondDimensionFault`.
    func translateSecond(
        _ physical: UInt64, _ root: UInt64, write: Bool, _ kind: AccessKind
    ) -> SecondTranslation? {
        var table = root
        var level = PageLevel.pml4
        var isWritable = true
        while true {
            let index = GuestVirtualAddress(physical).index(at: level)
            statistics.walkReferences += 1
            let entry = readEntry(table + UInt64(index) * 8, .fourLevel)
            isWritable = isWritable && entry.isWritable
            let isLeaf = entry.isLeaf(at: level)
            // As in a shadow leaf, the hypervisor is told of a write where D is clear.
            let isCompleting =
                !entry.isDirty && entry.isTraced && control.completesProtectedWrites
            let mayWrite = isWritable && (!isLeaf || entry.isDirty || isCompleting)
            guard entry.isPresent, mayWrite || !write, physical >> 48 == 0 else {
                if kind.contains(.silent) { return nil }
                let access = write ? kind.union(.write) : kind.subtracting(.write)
                _ = core.exitBefore(
                    .secondDimensionFault(GuestPhysicalAddress(physical), access))
                return nil
            }
            if let below = level.below, !isLeaf {
                table = entry.addressField
                level = below
                continue
            }
            let offset = physical & (level.entrySpan &- 1)
            return SecondTranslation(
                machine: entry.leafBase(at: level) | offset, level: level,
                isWritable: isWritable && entry.isDirty,
                isCompleting: isCompleting)
        }
    }

    /// The translation of a linear address while the guest has no paging.
    func walkSecondOnly(_ address: UInt64, _ root: UInt64, _ kind: AccessKind) -> Translation? {
        guard
            let second = translateSecond(address, root, write: kind.contains(.write), kind)
        else { return nil }
        return Translation(
            base: second.machine & ~(second.level.entrySpan &- 1), level: second.level,
            bits: TranslationBits.writable | TranslationBits.user
                | Self.bits(second))
    }

    /// A guest translation, whose base is guest-physical, taken through the second dimension.
    func combine(
        _ guest: Translation, _ address: UInt64, _ root: UInt64, _ kind: AccessKind
    ) -> Translation? {
        let physical = guest.base | address & (guest.level.entrySpan &- 1)
        guard
            let second = translateSecond(physical, root, write: kind.contains(.write), kind)
        else { return nil }
        var combined = guest
        combined.level = min(second.level, guest.level)
        combined.base = second.machine & ~(combined.level.entrySpan &- 1)
        // A write through what cannot be written is walked for, and exits.
        combined.bits &= Self.bits(second) | ~TranslationBits.dirty
        combined.bits |= Self.bits(second) & TranslationBits.traced
        return combined
    }

    /// What a translation takes over of the second dimension.
    private static func bits(_ second: SecondTranslation) -> UInt8 {
        (second.isWritable ? TranslationBits.dirty : 0)
            | (second.isCompleting ? TranslationBits.traced : 0)
    }
}
