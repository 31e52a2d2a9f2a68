import X86

/// RDMSR and WRMSR (SDM Vol. 2B; registers: Vol. 4). A register that the model does not have
/// raises #GP(0), as does a value that it cannot hold.
enum ModelSpecific {
    static let read: Handler = {
        plain($0, $1) { core, _ in
            guard core.state.cpl == 0,
                let value = value(core, UInt32(truncatingIfNeeded: core[.rcx]))
            else { return core.generalProtection() }
            core[.rax] = value & 0xffff_ffff
            core[.rdx] = value >> 32
            return .next
        }
    }

    static let write: Handler = {
        plain($0, $1) { core, _ in
            let value = core[.rax] & 0xffff_ffff | core[.rdx] << 32
            guard core.state.cpl == 0,
                set(core, UInt32(truncatingIfNeeded: core[.rcx]), value)
            else { return core.generalProtection() }
            core.leaveBlock()
            return .next
        }
    }

    private static func isAPIC(_ register: UInt32) -> Bool {
        register == MSR.apicBase || register == MSR.tscDeadline
            || MSR.x2apicFirst...MSR.x2apicLast ~= register
    }

    /// Whether a register is one of a feature that the model has not.
    private static func isAbsent(_ register: UInt32, _ model: ProcessorModel) -> Bool {
        switch register {
        case MSR.sysenterCS, MSR.sysenterESP, MSR.sysenterEIP: !model.has(.sep)
        case MSR.pat: !model.has(.pat)
        default: false
        }
    }

    private static func value(_ core: Core, _ register: UInt32) -> UInt64? {
        let model = core.processor.model
        if isAbsent(register, model) { return nil }
        if isAPIC(register) {
            if register == MSR.tscDeadline && !model.has(.tscDeadline) { return nil }
            core.processor.statistics.deviceAccesses += 1
            core.leaveBlock()
            return core.processor.platform.readAPICRegister(
                register, processor: core.processor.index)
        }
        switch register {
        case MSR.timeStampCounter: return Identification.timeStamp(core)
        case MSR.platformID: return 0
        case MSR.tscAdjust: return model.has(.tscAdjust) ? core.state.tscAdjust : nil
        case MSR.speculationControl:
            return model.has(.speculationControl) ? core.state.speculationControl : nil
        // The update signature stands in the upper half.
        case MSR.microcodeRevision: return 1 << 32
        case MSR.archCapabilities:
            return model.has(.archCapabilities) ? ProcessorModel.ArchCapabilities.value : nil
        // No banks that report machine checks. Xen asks for their number whatever CPUID says.
        case MSR.machineCheckCapabilities, MSR.machineCheckStatus: return 0
        case MSR.sysenterCS: return core.state.sysenterCS
        case MSR.sysenterESP: return core.state.sysenterESP
        case MSR.sysenterEIP: return core.state.sysenterEIP
        case MSR.miscEnable: return core.state.miscEnable
        case MSR.debugControl: return core.state.debugControl
        case MSR.pat: return core.state.pat
        // P5_MC_ADDR and P5_MC_TYPE.
        case 0, 1: return model.has(.mce) ? 0 : nil
        // No supervisor state is saved.
        case MSR.extendedSupervisorState: return model.has(.xsaves) ? 0 : nil
        case MSR.efer: return core.state.efer
        case MSR.star: return core.state.star
        case MSR.longSTAR: return core.state.longSTAR
        case MSR.compatibilitySTAR: return core.state.compatibilitySTAR
        case MSR.systemCallFlagMask: return core.state.systemCallFlagMask
        case MSR.fsBase: return core[.fs].base
        case MSR.gsBase: return core[.gs].base
        case MSR.kernelGSBase: return core.state.kernelGSBase
        case MSR.tscAux:
            return model.has(.rdtscp) || model.has(.rdpid) ? core.state.tscAux : nil
        default: return core.state.typeRanges.value(register)
        }
    }

    private static func set(_ core: Core, _ register: UInt32, _ value: UInt64) -> Bool {
        let model = core.processor.model
        if isAbsent(register, model) { return false }
        if isAPIC(register) {
            if register == MSR.tscDeadline && !model.has(.tscDeadline) { return false }
            core.processor.statistics.deviceAccesses += 1
            return core.processor.platform.writeAPICRegister(
                register, value: value, processor: core.processor.index)
        }
        let isCanonical = core.isStorable(value)
        switch register {
        case MSR.timeStampCounter:
            let change = value &- Identification.timeStamp(core)
            moveTimeStamp(core, change)
        case MSR.tscAdjust:
            guard model.has(.tscAdjust) else { return false }
            moveTimeStamp(core, value &- core.state.tscAdjust)
        case MSR.speculationControl:
            // IBRS, STIBP, SSBD.
            guard model.has(.speculationControl), value & ~7 == 0 else { return false }
            core.state.speculationControl = value
        case MSR.predictionCommand:
            return model.has(.speculationControl) && value & ~1 == 0
        // Written before CPUID to read the revision; no update exists.
        case MSR.microcodeRevision: break
        case MSR.machineCheckStatus: return value == 0
        case MSR.sysenterCS: core.state.sysenterCS = value & 0xffff_ffff
        case MSR.sysenterESP:
            guard isCanonical else { return false }
            core.state.sysenterESP = value
        case MSR.sysenterEIP:
            guard isCanonical else { return false }
            core.state.sysenterEIP = value
        case MSR.miscEnable: core.state.miscEnable = value
        // No tracing of branches.
        case MSR.debugControl:
            guard value & ~DebugControl.branchStep == 0 else { return false }
            core.state.debugControl = value
        case MSR.pat: return setPageAttributes(core, value)
        case 0, 1: return model.has(.mce) && value == 0
        case MSR.extendedSupervisorState: return model.has(.xsaves) && value == 0
        case MSR.efer: return setEFER(core, value)
        case MSR.star: core.state.star = value
        case MSR.longSTAR:
            guard isCanonical else { return false }
            core.state.longSTAR = value
        case MSR.compatibilitySTAR:
            guard isCanonical else { return false }
            core.state.compatibilitySTAR = value
        case MSR.systemCallFlagMask:
            guard value >> 32 == 0 else { return false }
            core.state.systemCallFlagMask = value
        case MSR.fsBase:
            guard isCanonical else { return false }
            core[.fs].base = value
        case MSR.gsBase:
            guard isCanonical else { return false }
            core[.gs].base = value
        case MSR.kernelGSBase:
            guard isCanonical else { return false }
            core.state.kernelGSBase = value
        case MSR.tscAux:
            guard model.has(.rdtscp) || model.has(.rdpid), value >> 32 == 0 else { return false }
            core.state.tscAux = value
        default: return core.state.typeRanges.set(register, value)
        }
        return true
    }

    private static func moveTimeStamp(_ core: Core, _ change: UInt64) {
        core.state.tscOffset = core.state.tscOffset &+ change
        core.state.tscAdjust = core.state.tscAdjust &+ change
        core.processor.statistics.deviceAccesses += 1
        core.processor.platform.setTimeStampOffset(
            core.state.tscOffset, processor: core.processor.index)
    }

    /// IA32_PAT: eight memory types, each 0, 1, 4, 5, 6 or 7 (SDM Vol. 3A §11.12.2).
    static func isPageAttributes(_ value: UInt64) -> Bool {
        for byte in 0..<8 as Range<UInt64> {
            let type = value >> (byte &* 8) & 0xff
            guard type < 8, type != 2, type != 3 else { return false }
        }
        return true
    }

    private static func setPageAttributes(_ core: Core, _ value: UInt64) -> Bool {
        guard isPageAttributes(value) else { return false }
        core.state.pat = value
        return true
    }

    /// The bits of IA32_EFER that the model has.
    static func eferBits(_ model: ProcessorModel) -> UInt64 {
        let bits = EFER.systemCallEnable | EFER.longModeEnable | EFER.longModeActive
        return model.has(.nx) ? bits | EFER.executeDisableEnable : bits
    }

    private static func setEFER(_ core: Core, _ value: UInt64) -> Bool {
        let old = core.state.efer
        let defined = eferBits(core.processor.model)
        let new = value & ~EFER.longModeActive | old & EFER.longModeActive
        guard value & ~defined == 0,
            (old ^ new) & EFER.longModeEnable == 0 || core.state.cr0 & CR0.paging == 0
        else { return false }
        core.state.efer = new
        if (old ^ new) & EFER.executeDisableEnable != 0 {
            core.processor.caches.rightsChanged()
            ControlRegisters.modeChanged(core, core.state.cr0, core.state.cr4, old)
        }
        return true
    }
}
