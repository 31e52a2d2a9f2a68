import MachineMemory
import X86

/// The page walker: 4-level paging by the x86 rules (SDM Vol. 3A §4.5), over whichever tables the
/// control block names.
extension Processor {
    /// Walks the tables for an access of `kind`, setting A and D as it goes.
    /// - Returns: the translation; nil after raising #PF (guest's tables) or an exit (shadow).
    func walk(_ address: UInt64, _ kind: AccessKind) -> Translation? {
        let beginsInShadow: Bool
        let root: UInt64
        /// The second dimension's root; nil: there is none.
        var second: UInt64?
        switch control.paging {
        case .guest, .nested:
            if case .nested(let base) = control.paging {
                if core.state.cr0 & CR0.paging == 0 {
                    return walkSecondOnly(address, base.rawValue, kind)
                }
                second = base.rawValue
            }
            beginsInShadow = false
            root = core.state.cr3 & guestAddressMask
            if core.state.cr4 & CR4.physicalAddressExtension == 0
                || core.state.efer & EFER.longModeActive == 0
            {
                // Only 4-level paging is modelled: setting CR0.PG otherwise was refused.
                _ = core.raise(.generalProtection)
                return nil
            }
        case .shadow(let base):
            beginsInShadow = true
            root = base.rawValue
        case .agile(let base, let secondBase):
            beginsInShadow = true
            root = base.rawValue
            second = secondBase.rawValue
        }
        restart: while true {
            var isShadow = beginsInShadow
            /// Whether `table` is a machine address, and not a guest-physical one.
            var isMachine = isShadow || second == nil
            var table = root
            var level = PageLevel.pml4
            var writable = true
            var user = true
            var executeDisable = false
            while true {
                var slot = table + UInt64(GuestVirtualAddress(address).index(at: level)) * 8
                let physicalSlot = slot
                if let second, !isMachine {
                    guard
                        let found = translateSecond(slot, second, write: false, kind)
                    else { return nil }
                    slot = found.machine
                }
                statistics.walkReferences += 1
                let raw = readEntry(slot)
                let entry = PagingEntry(raw)
                guard entry.isPresent else {
                    return failed(address, kind, isShadow, present: false, reserved: false)
                }
                if entry.reservedBits(
                    at: level, physicalAddressBits: isShadow ? 52 : model.physicalAddressBits,
                    executeDisable: isShadow || core.state.efer & EFER.executeDisableEnable != 0,
                    gigabytePages: isShadow || model.hasGigabytePages) != 0
                {
                    return failed(address, kind, isShadow, present: true, reserved: true)
                }
                writable = writable && entry.isWritable
                user = user && entry.isUser
                executeDisable = executeDisable || entry.isExecuteDisabled
                if !entry.isLeaf(at: level) {
                    if !entry.isAccessed {
                        guard
                            let update = mayUpdate(physicalSlot, isMachine ? nil : second, kind)
                        else { return nil }
                        guard
                            swapEntry(slot, raw, raw | PagingEntry.accessedBit, update)
                        else { continue restart }
                    }
                    table = entry.addressField & addressMask(isShadow)
                    level = level.below ?? .table
                    if isShadow && second != nil && entry.isSwitch {
                        // This table is the guest's; what it names is guest-physical.
                        isShadow = false
                    } else {
                        isMachine = isShadow || second == nil
                    }
                    continue
                }
                guard
                    grants(
                        kind, user: user, writable: writable, executeDisable: executeDisable)
                else { return failed(address, kind, isShadow, present: true, reserved: false) }
                var wanted = raw | PagingEntry.accessedBit
                if kind.contains(.write) && !entry.isDirty {
                    // The hypervisor is told of the first write (see PagingScheme.shadow).
                    if isShadow && !(entry.isTraced && control.completesProtectedWrites) {
                        return failed(address, kind, isShadow, present: true, reserved: false)
                    }
                    if !isShadow { wanted |= PagingEntry.dirtyBit }
                }
                if wanted != raw {
                    guard let update = mayUpdate(physicalSlot, isMachine ? nil : second, kind)
                    else { return nil }
                    guard swapEntry(slot, raw, wanted, update) else { continue restart }
                }
                var bits: UInt8 = 0
                if writable { bits |= TranslationBits.writable }
                if user { bits |= TranslationBits.user }
                if executeDisable { bits |= TranslationBits.executeDisable }
                if wanted & PagingEntry.dirtyBit != 0 { bits |= TranslationBits.dirty }
                if entry.isGlobal && core.state.cr4 & CR4.pageGlobalEnable != 0 {
                    bits |= TranslationBits.global
                }
                if isShadow && entry.isTraced
                    && (control.trace.isEnabled || control.completesProtectedWrites)
                {
                    bits |= TranslationBits.traced
                }
                let found = Translation(
                    base: entry.leafBase(at: level) & addressMask(isShadow), level: level,
                    bits: bits)
                guard let second, !isShadow else { return found }
                return combine(found, address, second, kind)
            }
        }
    }

    /// How an entry is written.
    private enum Update { case plain, recorded }

    /// Whether the second dimension, where there is one, lets the guest entry be written; raises
    /// the exit if not. The walk read the entry through it, which is not counted again.
    private func mayUpdate(_ slot: UInt64, _ second: UInt64?, _ kind: AccessKind) -> Update? {
        guard let second else { return .plain }
        let references = statistics.walkReferences
        defer { statistics.walkReferences = references }
        guard let found = translateSecond(slot, second, write: true, kind),
            !found.isTraced || reserveRecords(Self.widestWrite)
        else { return nil }
        return found.isTraced ? .recorded : .plain
    }

    /// Bits of an address that the guest's entries may use.
    private var guestAddressMask: UInt64 {
        PagingEntry.addressMask & ((1 << model.physicalAddressBits) - 1)
    }

    private func addressMask(_ isShadow: Bool) -> UInt64 {
        isShadow ? PagingEntry.addressMask : guestAddressMask
    }

    /// The entry at a machine address; where no memory answers the bus floats high, and all ones
    /// come back: present, with reserved bits set.
    func readEntry(_ slot: UInt64) -> UInt64 {
        guard slot < memory.arenaBytes,
            unsafe memory.frameFlags[Int(slot >> 12)] & FrameFlags.memory != 0
        else { return .max }
        return unsafe memory.base.load(fromByteOffset: Int(slot), as: UInt64.self)
    }

    /// Compare-and-swap of an entry in memory; it was readable, so it is memory or all ones (and
    /// then the walk ended).
    private func swapEntry(
        _ slot: UInt64, _ old: UInt64, _ new: UInt64, _ update: Update
    ) -> Bool {
        let done = memory.compareAndSwap(
            at: MachineAddress(slot), expected: old, desired: new)
        if done && update == .recorded { record(slot, size: 8) }
        if done, unsafe memory.frameFlags[Int(slot >> 12)] & FrameFlags.code != 0 {
            memory.codeWritten(slot, size: 8)
            core.leaveBlock()
        }
        return done
    }

    private func failed(
        _ address: UInt64, _ kind: AccessKind, _ isShadow: Bool, present: Bool, reserved: Bool
    ) -> Translation? {
        // A fault ends whatever is cached for the page (SDM Vol. 3A §4.10.4.1).
        if dropFragments(currentPCID, global: false) {
            // The whole of the page went with them.
        } else if tlb.invalidate(address, pcid: currentPCID, global: false) {
            flushSoftware()
        } else {
            softTLB.invalidate(address)
            blocks.flushLookups(ofPage: address)
        }
        if isShadow {
            _ = core.exitBefore(.pageFault(GuestVirtualAddress(address), kind))
            return nil
        }
        var error: PageFaultError = []
        if present { error.insert(.present) }
        if reserved { error.insert(.reserved) }
        if kind.contains(.write) { error.insert(.write) }
        if kind.contains(.user) { error.insert(.user) }
        if kind.contains(.fetch),
            core.state.efer & EFER.executeDisableEnable != 0
                || core.state.cr4 & CR4.supervisorExecutionPrevention != 0
        {
            error.insert(.fetch)
        }
        core.state.pendingAddress = address
        _ = core.raise(.pageFault, error: error.rawValue)
        return nil
    }
}
