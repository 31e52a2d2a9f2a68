import MachineMemory
import X86

/// Whose tables a walk reads, and what their entries mean.
struct WalkedTables {
    var rules: PagingRules
    /// They are the hypervisor's: what they do not permit exits, and D is not set in them.
    var isShadow: Bool
    /// The root of the second dimension, through which the addresses of tables and of what they map
    /// go; nil: these are machine addresses.
    var second: UInt64?
    /// Of the hypervisor's, the second dimension for the guest's tables that a switch leads to.
    var secondBehindSwitch: UInt64?
}

/// Where a walk stands: the table of which it reads an entry next, and the rights so far.
struct WalkPosition {
    /// The table's first byte.
    var table: UInt64
    /// The table is the guest's, and a switch led to it or to one above it.
    var isBehindSwitch = false
    /// A switch named the table itself, by its machine address.
    var isMachine = false
    var level: PageLevel
    var isWritable = true
    var isUser = true
    var isExecuteDisabled = false

    /// Takes the rights of one more entry into account.
    mutating func narrow(by entry: PagingEntry) {
        isWritable = isWritable && entry.isWritable
        isUser = isUser && entry.isUser
        isExecuteDisabled = isExecuteDisabled || entry.isExecuteDisabled
    }
}

/// The page walker, by the x86 rules (SDM Vol. 3A §4.3 to §4.7), over whichever tables the control
/// block names.
extension Processor {
    /// Walks the tables for an access of `kind`, setting A and D as it goes, from where the
    /// paging-structure caches have it. Where that fails they may be stale, and the tables are
    /// walked afresh: a fault is always the tables' own.
    /// - Returns: the translation; nil after raising #PF (guest's tables) or an exit (shadow).
    func walk(_ address: UInt64, _ kind: AccessKind) -> Translation? {
        guard let structures = caches.structures else {
            if case .shadow(let root, let top) = control.paging {
                return walkShadow(address, kind, root.rawValue, top)
            }
            return walk(address, kind, from: nil)
        }
        guard let start = structures.deepest(address, pcid: currentPCID) else {
            return walk(address, kind, from: nil)
        }
        return walk(address, kind.union(.silent), from: start)
            ?? (kind.contains(.silent) ? nil : walk(address, kind, from: nil))
    }

    /// Walks the tables from a cached position, or from the root.
    func walk(
        _ address: UInt64, _ kind: AccessKind, from start: WalkPosition?
    ) -> Translation? {
        let first: WalkedTables
        switch control.paging {
        case .shadow(_, let top):
            first = WalkedTables(rules: .shadow(top: top), isShadow: true)
        case .agile(_, let second, let top):
            first = WalkedTables(
                rules: .shadow(top: top), isShadow: true, secondBehindSwitch: second.rawValue)
        case .guest:
            guard let rules = pagingRules else { return nil }
            first = WalkedTables(rules: rules, isShadow: false)
        case .nested(let root):
            guard let rules = pagingRules else {
                return walkSecondOnly(address, root.rawValue, kind)
            }
            first = WalkedTables(rules: rules, isShadow: false, second: root.rawValue)
        }
        restart: while true {
            guard var position = start ?? firstPosition(address, first) else {
                return failed(address, kind, first, present: false, reserved: false)
            }
            guard var tables = position.isBehindSwitch ? behindSwitch(first) : first else {
                // Nothing is cached of walks under another scheme.
                return nil
            }
            while true {
                let index = tables.rules.form.index(
                    GuestVirtualAddress(address), at: position.level)
                let physicalSlot = position.table &+ UInt64(index) &* tables.rules.form.entryBytes
                var slot = physicalSlot
                if let second = tables.second, !position.isMachine {
                    guard let found = translateSecond(slot, second, write: false, kind) else {
                        return nil
                    }
                    slot = found.machine
                }
                statistics.walkReferences += 1
                let entry = readEntry(slot, tables.rules.form)
                guard entry.isPresent else {
                    return failed(address, kind, tables, present: false, reserved: false)
                }
                guard tables.rules.reservedBits(entry, at: position.level) == 0 else {
                    return failed(address, kind, tables, present: true, reserved: true)
                }
                position.narrow(by: entry)
                let isLeaf = tables.rules.isLeaf(entry, at: position.level)
                var wanted = entry
                if !isLeaf || tables.isShadow || !caches.leavesAccessedClear {
                    wanted.rawValue |= PagingEntry.accessedBit
                }
                if isLeaf {
                    guard
                        kind.contains(.speculative)
                            || grants(
                                kind, user: position.isUser, writable: position.isWritable,
                                executeDisable: position.isExecuteDisabled,
                                key: tables.rules.key(entry))
                    else {
                        return failed(
                            address, kind, tables, present: true, reserved: false,
                            byKey: position.isUser
                                && keyDenies(kind, key: tables.rules.key(entry)))
                    }
                    if kind.contains(.write) && !entry.isDirty {
                        // The hypervisor is told of the first write (see PagingScheme.shadow).
                        if !tables.isShadow {
                            wanted.rawValue |= PagingEntry.dirtyBit
                        } else if !(entry.isTraced && control.completesProtectedWrites) {
                            return failed(address, kind, tables, present: true, reserved: false)
                        }
                    }
                }
                if wanted != entry {
                    if kind.contains(.speculative) { return nil }
                    let second = position.isMachine ? nil : tables.second
                    guard let isNoted = mayUpdate(physicalSlot, second, kind) else { return nil }
                    guard swapEntry(slot, entry, wanted, tables.rules.form, isNoted: isNoted)
                    else {
                        continue restart
                    }
                }
                if isLeaf {
                    let found = translation(wanted, address, position, tables)
                    guard let second = tables.second else { return found }
                    return combine(found, address, second, kind)
                }
                let shift = tables.rules.form.shift(position.level)
                position.table = tables.rules.tableBase(entry)
                position.level = position.level.below ?? .table
                position.isMachine = false
                if entry.isSwitch, tables.secondBehindSwitch != nil {
                    // Without paging the guest has no tables: the hypervisor is to sort it out.
                    guard let guests = behindSwitch(tables) else {
                        return failed(address, kind, tables, present: true, reserved: true)
                    }
                    tables = guests
                    position.isBehindSwitch = true
                    position.isMachine = true
                }
                caches.structures?.insert(address, shift: shift, pcid: currentPCID, position)
            }
        }
    }

    /// Where a walk begins; nil where a pointer register of PAE paging is not present.
    private func firstPosition(_ address: UInt64, _ tables: WalkedTables) -> WalkPosition? {
        let form = tables.rules.form
        switch control.paging {
        case .shadow(let root, _), .agile(let root, _, _):
            return WalkPosition(table: root.rawValue, level: form.topLevel)
        case .guest, .nested: break
        }
        guard form == .pae else {
            let root = core.state.cr3 & form.rootMask & (1 << model.physicalAddressBits &- 1)
            return WalkPosition(table: root, level: form.topLevel)
        }
        // The pointers are registers: no memory is read for them, and they grant all rights.
        let index = form.index(GuestVirtualAddress(address), at: .directoryPointer)
        let pointer = PagingEntry(core.state.pointers[index & 3])
        guard pointer.isPresent else { return nil }
        return WalkPosition(table: tables.rules.tableBase(pointer), level: .directory)
    }

    /// What a leaf, A and D set in it, makes of the address.
    private func translation(
        _ leaf: PagingEntry, _ address: UInt64, _ position: WalkPosition, _ tables: WalkedTables
    ) -> Translation {
        var bits = leafBits(leaf, isShadow: tables.isShadow)
        if position.isWritable { bits |= TranslationBits.writable }
        if position.isUser { bits |= TranslationBits.user }
        if position.isExecuteDisabled { bits |= TranslationBits.executeDisable }
        var found = Translation(
            base: tables.rules.leafBase(leaf, at: position.level), level: position.level,
            bits: bits, key: tables.rules.key(leaf))
        if tables.rules.form == .twoLevel && position.level == .directory {
            // 4 MiB: cached as the half of 2 MiB that was used.
            found.base |= address & PageLevel.directory.entrySpan
            found.pageShift = UInt8(truncatingIfNeeded: tables.rules.form.shift(.directory))
        }
        return found
    }

    /// The `TranslationBits` that the leaf alone decides.
    @inline(__always)
    func leafBits(_ leaf: PagingEntry, isShadow: Bool) -> UInt8 {
        var bits: UInt8 = 0
        if leaf.isDirty { bits |= TranslationBits.dirty }
        if leaf.isGlobal && core.state.cr4 & CR4.pageGlobalEnable != 0 {
            bits |= TranslationBits.global
        }
        if isShadow && leaf.isTraced
            && (control.trace.isEnabled || control.completesProtectedWrites)
        {
            bits |= TranslationBits.traced
        }
        return bits
    }

    /// The width of physical addresses that the guest's tables name in the present mode.
    public var physicalAddressBits: UInt64 {
        physicalAddressBits(of: PagingForm(cr0: cr0, cr4: cr4, efer: efer))
    }

    /// Without PSE-36, 4 MiB pages have 32-bit addresses as all else in this form.
    private func physicalAddressBits(of form: PagingForm?) -> UInt64 {
        form == .twoLevel && !hasLargeAddresses ? 32 : mostPhysicalAddressBits
    }

    /// What entries of the guest's tables mean in the present mode; nil without paging.
    public var pagingRules: PagingRules? {
        let (cr0, cr4, efer) = (core.state.cr0, core.state.cr4, core.state.efer)
        guard let form = PagingForm(cr0: cr0, cr4: cr4, efer: efer) else { return nil }
        return PagingRules(
            form: form,
            physicalAddressBits: physicalAddressBits(of: form),
            executeDisable: efer & EFER.executeDisableEnable != 0,
            gigabytePages: hasGigabytePages,
            pageSizeExtensions: cr4 & CR4.pageSizeExtensions != 0)
    }

    /// The guest's tables, to which a switch leads from the hypervisor's; nil without paging.
    private func behindSwitch(_ tables: WalkedTables) -> WalkedTables? {
        guard let second = tables.secondBehindSwitch, let rules = pagingRules else { return nil }
        return WalkedTables(rules: rules, isShadow: false, second: second)
    }

    /// Whether the write of the guest entry is one that is completed for the hypervisor, and
    /// noted; nil where the second dimension does not let it be made, after raising the exit. The
    /// walk read the entry through it, which is not counted again.
    private func mayUpdate(_ slot: UInt64, _ second: UInt64?, _ kind: AccessKind) -> Bool? {
        guard let second else { return false }
        let references = statistics.walkReferences
        defer { statistics.walkReferences = references }
        return translateSecond(slot, second, write: true, kind)?.isCompleting
    }

    /// The entry at a machine address; where no memory answers the bus floats high, and all ones
    /// come back: present, with A and D set, so that nothing is to be written.
    func readEntry(_ slot: UInt64, _ form: PagingForm) -> PagingEntry {
        guard slot < memory.arenaBytes,
            unsafe memory.frameFlags[Int(slot >> 12)] & FrameFlags.memory != 0
        else { return PagingEntry(form == .twoLevel ? 0xffff_ffff : .max) }
        let pointer = unsafe memory.base + Int(slot)
        if form == .twoLevel {
            return PagingEntry(UInt64(unsafe pointer.load(as: UInt32.self)))
        }
        return PagingEntry(unsafe pointer.load(as: UInt64.self))
    }

    /// Compare-and-swap of an entry in memory, in its own width; it was readable, so it is memory
    /// or all ones (and then there was nothing to set).
    private func swapEntry(
        _ slot: UInt64, _ old: PagingEntry, _ new: PagingEntry, _ form: PagingForm,
        isNoted: Bool
    ) -> Bool {
        let done: Bool
        if form == .twoLevel {
            done = memory.compareAndSwap(
                at: MachineAddress(slot), expected: UInt32(truncatingIfNeeded: old.rawValue),
                desired: UInt32(truncatingIfNeeded: new.rawValue), by: .walker(index))
        } else {
            done = memory.compareAndSwap(
                at: MachineAddress(slot), expected: old.rawValue, desired: new.rawValue,
                by: .walker(index))
        }
        if done && isNoted { note(.complete, slot, new.rawValue, size: Int(form.entryBytes)) }
        if done, unsafe memory.frameFlags[Int(slot >> 12)] & FrameFlags.code != 0 {
            memory.codeWritten(slot, size: Int(form.entryBytes))
            core.leaveBlock()
        }
        return done
    }

    /// What a walk of the hypervisor's tables that permits no access leads to: an exit.
    func failedInShadow(_ address: UInt64, _ kind: AccessKind) -> Translation? {
        if kind.contains(.silent) { return nil }
        noteFailure(address, kind)
        _ = core.exitBefore(.pageFault(GuestVirtualAddress(address), kind))
        return nil
    }

    private func noteFailure(_ address: UInt64, _ kind: AccessKind) {
        faultedAccess = (address, kind)
        caches.faulted(at: address, pcid: currentPCID)
    }

    private func failed(
        _ address: UInt64, _ kind: AccessKind, _ tables: WalkedTables, present: Bool,
        reserved: Bool, byKey: Bool = false
    ) -> Translation? {
        if tables.isShadow { return failedInShadow(address, kind) }
        if kind.contains(.silent) { return nil }
        noteFailure(address, kind)
        var error: PageFaultError = []
        if present { error.insert(.present) }
        if reserved { error.insert(.reserved) }
        if byKey { error.insert(.protectionKey) }
        if kind.contains(.write) { error.insert(.write) }
        if kind.contains(.user) { error.insert(.user) }
        if kind.contains(.fetch),
            // 4-byte entries have no XD (SDM Vol. 3A §4.7).
            tables.rules.form != .twoLevel && tables.rules.executeDisable
                || core.state.cr4 & CR4.supervisorExecutionPrevention != 0
        {
            error.insert(.fetch)
        }
        core.state.pendingAddress = address
        _ = core.raise(.pageFault, error: error.rawValue)
        return nil
    }
}

extension PagingRules {
    /// The rules of the hypervisor's tables, which are the same in every mode of the guest.
    static func shadow(top: PageLevel) -> PagingRules {
        PagingRules(
            form: top == .pml5 ? .fiveLevel : .fourLevel, physicalAddressBits: 52,
            executeDisable: true, gigabytePages: true,
            pageSizeExtensions: true)
    }
}
