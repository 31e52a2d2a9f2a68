import MachineMemory
import X86

/// The walk of the hypervisor's tables where nothing else takes part: no second dimension, and no
/// paging-structure caches.
///
/// It finds what the general walk (`Processor+Walk.swift`) finds, in a fraction of the time, since
/// these tables have one form: under the shadow techniques each hidden fault walks twice, to fail
/// and then to succeed. Whatever is unusual it leaves to the general walk, which begins anew: an
/// entry with A clear or a reserved bit set, or a table without memory.
extension Processor {
    /// Walks the hypervisor's tables for an access of `kind`.
    /// - Returns: the translation; nil after raising an exit.
    func walkShadow(
        _ address: UInt64, _ kind: AccessKind, _ root: UInt64, _ top: PageLevel
    ) -> Translation? {
        var table = root
        // R/W and U/S are granted where all entries have them; XD applies where one has it.
        var common = UInt64.max
        var any: UInt64 = 0
        var shift: UInt64 = top == .pml5 ? 48 : 39
        var references: UInt64 = 0
        while true {
            let slot = table &+ (address &>> shift & 511) &<< 3
            guard slot < memory.arenaBytes,
                unsafe memory.frameFlags[Int(slot >> 12)] & FrameFlags.memory != 0
            else { return walk(address, kind, from: nil) }
            let entry = PagingEntry(unsafe (memory.base + Int(slot)).load(as: UInt64.self))
            references &+= 1
            guard entry.isPresent else { break }
            guard entry.isAccessed, shift < 39 || !entry.isLarge else {
                return walk(address, kind, from: nil)
            }
            common &= entry.rawValue
            any |= entry.rawValue
            if shift != 12 && !entry.isLarge {
                table = entry.addressField
                shift &-= 9
                continue
            }
            let level: PageLevel =
                shift == 12 ? .table : shift == 21 ? .directory : .directoryPointer
            let offset = level.entrySpan &- 1
            // Bit 12 is PAT; the bits from there to the page's size are reserved.
            guard entry.addressField & offset & ~0x1fff == 0 else {
                return walk(address, kind, from: nil)
            }
            let writable = common & PagingEntry.writableBit != 0
            let user = common & PagingEntry.userBit != 0
            let executeDisable = any & PagingEntry.executeDisableBit != 0
            guard
                grants(
                    kind, user: user, writable: writable, executeDisable: executeDisable,
                    key: entry.key),
                !kind.contains(.write) || entry.isDirty
                    || entry.isTraced && control.completesProtectedWrites
            else { break }
            statistics.walkReferences &+= references
            var bits = leafBits(entry, isShadow: true)
            if writable { bits |= TranslationBits.writable }
            if user { bits |= TranslationBits.user }
            if executeDisable { bits |= TranslationBits.executeDisable }
            return Translation(
                base: entry.addressField & ~offset, level: level, bits: bits, key: entry.key)
        }
        statistics.walkReferences &+= references
        return failedInShadow(address, kind)
    }
}
