import X86

/// Paging-structure caches (SDM Vol. 3A §4.10.3): what walks found in entries that name tables, so
/// that later walks begin further down.
///
/// An entry stands for all entries of the path down to it, tagged with the part of the address that
/// they translate and with the PCID; there are no global ones. Only entries that are present, with A
/// set and without reserved bits, are here. It is never full, up to a ceiling: then all is dropped.
final class StructureCache {
    private struct Key: Hashable {
        /// The address, in units of what the entry maps.
        var prefix: UInt64
        /// What the entry maps, log₂ of bytes.
        var shift: UInt8

        init(_ address: UInt64, _ shift: UInt64) {
            prefix = address >> shift
            self.shift = UInt8(truncatingIfNeeded: shift)
        }
    }

    /// The most entries that are held.
    static let ceiling = 1 << 16

    /// By PCID.
    private var contexts: [UInt16: [Key: WalkPosition]] = [:]
    private var count = 0
    /// Bit n: there may be entries that map 2^n bytes.
    private var shifts: UInt64 = 0

    /// The position that is furthest down for an address.
    func deepest(_ address: UInt64, pcid: UInt16) -> WalkPosition? {
        guard let context = contexts[pcid] else { return nil }
        var rest = shifts
        while rest != 0 {
            let shift = UInt64(rest.trailingZeroBitCount)
            if let found = context[Key(address, shift)] { return found }
            rest &= rest &- 1
        }
        return nil
    }

    /// Caches that a walk of `address` came to a table by an entry that maps 2^`shift` bytes.
    func insert(_ address: UInt64, shift: UInt64, pcid: UInt16, _ position: WalkPosition) {
        if count >= Self.ceiling { invalidateAll(pcid: nil) }
        if contexts[pcid, default: [:]].updateValue(position, forKey: Key(address, shift)) == nil {
            count += 1
        }
        shifts |= 1 << shift
    }

    /// Drops the entries by which `address` is translated.
    func invalidate(_ address: UInt64, pcid: UInt16) {
        var rest = shifts
        while rest != 0 {
            let shift = UInt64(rest.trailingZeroBitCount)
            if contexts[pcid]?.removeValue(forKey: Key(address, shift)) != nil { count -= 1 }
            rest &= rest &- 1
        }
    }

    /// Drops the entries of a PCID; nil: of all.
    func invalidateAll(pcid: UInt16?) {
        guard let pcid else {
            contexts.removeAll()
            count = 0
            shifts = 0
            return
        }
        count -= contexts.removeValue(forKey: pcid)?.count ?? 0
    }
}
