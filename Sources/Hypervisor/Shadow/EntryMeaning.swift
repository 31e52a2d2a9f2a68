import X86

/// What a guest entry stands for, as far as a shadow entry may.
enum EntryMeaning: Equatable {
    /// It names the table in a guest frame of RAM, with these bits of `ShadowMMU.rightsMask`.
    case table(frame: UInt64, quadrant: Int, rights: UInt64)
    /// It maps guest frames from `frame`, with these bits of `ShadowMMU.leafMask`.
    case page(frame: UInt64, rights: UInt64)
    /// There is none: the lower of the two levels that stand for registers is meant.
    case registers
}

extension ShadowMMU {
    /// What shadow entry `index` of a page that is not direct derives from now; nil where it must
    /// not be present: the guest's is not, is not accessed, has a reserved bit, or names a table
    /// where there is no RAM.
    func meaning(_ page: UInt32, _ index: Int) -> EntryMeaning? {
        let state = pages[page]
        if state.isUpper { return upperMeaning(page, index) }
        let rules = state.role.rules
        let level = state.level
        let entry = tables.guestEntry(state.guestFrame, state.guestIndex(index), rules.form)
        guard entry.isPresent,
            entry.isAccessed || policy.defects.contains(.installsUnaccessed),
            rules.reservedBits(entry, at: level) == 0
        else { return nil }
        // Which half of what a 4-byte entry of a directory maps.
        let half = rules.form == .twoLevel && level == .directory ? index & 1 : 0
        if rules.isLeaf(entry, at: level) {
            let frame = rules.leafBase(entry, at: level) >> 12 &+ UInt64(half) << 9
            return .page(frame: frame, rights: entry.rawValue & Self.leafMask)
        }
        let frame = rules.tableBase(entry) >> 12
        guard tables.isRAM(frame) else { return nil }
        return .table(frame: frame, quadrant: half, rights: entry.rawValue & Self.rightsMask)
    }
}
