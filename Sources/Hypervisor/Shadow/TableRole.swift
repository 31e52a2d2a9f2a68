import X86

/// What a guest table is read as, beside its level: with the guest frame and the level, the
/// identity of a shadow page.
///
/// ```
///  15  14 13        8   7   6   5   4   3   2   1   0
/// ┌──────┬───────────┬───┬───────┬───┬───┬───┬───────┐
/// │  0   │ MAXPHYADDR│ 0 │quadr. │PSE│1GB│NXE│ form  │
/// └──────┴───────────┴───┴───────┴───┴───┴───┴───────┘
/// ```
/// Everything that decides which bits of an entry are reserved, and which mean a page, is in it.
/// So a page has one meaning for as long as it lives, a change of mode needs nothing remade, and
/// processors in different modes share a machine. What cannot matter in a form is left out, so
/// that it makes no difference.
///
/// *Quadrants.* A shadow page has 512 entries of 4 KiB, 2 MiB, …; a guest table of 4-byte entries
/// has 1024 of 4 KiB or 4 MiB. A 2-level table is therefore two shadow tables, and a directory
/// four shadow directories, two shadow entries for each of its own.
struct TableRole: Equatable, BitwiseCopyable {
    let rawValue: UInt16

    init(_ rules: PagingRules, quadrant: Int = 0) {
        var bits = UInt16(rules.form.rawValue) | UInt16(rules.physicalAddressBits) << 8
        switch rules.form {
        case .twoLevel:
            if rules.pageSizeExtensions { bits |= 1 << 4 }
        case .pae:
            if rules.executeDisable { bits |= 1 << 2 }
        case .fourLevel, .fiveLevel:
            if rules.executeDisable { bits |= 1 << 2 }
            if rules.gigabytePages { bits |= 1 << 3 }
        }
        rawValue = bits | UInt16(quadrant & 3) << 5
    }

    init(rawValue: UInt16) { self.rawValue = rawValue }

    /// The form of the guest's tables.
    @inline(__always)
    var form: PagingForm {
        switch rawValue & 3 {
        case 0: .twoLevel
        case 1: .pae
        case 2: .fourLevel
        default: .fiveLevel
        }
    }

    /// What the entries mean.
    @inline(__always)
    var rules: PagingRules {
        PagingRules(
            form: form, physicalAddressBits: UInt64(rawValue >> 8),
            executeDisable: rawValue & 1 << 2 != 0, gigabytePages: rawValue & 1 << 3 != 0,
            pageSizeExtensions: rawValue & 1 << 4 != 0)
    }

    /// Which part of a 2-level table: 0…1 of a table, 0…3 of a directory; 0 in other forms.
    @inline(__always)
    var quadrant: Int { Int(rawValue >> 5 & 3) }

    /// The same for another part.
    @inline(__always)
    func with(quadrant: Int) -> TableRole {
        TableRole(rawValue: rawValue & ~(3 << 5) | UInt16(quadrant & 3) << 5)
    }
}

extension ShadowPage {
    /// The number of the guest entry that shadow entry `index` derives from.
    @inline(__always)
    func guestIndex(_ index: Int) -> Int {
        guard role.form == .twoLevel else { return index }
        return (role.quadrant << 9 | index & 511) >> (level == .table ? 0 : 1)
    }

    /// The shadow entries that derive from a quadword of the guest table, in `0..<512`: what a
    /// record names. Empty where the quadword is of another quadrant.
    @inline(__always)
    func indices(ofQuadword quadword: Int) -> Range<Int> {
        guard role.form == .twoLevel else { return quadword..<quadword + 1 }
        // Two 4-byte entries; each of a directory's is two shadow entries.
        let count = level == .table ? 2 : 4
        let first = quadword * count
        return first >> 9 == role.quadrant ? first & 511..<first & 511 + count : 0..<0
    }

    /// The quadword of the guest table that shadow entry `index` derives from.
    func quadword(of index: Int) -> Int {
        role.form == .twoLevel ? guestIndex(index) >> 1 : index
    }
}
