/// The numbers of the model-specific registers that Penumbra knows (SDM Vol. 4).
public enum MSR {
    public static let timeStampCounter: UInt32 = 0x10
    public static let platformID: UInt32 = 0x17
    public static let apicBase: UInt32 = 0x1b
    public static let featureControl: UInt32 = 0x3a
    public static let tscAdjust: UInt32 = 0x3b
    public static let speculationControl: UInt32 = 0x48
    public static let predictionCommand: UInt32 = 0x49
    public static let microcodeRevision: UInt32 = 0x8b
    public static let mtrrCapabilities: UInt32 = 0xfe
    public static let archCapabilities: UInt32 = 0x10a
    public static let flushCommand: UInt32 = 0x10b
    public static let sysenterCS: UInt32 = 0x174
    public static let sysenterESP: UInt32 = 0x175
    public static let sysenterEIP: UInt32 = 0x176
    public static let machineCheckCapabilities: UInt32 = 0x179
    public static let machineCheckStatus: UInt32 = 0x17a
    public static let miscEnable: UInt32 = 0x1a0
    public static let debugControl: UInt32 = 0x1d9
    /// 0x200…0x20f: the base and mask of each variable range.
    public static let mtrrFirstVariable: UInt32 = 0x200
    public static let mtrrLastVariable: UInt32 = 0x20f
    /// The fixed ranges: one register of 64 KiB pieces, two of 16 KiB and eight of 4 KiB ones.
    public static let mtrrFixed64K: UInt32 = 0x250
    public static let mtrrFixed16K: UInt32 = 0x258
    public static let mtrrFixed4K: UInt32 = 0x268
    public static let pat: UInt32 = 0x277
    public static let mtrrDefaultType: UInt32 = 0x2ff
    public static let tscDeadline: UInt32 = 0x6e0
    /// 0x800…0x8ff: the x2APIC registers.
    public static let x2apicFirst: UInt32 = 0x800
    public static let x2apicLast: UInt32 = 0x8ff
    public static let extendedSupervisorState: UInt32 = 0xda0
    public static let efer: UInt32 = 0xc000_0080
    public static let star: UInt32 = 0xc000_0081
    public static let longSTAR: UInt32 = 0xc000_0082
    public static let compatibilitySTAR: UInt32 = 0xc000_0083
    public static let systemCallFlagMask: UInt32 = 0xc000_0084
    public static let fsBase: UInt32 = 0xc000_0100
    public static let gsBase: UInt32 = 0xc000_0101
    public static let kernelGSBase: UInt32 = 0xc000_0102
    public static let tscAux: UInt32 = 0xc000_0103
}
