import X86

/// How an application processor comes to life: INIT, then a start-up IPI (SDM Vol. 3A §8.4).
extension Processor {
    /// Holds the processor in the wait-for-SIPI state, where it executes nothing and takes no
    /// interrupt: `run` returns `.halted`. Where application processors are after a reset.
    public func waitForStartup() {
        core.state.waitsForStartup = true
        core.state.isHalted = true
    }

    /// INIT: the state of SDM Vol. 3A Table 9-1, "Following INIT". Registers are as after a reset;
    /// MSRs but IA32_EFER, XCR0, PKRU, the x87 and SSE state, and CR0.CD and NW stay as they are. All
    /// caches are emptied, which is allowed. A pending NMI is dropped.
    ///
    /// CR0, CR3, CR4 and EFER change: whoever keeps shadows has to be told.
    public func initialize() {
        let old = core.state
        setPowerOnState()
        let kept = CR0.cacheDisable | CR0.notWriteThrough
        core.state.cr0 = core.state.cr0 & ~kept | old.cr0 & kept
        core.state.xcr0 = old.xcr0
        core.state.keyRights = old.keyRights
        core.state.star = old.star
        core.state.longSTAR = old.longSTAR
        core.state.compatibilitySTAR = old.compatibilitySTAR
        core.state.systemCallFlagMask = old.systemCallFlagMask
        core.state.kernelGSBase = old.kernelGSBase
        core.state.sysenterCS = old.sysenterCS
        core.state.sysenterESP = old.sysenterESP
        core.state.sysenterEIP = old.sysenterEIP
        core.state.pat = old.pat
        core.state.typeRanges = old.typeRanges
        core.state.tscAux = old.tscAux
        core.state.tscOffset = old.tscOffset
        core.state.tscAdjust = old.tscAdjust
        core.state.miscEnable = old.miscEnable
        core.state.speculationControl = old.speculationControl
        core.state.debugControl = old.debugControl
        core.state.randomState = old.randomState
        emptyCaches()
        observe(.reset)
    }

    /// A start-up IPI: a waiting processor begins in real mode at physical address `vector << 12`;
    /// any other ignores it.
    public func start(vector: UInt8) {
        guard core.state.waitsForStartup else { return }
        core.state.waitsForStartup = false
        core.state.isHalted = false
        core[.cs].selector = UInt16(vector) << 8
        core[.cs].base = UInt64(vector) << 12
        core.state.rip = 0
        emptyCaches()
    }
}
