import X86

/// CR0, CR2, CR3, CR4, CR8 and XCR0 (SDM Vol. 3A §2.5, §2.6; Vol. 2B, MOV control registers).
enum ControlRegisters {
    /// The bits of CR0 that exist; writes to others are ignored.
    private static let cr0Bits: UInt64 =
        CR0.protectionEnable | CR0.monitorCoprocessor | CR0.emulation | CR0.taskSwitched
        | CR0.extensionType | CR0.numericError | CR0.writeProtect | CR0.alignmentMask
        | CR0.notWriteThrough | CR0.cacheDisable | CR0.paging

    /// Whether a processor can be in a state with these registers, however it came there.
    static func exist(cr0: UInt64, cr4: UInt64, efer: UInt64, _ model: ProcessorModel) -> Bool {
        let isPaging = cr0 & CR0.paging != 0
        let isLong = efer & EFER.longModeActive != 0
        return cr0 & ~cr0Bits == 0 && cr0 & CR0.extensionType != 0
            && (!isPaging || cr0 & CR0.protectionEnable != 0)
            && (cr0 & CR0.notWriteThrough == 0 || cr0 & CR0.cacheDisable != 0)
            && cr4 & ~cr4Bits(model) == 0
            && (cr4 & CR4.pcidEnable == 0 || isLong)
            && efer & ~ModelSpecific.eferBits(model) == 0
            && isLong == (isPaging && efer & EFER.longModeEnable != 0)
            && (!isLong || cr4 & CR4.physicalAddressExtension != 0)
    }

    // MARK: MOV. `Op.code` is the control register's number.

    static let moveTo: Handler = {
        plain($0, $1) { core, op in
            guard core.state.cpl == 0 else { return core.generalProtection() }
            let value =
                core.is64 ? core[op.a, as: UInt64.self] : UInt64(core[op.a, as: UInt32.self])
            switch op.code {
            case 0: return setCR0(core, value)
            case 2:
                core.state.cr2 = value
                return .next
            case 3: return setCR3(core, value)
            case 4: return setCR4(core, value)
            default: return setCR8(core, value)
            }
        }
    }

    static let moveFrom: Handler = {
        plain($0, $1) { core, op in
            guard core.state.cpl == 0 else { return core.generalProtection() }
            let value: UInt64
            switch op.code {
            case 0: value = core.state.cr0
            case 2: value = core.state.cr2
            case 3: value = core.state.cr3
            case 4: value = core.state.cr4
            default:
                core.processor.statistics.deviceAccesses += 1
                value = UInt64(
                    core.processor.platform.taskPriority(processor: core.processor.index) & 15)
            }
            core[op.a] = core.is64 ? value : value & 0xffff_ffff
            return .next
        }
    }

    /// LMSW: PE can be set, not cleared.
    static let loadStatusWord: Handler = {
        plain($0, $1) { core, op in
            guard core.state.cpl == 0 else { return core.generalProtection() }
            guard let value = core.readDestination(UInt16.self, op) else { return .fault }
            let changed: UInt64 = 0xe
            return setCR0(
                core,
                core.state.cr0 & ~changed | UInt64(value) & (changed | CR0.protectionEnable))
        }
    }

    static let storeStatusWord: Handler = {
        plain($0, $1) { core, op in
            guard permitsStore(core) else { return core.generalProtection() }
            if op.destination == .memory {
                let value = UInt16(truncatingIfNeeded: core.state.cr0)
                return core.writeMemory(value, op) ? .next : .fault
            }
            switch op.width {
            case 2: core[op.a] = UInt16(truncatingIfNeeded: core.state.cr0)
            default: core[op.a] = core.state.cr0 & 0xffff_ffff
            }
            return .next
        }
    }

    /// CR4.UMIP keeps SGDT, SIDT, SLDT, SMSW and STR from user code.
    static func permitsStore(_ core: Core) -> Bool {
        core.state.cpl == 0 || core.state.cr4 & CR4.userModeInstructionPrevention == 0
    }

    static let clearTaskSwitched: Handler = {
        plain($0, $1) { core, _ in
            guard core.state.cpl == 0 else { return core.generalProtection() }
            core.state.cr0 &= ~CR0.taskSwitched
            return .next
        }
    }

    // MARK: CR0

    private static func setCR0(_ core: Core, _ raw: UInt64) -> Status {
        let old = core.state.cr0
        let new = raw & cr0Bits | CR0.extensionType
        let changed = old ^ new
        func sets(_ bit: UInt64) -> Bool { new & bit != 0 }
        guard raw >> 32 == 0, !sets(CR0.paging) || sets(CR0.protectionEnable),
            !sets(CR0.notWriteThrough) || sets(CR0.cacheDisable)
        else { return core.generalProtection() }
        var efer = core.state.efer
        if changed & CR0.paging != 0 {
            if sets(CR0.paging) && efer & EFER.longModeEnable != 0 {
                // IA-32e mode does not begin in 64-bit code or with a 16-bit TSS, types 1 and 3.
                guard
                    core.state.cr4 & CR4.physicalAddressExtension != 0,
                    !core[.cs].has(Segment.long), core.state.taskRegister.type & 13 != 1
                else { return core.generalProtection() }
                efer |= EFER.longModeActive
            } else if !sets(CR0.paging) {
                guard !core.is64, core.state.cr4 & CR4.pcidEnable == 0 else {
                    return core.generalProtection()
                }
                efer &= ~EFER.longModeActive
            }
        }
        let old4 = core.state.cr4
        let oldEFER = core.state.efer
        var loadsPointers = false
        if changed & (CR0.cacheDisable | CR0.notWriteThrough | CR0.paging) != 0 {
            guard
                let loads = core.processor.loadPointers(
                    cr3: core.state.cr3,
                    form: PagingForm(cr0: new, cr4: old4, efer: efer))
            else { return .fault }
            loadsPointers = loads
        }
        core.state.cr0 = new
        core.state.efer = efer
        if changed & CR0.paging != 0 {
            core.processor.caches.invalidateEverything()
        } else if changed & CR0.writeProtect != 0 {
            core.processor.caches.rightsChanged()
        }
        if changed & (CR0.protectionEnable | CR0.paging) != 0 { core.updateMode() }
        if changed & (CR0.paging | CR0.writeProtect) != 0 || loadsPointers {
            modeChanged(core, old, old4, oldEFER)
        }
        // TS, EM, MP and NE bear on ops that follow.
        core.leaveBlock()
        return .next
    }

    /// Exits, where the hypervisor wants to know of a change of the paging mode.
    /// So does a reload of the PAE pointers at a change of other bits.
    static func modeChanged(_ core: Core, _ cr0: UInt64, _ cr4: UInt64, _ efer: UInt64) {
        core.processor.observe(.modeChanged(cr0: cr0, cr4: cr4, efer: efer))
        if core.processor.control.exitsOnPagingOperations {
            core.exitAfter(.pagingModeChanged(cr0: cr0, cr4: cr4, efer: efer))
        }
        core.leaveBlock()
    }

    // MARK: CR3

    private static func setCR3(_ core: Core, _ raw: UInt64) -> Status {
        var value = raw
        var flushes = true
        if core.state.cr4 & CR4.pcidEnable != 0 {
            flushes = value & CR3.noFlush == 0
            value &= ~CR3.noFlush
        }
        guard value >> core.processor.model.physicalAddressBits == 0 else {
            return core.generalProtection()
        }
        let form = PagingForm(
            cr0: core.state.cr0, cr4: core.state.cr4, efer: core.state.efer)
        guard core.processor.loadPointers(cr3: value, form: form) != nil else { return .fault }
        loadRoot(core, value, flushes: flushes)
        return .next
    }

    /// Loads CR3 with what that invalidates (SDM Vol. 3A §4.10.4.1); the PAE pointers are loaded.
    static func loadRoot(_ core: Core, _ value: UInt64, flushes: Bool) {
        core.state.cr3 = value
        core.withProcessor { processor in
            processor.caches.rootLoaded(pcid: processor.currentPCID, flushes: flushes)
            processor.observe(.rootLoaded(flushed: flushes))
            if processor.control.exitsOnPagingOperations && !processor.elideRootLoad() {
                core.exitAfter(.rootLoaded(flushed: flushes))
            }
        }
        core.leaveBlock()
    }

    // MARK: CR4

    /// The bits of CR4 that the model has.
    private static func cr4Bits(_ model: ProcessorModel) -> UInt64 {
        var bits =
            CR4.timeStampDisable | CR4.physicalAddressExtension | CR4.performanceCounterEnable
            | CR4.osFXSR | CR4.osSIMDExceptions
        if model.has(.vme) {
            bits |= CR4.virtual8086Extensions | CR4.protectedVirtualInterrupts
        }
        if model.has(.de) { bits |= CR4.debuggingExtensions }
        if model.has(.pse) { bits |= CR4.pageSizeExtensions }
        if model.has(.mce) { bits |= CR4.machineCheckEnable }
        if model.has(.pge) { bits |= CR4.pageGlobalEnable }
        if model.has(.la57) { bits |= CR4.fiveLevelPaging }
        if model.has(.umip) { bits |= CR4.userModeInstructionPrevention }
        if model.has(.fsgsbase) { bits |= CR4.fsGSBaseEnable }
        if model.has(.pcid) { bits |= CR4.pcidEnable }
        if model.has(.xsave) { bits |= CR4.osXSAVE }
        if model.has(.smep) { bits |= CR4.supervisorExecutionPrevention }
        if model.has(.smap) { bits |= CR4.supervisorAccessPrevention }
        if model.has(.pku) { bits |= CR4.protectionKeyEnable }
        return bits
    }

    private static func setCR4(_ core: Core, _ new: UInt64) -> Status {
        let processor = core.processor
        let old = core.state.cr4
        let changed = old ^ new
        guard new & ~cr4Bits(processor.model) == 0 else { return core.generalProtection() }
        if core.isLongModeActive
            && (new & CR4.physicalAddressExtension == 0 || changed & CR4.fiveLevelPaging != 0)
        {
            return core.generalProtection()
        }
        if changed & new & CR4.pcidEnable != 0 {
            guard core.isLongModeActive, core.state.cr3 & CR3.pcidMask == 0 else {
                return core.generalProtection()
            }
        }
        let reloading =
            CR4.physicalAddressExtension | CR4.pageGlobalEnable | CR4.pageSizeExtensions
            | CR4.supervisorExecutionPrevention
        if changed & reloading != 0 {
            let form = PagingForm(cr0: core.state.cr0, cr4: new, efer: core.state.efer)
            guard processor.loadPointers(cr3: core.state.cr3, form: form) != nil else {
                return .fault
            }
        }
        core.state.cr4 = new
        if changed & CR4.pageGlobalEnable != 0 || changed & old & CR4.pcidEnable != 0 {
            processor.caches.invalidateEverything()
        } else if changed & CR4.physicalAddressExtension != 0
            || changed & new & CR4.supervisorExecutionPrevention != 0
        {
            processor.caches.invalidateContextWithGlobals(pcid: processor.currentPCID)
        }
        let paging =
            CR4.pageSizeExtensions | CR4.physicalAddressExtension | CR4.pageGlobalEnable
            | CR4.pcidEnable | CR4.supervisorExecutionPrevention | CR4.supervisorAccessPrevention
        if changed & paging != 0 {
            processor.caches.rightsChanged()
            modeChanged(core, core.state.cr0, old, core.state.efer)
        } else if changed & CR4.protectionKeyEnable != 0 {
            // Keys are looked at in each access: nothing that anybody keeps depends on the bit.
            processor.caches.rightsChanged()
        }
        core.leaveBlock()
        return .next
    }

    // MARK: CR8 and XCR0

    private static func setCR8(_ core: Core, _ value: UInt64) -> Status {
        guard value <= 15 else { return core.generalProtection() }
        core.processor.statistics.deviceAccesses += 1
        core.processor.platform.setTaskPriority(
            UInt8(truncatingIfNeeded: value), processor: core.processor.index)
        core.leaveBlock()
        return .next
    }

    /// XGETBV; register 1 is XCR0 without what is in its initial state.
    static let getExtended: Handler = {
        plain($0, $1) { core, _ in
            guard core.state.cr4 & CR4.osXSAVE != 0 else { return core.invalidOpcode() }
            let value: UInt64
            switch core[.rcx] & 0xffff_ffff {
            case 0: value = core.state.xcr0
            case 1 where core.processor.model.has(.xgetbv1):
                value = core.state.xcr0 & ExtendedSave.inUse(core)
            default: return core.generalProtection()
            }
            core[.rax] = value & 0xffff_ffff
            core[.rdx] = value >> 32
            return .next
        }
    }

    /// XSETBV: x87 state always, the other components if asked for.
    static let setExtended: Handler = {
        plain($0, $1) { core, _ in
            guard core.state.cr4 & CR4.osXSAVE != 0 else { return core.invalidOpcode() }
            let value = core[.rax] & 0xffff_ffff | core[.rdx] << 32
            guard core.state.cpl == 0, core[.rcx] & 0xffff_ffff == 0,
                ExtendedState.canBeEnabled(value),
                value & ~core.processor.model.extendedStateComponents == 0
            else { return core.generalProtection() }
            core.state.xcr0 = value
            core.leaveBlock()
            return .next
        }
    }
}
