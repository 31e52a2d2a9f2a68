import Hypervisor
import MachineMemory
import Testing
import X86

/// The part of a walk that goes through the guest's own tables and the second dimension.
extension TestMachine {
    /// What became of a walk.
    enum Walk {
        case found(Cached)
        /// The shadow has no entry.
        case miss
        /// The second dimension does not map the guest-physical address, or not for a write.
        case second(UInt64, AccessKind)
        /// The guest's tables do not permit the access.
        case fault(PageFaultError)
    }

    /// Whether a non-leaf shadow entry leads to a table of the guest's.
    func isSwitch(_ raw: UInt64, _ shift: UInt64) -> Bool {
        shift != 12 && raw & Self.large == 0 && raw >> 53 & 1 != 0
    }

    /// The switch entry on the shadow's path to an address; nil where there is none.
    func switchEntry(_ address: UInt64) -> (raw: UInt64, shift: UInt64)? {
        var table = mmu.liveRoot(processor: current).rawValue
        for shift in shifts where shift != 12 {
            let raw = load(table + (address >> shift & 511) * 8)
            if raw & 1 == 0 || raw & Self.large != 0 { return nil }
            if isSwitch(raw, shift) { return (raw, shift) }
            table = raw & 0x000f_ffff_ffff_f000
        }
        return nil
    }

    private func load(half machine: UInt64) -> UInt64 {
        memory.load(UInt32.self, at: MachineAddress(machine)).map(UInt64.init) ?? 0xffff_ffff
    }

    private func load(_ machine: UInt64) -> UInt64 {
        memory.load(UInt64.self, at: MachineAddress(machine)) ?? .max
    }

    func walk(_ address: UInt64, _ kind: AccessKind) -> Walk {
        if mode.cr0 & CR0.paging != 0, let found = switchEntry(address) {
            return walkGuest(address, kind, found.raw, found.shift)
        }
        return walkShadow(address).map { .found($0) } ?? .miss
    }

    /// Goes on behind a switch entry, whose rights stand for the path to it with those above.
    private func walkGuest(
        _ address: UInt64, _ kind: AccessKind, _ entry: UInt64, _ above: UInt64
    ) -> Walk {
        var (writable, user, executeDisable) = rights(address, above)
        // The first table's machine address, and guest-physical addresses after it.
        var machineTable: UInt64? = entry & 0x000f_ffff_ffff_f000
        var table: UInt64 = 0
        var level: PageLevel = above == 21 ? .table : above == 30 ? .directory : .directoryPointer
        if above == 48 { level = .pml4 }
        while true {
            let offset =
                UInt64(form.index(GuestVirtualAddress(address), at: level)) * form.entryBytes
            var slot = (machineTable ?? 0) + offset
            if machineTable == nil {
                guard let found = second(table + offset) else {
                    return .second(table + offset, kind.subtracting(.write))
                }
                slot = found.machine
            }
            let raw = form == .twoLevel ? load(half: slot) : load(slot)
            if raw & 1 == 0 { return .fault(code(kind, [])) }
            let isLeaf =
                level == .table
                || raw & Self.large != 0
                    && (form != .twoLevel || mode.cr4 & CR4.pageSizeExtensions != 0)
            if raw & reserved(level, isLeaf) != 0 {
                return .fault(code(kind, [.present, .reserved]))
            }
            writable = writable && raw & 2 != 0
            user = user && raw & 4 != 0
            executeDisable = executeDisable || raw >> 63 != 0
            var wanted = raw | Self.accessed
            if isLeaf {
                guard
                    Oracle.permits(
                        kind, mode, writable: writable, user: user,
                        executeDisable: executeDisable)
                else { return .fault(code(kind, .present)) }
                if kind.contains(.write) { wanted |= Self.dirty }
            }
            if wanted != raw {
                if machineTable == nil, let found = second(table + offset), !found.dirty {
                    guard found.traced && isCompleting else {
                        return .second(table + offset, kind.union(.write))
                    }
                    completed.append(slot & ~7 | (form == .twoLevel ? 2 : 3))
                }
                if form == .twoLevel {
                    memory.store(UInt32(wanted), at: MachineAddress(slot))
                } else {
                    memory.store(wanted, at: MachineAddress(slot))
                }
            }
            if isLeaf {
                return leaf(
                    address, kind, wanted, level,
                    Cached(
                        machinePage: 0, writable: writable, user: user,
                        executeDisable: executeDisable, dirty: wanted & Self.dirty != 0,
                        traced: false, global: raw & Self.global != 0,
                        nestedSpan: form.entrySpan(level)))
            }
            machineTable = nil
            table = raw & (form == .twoLevel ? 0xffff_f000 : 0xff_ffff_f000)
            guard let below = level.below else { return .miss }
            level = below
        }
    }

    /// The bits of a present entry that must be zero.
    private func reserved(_ level: PageLevel, _ isLeaf: Bool) -> UInt64 {
        if form == .twoLevel { return isLeaf && level == .directory ? 1 << 21 : 0 }
        var reserved: UInt64 = 0x000f_ff00_0000_0000
        if mode.efer & EFER.executeDisableEnable == 0 { reserved |= 1 << 63 }
        if form == .pae { reserved |= 0x7ff << 52 }
        if level >= .pml4 { reserved |= Self.large }
        if isLeaf && level != .table { reserved |= (level.entrySpan - 1) & ~0x1fff }
        return reserved
    }

    /// Takes what a guest leaf says through the second dimension.
    private func leaf(
        _ address: UInt64, _ kind: AccessKind, _ raw: UInt64, _ level: PageLevel, _ guest: Cached
    ) -> Walk {
        let span = form.entrySpan(level)
        var base = raw & 0xff_ffff_f000 & ~(span - 1)
        if form == .twoLevel {
            base = raw & 0xffff_f000 & ~(span - 1)
            if level == .directory { base |= (raw >> 13 & 0xff) << 32 }
        }
        let page = base + address & (span - 1) & ~0xfff
        guard let found = second(page),
            !kind.contains(.write) || found.dirty || found.traced && isCompleting
        else { return .second(page, kind) }
        var cached = guest
        cached.machinePage = found.machine
        cached.dirty = guest.dirty && found.dirty
        cached.traced = found.traced
        return .found(cached)
    }

    /// The rights of the shadow's path down to the entry at a level.
    private func rights(_ address: UInt64, _ last: UInt64) -> (Bool, Bool, Bool) {
        var table = mmu.liveRoot(processor: current).rawValue
        var (writable, user, executeDisable) = (true, true, false)
        for shift in shifts where shift >= last {
            let raw = load(table + (address >> shift & 511) * 8)
            writable = writable && raw & 2 != 0
            user = user && raw & 4 != 0
            executeDisable = executeDisable || raw >> 63 != 0
            table = raw & 0x000f_ffff_ffff_f000
        }
        return (writable, user, executeDisable)
    }

    /// What the second dimension makes of a guest-physical address.
    func second(_ physical: UInt64) -> (machine: UInt64, dirty: Bool, traced: Bool)? {
        var table = mmu.secondDimension().rawValue
        for shift in [39, 30, 21, 12] as [UInt64] {
            let raw = load(table + (physical >> shift & 511) * 8)
            if raw & 1 == 0 { return nil }
            let base = raw & 0x000f_ffff_ffff_f000
            if shift == 12 || raw & Self.large != 0 {
                return (
                    base + physical & ((1 << shift) - 1), raw & Self.dirty != 0,
                    raw >> 52 & 1 != 0
                )
            }
            table = base
        }
        return nil
    }

    private func code(_ kind: AccessKind, _ what: PageFaultError) -> PageFaultError {
        var error = what
        if kind.contains(.write) { error.insert(.write) }
        if kind.contains(.user) { error.insert(.user) }
        if kind.contains(.fetch),
            form != .twoLevel && mode.efer & EFER.executeDisableEnable != 0
                || mode.cr4 & CR4.supervisorExecutionPrevention != 0
        {
            error.insert(.fetch)
        }
        return error
    }

    /// What must hold of a cached translation that the guest's tables gave: the second dimension
    /// still maps it so, and lets it be written if it is.
    func verifyNested(
        _ found: Cached, _ comment: String, _ sourceLocation: SourceLocation
    ) {
        let now = second(found.machinePage - memory.guestBase)
        #expect(now?.machine == found.machinePage, "\(comment)", sourceLocation: sourceLocation)
        #expect(
            !found.dirty || now?.dirty == true, "\(comment) writable, and protected",
            sourceLocation: sourceLocation)
    }
}
