import X86

/// The page that a walk ends at, with what all levels grant together.
struct Page: Equatable {
    /// The guest-physical address of its first byte.
    var base: UInt64
    /// log2 of its size in bytes.
    var shift: UInt64
    var isWritable: Bool
    var isUser: Bool
    var isExecuteDisabled: Bool
    var isDirty: Bool
    var isGlobal: Bool
    /// The leaf's protection key.
    var key: UInt8 = 0
}

/// A walk of the guest's tables as they are now.
struct FreshWalk {
    enum End: Equatable {
        case page(Page)
        case notPresent
        case reserved
    }

    /// One entry that the walk read.
    struct Step {
        var level: Int
        /// Guest-physical.
        var address: UInt64
        var value: UInt64
    }

    private(set) var steps: [Step] = []
    private(set) var end = End.notPresent
    /// Whether A is set in all of them.
    private(set) var isAccessed = true

    init(_ tables: TableHistory, _ address: UInt64, root: Root, mode: PagingMode) {
        let form = mode.form
        guard var table = root.table(address, mode) else { return }
        var page = Page(
            base: 0, shift: 0, isWritable: true, isUser: true, isExecuteDisabled: false,
            isDirty: false, isGlobal: false)
        for level in stride(from: form.topLevel, through: 1, by: -1) {
            let place = table &+ form.index(address, level) &* form.entryBytes
            let value = tables.current(place, form.entryBytes) ?? .max
            steps.append(Step(level: level, address: place, value: value))
            let entry = Entry(raw: value, level: level, mode: mode)
            guard entry.isPresent else { return }
            // Where no memory answers all ones come back; with 52 address bits these might do.
            if entry.hasReservedBits || !tables.isRAM(place >> 12) {
                end = .reserved
                return
            }
            isAccessed = isAccessed && entry.isAccessed
            page.isWritable = page.isWritable && entry.isWritable
            page.isUser = page.isUser && entry.isUser
            page.isExecuteDisabled = page.isExecuteDisabled || entry.isExecuteDisabled
            if entry.isLeaf {
                page.base = entry.address
                page.shift = form.shift(level)
                page.isDirty = entry.isDirty
                page.isGlobal = entry.isGlobal
                page.key = entry.key
                end = .page(page)
                return
            }
            table = entry.address
        }
    }

    /// The page fault that an access meets; nil where the tables permit it
    /// (SDM Vol. 3A §4.6.1, §4.7).
    func fault(_ access: AccessKind, _ registers: Registers) -> UInt32? {
        Self.fault(end, access, registers)
    }

    /// The same for a walk that has ended so, or for what was cached of one.
    static func fault(_ end: End, _ access: AccessKind, _ registers: Registers) -> UInt32? {
        let isUser = access.contains(.user)
        let isWrite = access.contains(.write)
        let isFetch = access.contains(.fetch)
        let prevents = registers.cr4 & CR4.supervisorExecutionPrevention != 0
        var error: UInt32 = (isWrite ? 2 : 0) | (isUser ? 4 : 0)
        // 4-byte entries have no XD, and NXE does not count with them.
        let hasExecuteDisable =
            registers.efer & EFER.executeDisableEnable != 0
            && registers.cr4 & CR4.physicalAddressExtension != 0
        if isFetch && (prevents || hasExecuteDisable) { error |= 16 }
        switch end {
        case .notPresent: return error
        case .reserved: return error | 9
        case .page(let page):
            var permits = true
            if isUser {
                permits = page.isUser && !(isWrite && !page.isWritable)
            } else {
                if isWrite && !page.isWritable && registers.cr0 & CR0.writeProtect != 0 {
                    permits = false
                }
                let opens = registers.alignmentCheck && !access.contains(.implicit)
                if page.isUser && !isFetch && !opens
                    && registers.cr4 & CR4.supervisorAccessPrevention != 0
                {
                    permits = false
                }
                if page.isUser && isFetch && prevents { permits = false }
            }
            if isFetch && page.isExecuteDisabled { permits = false }
            // SDM Vol. 3A §4.6.2: AD and WD of the page's key, for data accesses to user pages.
            if page.isUser && !isFetch && registers.hasKeys {
                let rights = registers.keyRights >> (2 &* UInt32(page.key))
                let countsWrites = isUser || registers.cr0 & CR0.writeProtect != 0
                if rights & 1 != 0 || isWrite && countsWrites && rights & 2 != 0 {
                    return error | 0x21
                }
            }
            return permits ? nil : error | 1
        }
    }
}
