/// The bits of CR0 (SDM Vol. 3A §2.5).
public enum CR0 {
    public static let protectionEnable: UInt64 = 1 << 0
    public static let monitorCoprocessor: UInt64 = 1 << 1
    public static let emulation: UInt64 = 1 << 2
    public static let taskSwitched: UInt64 = 1 << 3
    public static let extensionType: UInt64 = 1 << 4
    public static let numericError: UInt64 = 1 << 5
    public static let writeProtect: UInt64 = 1 << 16
    public static let alignmentMask: UInt64 = 1 << 18
    public static let notWriteThrough: UInt64 = 1 << 29
    public static let cacheDisable: UInt64 = 1 << 30
    public static let paging: UInt64 = 1 << 31
}

/// The bits of CR4 (SDM Vol. 3A §2.5).
public enum CR4 {
    public static let virtual8086Extensions: UInt64 = 1 << 0
    public static let protectedVirtualInterrupts: UInt64 = 1 << 1
    public static let timeStampDisable: UInt64 = 1 << 2
    public static let debuggingExtensions: UInt64 = 1 << 3
    public static let pageSizeExtensions: UInt64 = 1 << 4
    public static let physicalAddressExtension: UInt64 = 1 << 5
    public static let machineCheckEnable: UInt64 = 1 << 6
    public static let pageGlobalEnable: UInt64 = 1 << 7
    public static let performanceCounterEnable: UInt64 = 1 << 8
    public static let osFXSR: UInt64 = 1 << 9
    public static let osSIMDExceptions: UInt64 = 1 << 10
    public static let userModeInstructionPrevention: UInt64 = 1 << 11
    public static let fiveLevelPaging: UInt64 = 1 << 12
    public static let fsGSBaseEnable: UInt64 = 1 << 16
    public static let pcidEnable: UInt64 = 1 << 17
    public static let osXSAVE: UInt64 = 1 << 18
    public static let supervisorExecutionPrevention: UInt64 = 1 << 20
    public static let supervisorAccessPrevention: UInt64 = 1 << 21
    public static let protectionKeyEnable: UInt64 = 1 << 22
}

/// The bits of CR3 that are not part of the root's address (SDM Vol. 3A §4.5.2, §4.10.4.1).
public enum CR3 {
    /// Bits 11…0 with CR4.PCIDE=1: the process-context identifier.
    public static let pcidMask: UInt64 = 0xfff
    /// Bit 63 of the *source operand* of MOV to CR3: keep the target PCID's translations.
    public static let noFlush: UInt64 = 1 << 63
}

/// The bits of IA32_EFER (SDM Vol. 3A §2.2.1).
public enum EFER {
    public static let systemCallEnable: UInt64 = 1 << 0
    public static let longModeEnable: UInt64 = 1 << 8
    public static let longModeActive: UInt64 = 1 << 10
    public static let executeDisableEnable: UInt64 = 1 << 11
}

/// The bits of RFLAGS (SDM Vol. 1 §3.4.3).
public enum RFLAGS {
    public static let carry: UInt64 = 1 << 0
    public static let alwaysOne: UInt64 = 1 << 1
    public static let parity: UInt64 = 1 << 2
    public static let adjust: UInt64 = 1 << 4
    public static let zero: UInt64 = 1 << 6
    public static let sign: UInt64 = 1 << 7
    public static let trap: UInt64 = 1 << 8
    public static let interruptEnable: UInt64 = 1 << 9
    public static let direction: UInt64 = 1 << 10
    public static let overflow: UInt64 = 1 << 11
    public static let ioPrivilegeLevel: UInt64 = 3 << 12
    public static let nestedTask: UInt64 = 1 << 14
    public static let resume: UInt64 = 1 << 16
    public static let virtual8086: UInt64 = 1 << 17
    public static let alignmentCheck: UInt64 = 1 << 18
    public static let virtualInterrupt: UInt64 = 1 << 19
    public static let virtualInterruptPending: UInt64 = 1 << 20
    public static let identification: UInt64 = 1 << 21
    /// CF, PF, AF, ZF, SF, OF: the flags that arithmetic writes.
    public static let arithmetic: UInt64 = 0x8d5
}

/// The general registers, numbered as instructions encode them.
public enum GeneralRegister: UInt8, CaseIterable, Sendable {
    case rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
}

/// The segment registers, numbered as instructions encode them.
public enum SegmentRegister: UInt8, CaseIterable, Sendable {
    case es, cs, ss, ds, fs, gs
}

/// The architecture's exceptions (SDM Vol. 3A §6.3.1, Table 6-1).
public enum ExceptionVector: UInt8, Sendable {
    case divideError = 0
    case debug = 1
    case nonMaskableInterrupt = 2
    case breakpoint = 3
    case overflow = 4
    case boundRange = 5
    case invalidOpcode = 6
    case deviceNotAvailable = 7
    case doubleFault = 8
    case invalidTSS = 10
    case segmentNotPresent = 11
    case stackFault = 12
    case generalProtection = 13
    case pageFault = 14
    case floatingPoint = 16
    case alignmentCheck = 17
    case machineCheck = 18
    case simdFloatingPoint = 19

    /// Whether delivery pushes an error code.
    public var hasErrorCode: Bool {
        switch self {
        case .doubleFault, .invalidTSS, .segmentNotPresent, .stackFault, .generalProtection,
            .pageFault, .alignmentCheck:
            true
        default: false
        }
    }
}
