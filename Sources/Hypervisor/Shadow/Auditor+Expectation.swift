import X86

/// The rules of guest entries, stated afresh from the manual.
extension Auditor {
    /// What a present shadow entry has to say.
    struct Expectation {
        /// Whether it may be present at all.
        var isValid = true
        /// Whether it maps memory rather than naming a table.
        var isLeaf: Bool
        /// The first frame that it maps, or that of the table.
        var frame: UInt64
        /// Of a table: which part.
        var quadrant = 0
        /// The guest's rights, D and G, where an 8-byte entry has them.
        var bits: UInt64
    }

    func expectation(_ page: UInt32, _ index: Int) -> Expectation {
        let state = mmu.pages[page]
        let number = Int(state.levelNumber)
        let everything = PagingEntry.writableBit | PagingEntry.userBit
        if state.isDirect {
            // What a guest entry would say that maps this part of memory.
            return Expectation(
                isLeaf: true, frame: state.guestFrame + UInt64(index) << (9 * (number - 1)),
                bits: everything
                    | (state.flags & ShadowPage.dirty != 0 ? PagingEntry.dirtyBit : 0)
                    | (state.flags & ShadowPage.global != 0 ? PagingEntry.globalBit : 0)
                    | UInt64(state.flags >> 4) << 59)
        }
        let isTwoLevel = state.role.form == .twoLevel
        if state.isUpper {
            let limit = number == 4 ? 1 : 4
            let base = mmu.directories[page][index & 3]
            return Expectation(
                isValid: index < limit && (number == 4 || base & 1 != 0), isLeaf: false,
                frame: base >> 12, quadrant: isTwoLevel ? index : 0, bits: everything)
        }
        return isTwoLevel ? twoLevel(state, index) : eightBytes(state, index)
    }

    /// SDM Vol. 3A Tables 4-4 to 4-6.
    private func twoLevel(_ state: ShadowPage, _ index: Int) -> Expectation {
        let quadrant = Int(state.role.rawValue >> 5 & 3)
        let mode = state.role.rawValue
        let isDirectory = state.levelNumber == 2
        let number = isDirectory ? quadrant * 256 + index / 2 : quadrant * 512 + index
        let raw = mmu.tables.guestEntry(state.guestFrame, number, .twoLevel).rawValue
        let isValid = raw & 0x21 == 0x21
        let bits = raw & 0x146
        guard isDirectory else {
            return Expectation(isValid: isValid, isLeaf: true, frame: raw >> 12, bits: bits)
        }
        guard raw & 0x80 != 0 && mode & 0x10 != 0 else {
            return Expectation(
                isValid: isValid, isLeaf: false, frame: raw >> 12, quadrant: index & 1, bits: bits)
        }
        // Bits 20…13 are address bits 39…32, 21 is reserved.
        let base = raw & 0xffc0_0000 | (raw >> 13 & 0xff) << 32
        let width = UInt64(mode >> 8)
        return Expectation(
            isValid: isValid && raw & 1 << 21 == 0 && base >> width == 0, isLeaf: true,
            frame: (base | UInt64(index & 1) << 21) >> 12, bits: bits)
    }

    /// SDM Vol. 3A Tables 4-9 to 4-11 and 4-14 to 4-20.
    private func eightBytes(_ state: ShadowPage, _ index: Int) -> Expectation {
        let mode = state.role.rawValue
        let raw = mmu.tables.guestEntry(state.guestFrame, index, state.role.form).rawValue
        let width = UInt64(mode >> 8)
        var reserved: UInt64 = (0xf_ffff_ffff_ffff >> width) << width & ~0xfff
        if mode & 4 == 0 { reserved |= 1 << 63 }
        if state.role.form == .pae { reserved |= 0x7ff << 52 }
        let isLarge = raw & 0x80 != 0
        let isLeaf: Bool
        var size: UInt64 = 12
        switch state.levelNumber {
        case 1: isLeaf = true
        case 2:
            isLeaf = isLarge
            size = 21
        case 3:
            isLeaf = isLarge && mode & 8 != 0
            if !isLeaf { reserved |= 0x80 }
            size = 30
        default:
            isLeaf = false
            reserved |= 0x80
        }
        let address = raw & 0xf_ffff_ffff_f000
        let offset: UInt64 = isLeaf ? (1 << size) - 1 : 0xfff
        reserved |= offset & ~0x1fff
        return Expectation(
            isValid: raw & 0x21 == 0x21 && raw & reserved == 0, isLeaf: isLeaf,
            frame: (address & ~offset) >> 12,
            // A leaf's protection key stands in bits 62…59.
            bits: raw & (0x146 | 1 << 63 | (isLeaf && state.role.form != .pae ? 0xf << 59 : 0)))
    }

    /// Whether a page is the root of the guest's tables at CR3's address, in some mode.
    func isRootPage(_ page: UInt32, of root: UInt64) -> Bool {
        let state = mmu.pages[page]
        if state.isDirect { return false }
        switch state.role.form {
        // The pointers are no part of what is known.
        case .pae: return false
        case .twoLevel:
            return state.isUpper && state.levelNumber == 4
                && mmu.directories[page] == SIMD4(repeating: root & 0xffff_f000 | 1)
        case .fourLevel: return state.levelNumber == 4 && state.guestFrame == root >> 12
        case .fiveLevel: return state.levelNumber == 5 && state.guestFrame == root >> 12
        }
    }
}
