import X86

/// The levels that the shadow of a 32-bit guest has above the guest's directories.
///
/// *Problem.* The shadow has four levels; 2-level paging has two, and PAE's upper level is not in
/// memory but in four registers, which a write to the memory that they were loaded from does not
/// change.
///
/// *Approach.* An *upper* page stands for the registers. Its identity is what they hold, as four
/// directories of 1 GiB each: PAE's pointers, or four times CR3, whose quadrants they are. There
/// are two for each such value: one entry, and four entries below it. Nothing that the guest
/// writes concerns them, so no frame is traced for them, and a processor that loads other values
/// walks other upper pages; the directories below are shared.
extension ShadowMMU {
    /// A pointer grants everything: it holds no rights.
    static let upperRights = PagingEntry.writableBit | PagingEntry.userBit

    /// What an upper page is to stand for: the bases of four directories, with P.
    static func directories(_ mode: GuestMode, _ rules: PagingRules) -> SIMD4<UInt64> {
        guard rules.form == .pae else {
            return SIMD4(repeating: mode.rootFrame(rules) << 12 | PagingEntry.presentBit)
        }
        var directories = SIMD4<UInt64>.zero
        for index in 0..<4 {
            let pointer = PagingEntry(mode.pointers[index])
            if pointer.isPresent {
                directories[index] = rules.tableBase(pointer) | PagingEntry.presentBit
            }
        }
        return directories
    }

    /// The upper page at a level, if there is one.
    func findUpper(
        _ directories: SIMD4<UInt64>, _ level: PageLevel, _ role: TableRole
    ) -> UInt32? {
        let hash = Self.hash(directories, role)
        var page = buckets[bucket(hash, level, ShadowPage.upper)]
        while page != 0 {
            let candidate = pages[page]
            if candidate.guestFrame == hash && candidate.isUpper && candidate.role == role
                && candidate.level == level && self.directories[page] == directories
            {
                return page
            }
            page = candidate.next
        }
        return nil
    }

    /// The upper page at a level, found or made.
    func upperPage(_ directories: SIMD4<UInt64>, _ level: PageLevel, _ role: TableRole) -> UInt32 {
        if let page = findUpper(directories, level, role) { return page }
        let page = allocate()
        pages[page].guestFrame = Self.hash(directories, role)
        pages[page].levelNumber = level.rawValue
        pages[page].flags = ShadowPage.upper
        pages[page].role = role
        self.directories[page] = directories
        linkInBucket(page)
        return page
    }

    /// What an entry of an upper page leads to.
    func upperMeaning(_ page: UInt32, _ index: Int) -> EntryMeaning? {
        let state = pages[page]
        if state.level == .pml4 { return index == 0 ? .registers : nil }
        guard index < 4 else { return nil }
        let directory = PagingEntry(directories[page][index])
        let frame = directory.addressField >> 12
        guard directory.isPresent, tables.isRAM(frame) else { return nil }
        let quadrant = state.role.form == .twoLevel ? index : 0
        return .table(frame: frame, quadrant: quadrant, rights: Self.upperRights)
    }

    private static func hash(_ directories: SIMD4<UInt64>, _ role: TableRole) -> UInt64 {
        var hash = UInt64(role.rawValue)
        for index in 0..<4 {
            hash = (hash ^ directories[index]) &* 0x9e37_79b9_7f4a_7c15
            hash ^= hash >> 29
        }
        return hash
    }
}
