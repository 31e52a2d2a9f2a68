import X86

/// Instructions that invalidate translations and caches (SDM Vol. 3A §4.10.4.1).
enum TranslationInstructions {
    static let invalidatePage: Handler = {
        plain($0, $1) { core, op in
            guard core.state.cpl == 0 else { return core.generalProtection() }
            var address = core.effectiveAddress(op)
            if core.is64 {
                if op.segment.rawValue >= SegmentRegister.fs.rawValue {
                    address = address &+ core[op.segment].base
                }
                // Nothing is cached for a non-canonical address: no operation, no fault.
                guard core.isStorable(address) else { return .next }
            } else {
                address = (address &+ core[op.segment].base) & 0xffff_ffff
            }
            core.withProcessor { processor in
                processor.caches.invalidatePage(
                    address, pcid: processor.currentPCID,
                    hasContexts: core.state.cr4 & CR4.pcidEnable != 0)
                processor.observe(.invalidatePage(address))
                processor.stirCaches(inOperation: true)
                if processor.control.exitsOnPagingOperations
                    && processor.control.exitsOnInvalidation
                {
                    processor.leaveUnlessElided(.invalidatePage(GuestVirtualAddress(address)))
                }
            }
            core.leaveBlock()
            return .next
        }
    }

    /// INVPCID: the type in a register, the PCID and address in 16 bytes of memory.
    static let invalidatePCID: Handler = {
        plain($0, $1) { core, op in
            guard core.state.cpl == 0 else { return core.generalProtection() }
            let type = core.is64 ? core[op.a, as: UInt64.self] : UInt64(core[op.a, as: UInt32.self])
            guard let descriptor = core.linearAddress(op, size: 16, write: false),
                let rawPCID = core.read(UInt64.self, linear: descriptor),
                let address = core.read(UInt64.self, linear: descriptor &+ 8)
            else { return .fault }
            let processor = core.processor
            let pcid = UInt16(truncatingIfNeeded: rawPCID)
            guard type <= 3, rawPCID <= CR3.pcidMask,
                type != 0 || core.isStorable(address),
                type > 1 || pcid == 0 || core.state.cr4 & CR4.pcidEnable != 0
            else { return core.generalProtection() }
            switch type {
            case 0: processor.caches.invalidateAddress(address, pcid: pcid)
            case 1: processor.caches.invalidateContext(pcid: pcid)
            case 2: processor.caches.invalidateContextsAndGlobals()
            default: processor.caches.invalidateContexts()
            }
            processor.observe(
                .invalidatePCID(
                    type: UInt8(truncatingIfNeeded: type), pcid: pcid, address: address))
            processor.stirCaches(inOperation: true)
            if processor.control.exitsOnPagingOperations && processor.control.exitsOnInvalidation {
                processor.leaveUnlessElided(
                    .invalidatePCID(
                        type: UInt8(truncatingIfNeeded: type), pcid: pcid,
                        address: GuestVirtualAddress(address)))
            }
            core.leaveBlock()
            return .next
        }
    }

    /// INVD, WBINVD: caches are not modelled.
    static let invalidateCaches: Handler = {
        plain($0, $1) { core, _ in
            core.state.cpl == 0 ? .next : core.generalProtection()
        }
    }
}
