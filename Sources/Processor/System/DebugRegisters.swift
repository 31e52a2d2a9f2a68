import X86

/// DR7 (SDM Vol. 3B §17.2.4).
enum DebugControl {
    /// Ln and Gn, two bits a breakpoint.
    static let enables: UInt64 = 0xff
    /// L0…L3, which a task switch clears.
    static let localEnables: UInt64 = 0x155
    static let alwaysOne: UInt64 = 0x400
    static let generalDetect: UInt64 = 1 << 13
    static let writable: UInt64 = 0xffff_23ff
    /// BTF of IA32_DEBUGCTL: TF traps after branches that were taken, alone (SDM Vol. 3B §17.4.1).
    static let branchStep: UInt64 = 1 << 1
}

/// DR6 (SDM Vol. 3B §17.2.3).
enum DebugStatus {
    static let breakpoints: UInt64 = 0xf
    static let generalDetect: UInt64 = 1 << 13
    static let singleStep: UInt64 = 1 << 14
    static let taskSwitch: UInt64 = 1 << 15
    static let alwaysOne: UInt64 = 0xffff_0ff0
}

/// Whether the running instruction is followed by a single-step trap.
enum StepRule: UInt8 {
    /// If EFLAGS.TF was set before it.
    case byOldFlag
    /// Never: it entered a handler.
    case none
    /// Not, and other debug traps wait too: it loaded SS (SDM Vol. 3A §6.8.3).
    case heldBack
}

/// One of the four breakpoints.
private struct Breakpoint {
    enum Kind: UInt64 { case execution, write, port, access }
    var kind: Kind
    var address: UInt64
    var length: UInt64

    /// Breakpoint `number` (0…3), if DR7 enables it.
    init?(_ core: Core, _ number: Int) {
        let control = core.state.dr7
        guard control >> UInt64(number &* 2) & 3 != 0 else { return nil }
        let fields = control >> UInt64(16 &+ number &* 4)
        kind = Kind(rawValue: fields & 3) ?? .execution
        // LEN 10B means 8 bytes.
        switch fields >> 2 & 3 {
        case 0: length = 1
        case 1: length = 2
        case 2: length = 8
        default: length = 4
        }
        address = core.state.debugAddresses[number] & ~(length &- 1)
    }

    func meets(_ start: UInt64, _ size: UInt64) -> Bool {
        start &- address < length || address &- start < size
    }
}

/// Debug exceptions (SDM Vol. 3B §17.3.1). The run loop asks before and after each instruction
/// while `debugActive` holds; it executes single instructions then.
extension Core {
    /// Whether an instruction may raise a debug exception, or clears RF.
    @inline(__always)
    var debugActive: Bool {
        (state.systemFlags & (RFLAGS.trap | RFLAGS.resume)) | (state.dr7 & DebugControl.enables)
            | state.debugConditions != 0
    }

    /// Notes the data breakpoints that an access of `size` bytes at a linear address meets; the
    /// debug trap follows the instruction. For the slow path of memory accesses: pages that
    /// `watchesPage` names must always take it.
    func noteDataAccess(_ address: UInt64, size: Int, write: Bool) {
        guard state.dr7 & DebugControl.enables != 0 else { return }
        for number in 0..<4 {
            guard let breakpoint = Breakpoint(self, number),
                breakpoint.kind == .access || (write && breakpoint.kind == .write),
                breakpoint.meets(address, UInt64(size))
            else { continue }
            state.debugConditions |= 1 << UInt64(number)
            // A REP traps after the iteration.
            leaveBlock()
        }
    }

    /// Notes the I/O breakpoints that an access of `size` bytes to a port meets.
    func notePortAccess(_ port: UInt16, size: Int) {
        guard state.dr7 & DebugControl.enables != 0,
            state.cr4 & CR4.debuggingExtensions != 0
        else { return }
        for number in 0..<4 {
            guard let breakpoint = Breakpoint(self, number), breakpoint.kind == .port,
                breakpoint.meets(UInt64(port), UInt64(size))
            else { continue }
            state.debugConditions |= 1 << UInt64(number)
        }
    }

    /// Whether a data breakpoint lies in the page at a linear address.
    func watchesPage(_ address: UInt64) -> Bool {
        guard state.dr7 & DebugControl.enables != 0 else { return false }
        for number in 0..<4 {
            guard let breakpoint = Breakpoint(self, number),
                breakpoint.kind == .access || breakpoint.kind == .write
            else { continue }
            if (breakpoint.address ^ address) & ~0xfff == 0 { return true }
        }
        return false
    }

    /// Raises #DB with the conditions entered into DR6.
    fileprivate func raiseDebug(_ conditions: UInt64) {
        state.dr6 = state.dr6 & ~DebugStatus.breakpoints | conditions
        state.debugConditions = 0
        state.debugControl &= ~DebugControl.branchStep
        _ = raise(.debug)
    }
}

extension Processor {
    /// Raises #DB before the instruction at RIP where a debug trap was held back, or an
    /// instruction breakpoint is there and RF does not suppress it.
    func checkInstructionBreakpoints(_ core: Core) -> Bool {
        if core.state.debugConditions != 0 && core.state.stepRule != .heldBack {
            core.raiseDebug(core.state.debugConditions)
            return true
        }
        guard core.state.systemFlags & RFLAGS.resume == 0,
            core.state.dr7 & DebugControl.enables != 0, core.state.stepRule != .heldBack
        else { return false }
        let linear =
            core.is64 ? core.state.rip : (core.state.rip &+ core[.cs].base) & 0xffff_ffff
        var conditions: UInt64 = 0
        for number in 0..<4 {
            guard let breakpoint = Breakpoint(core, number), breakpoint.kind == .execution,
                breakpoint.address == linear
            else { continue }
            conditions |= 1 << UInt64(number)
        }
        if conditions == 0 { return false }
        core.raiseDebug(conditions)
        return true
    }

    /// To be called before a single instruction.
    /// - Returns: whether it is single-stepped.
    func beginDebugStep(_ core: Core) -> Bool {
        core.state.stepRule = .byOldFlag
        core.state.resumeFlagLoaded = false
        return core.state.systemFlags & RFLAGS.trap != 0
    }

    /// To be called after a single instruction has retired: raises the debug trap that it caused.
    ///
    /// Where the instruction also exits, the trap is kept for the next entry.
    func endDebugStep(_ core: Core, _ wasStepping: Bool, isBranch: Bool) {
        if !core.state.resumeFlagLoaded { core.state.systemFlags &= ~RFLAGS.resume }
        if core.state.stepRule == .heldBack { return }
        if wasStepping && core.state.stepRule == .byOldFlag,
            isBranch || core.state.debugControl & DebugControl.branchStep == 0
        {
            core.state.debugConditions |= DebugStatus.singleStep
        }
        if core.state.debugConditions != 0 && core.state.pending == .none {
            core.raiseDebug(core.state.debugConditions)
        }
    }
}

/// MOV from and to the debug registers (SDM Vol. 2B, MOV debug registers). `Op.code` is the
/// register's number.
enum DebugRegisters {
    static let moveTo: Handler = {
        plain($0, $1) { core, op in
            guard let number = check(core, op) else { return .fault }
            let value =
                core.is64 ? core[op.a, as: UInt64.self] : UInt64(core[op.a, as: UInt32.self])
            if number >= 6 && value >> 32 != 0 { return core.generalProtection() }
            switch number {
            case 6:
                core.state.dr6 = value & 0xe00f | DebugStatus.alwaysOne
            case 7:
                core.state.dr7 = value & DebugControl.writable | DebugControl.alwaysOne
            default: core.state.debugAddresses[number & 3] = value
            }
            // Watched pages take the slow path; which they are has changed.
            core.processor.caches.emptySoftware()
            core.leaveBlock()
            return .next
        }
    }

    static let moveFrom: Handler = {
        plain($0, $1) { core, op in
            guard let number = check(core, op) else { return .fault }
            let value: UInt64
            switch number {
            case 6: value = core.state.dr6
            case 7: value = core.state.dr7
            default: value = core.state.debugAddresses[number & 3]
            }
            core[op.a] = core.is64 ? value : value & 0xffff_ffff
            return .next
        }
    }

    /// The register's number after aliasing; nil after raising a fault.
    private static func check(_ core: Core, _ op: OpRef) -> Int? {
        var number = Int(op.code & 7)
        if number == 4 || number == 5 {
            // Without CR4.DE, DR4 and DR5 are DR6 and DR7 (SDM Vol. 3B §17.2.2).
            guard core.state.cr4 & CR4.debuggingExtensions == 0 else {
                _ = core.invalidOpcode()
                return nil
            }
            number += 2
        }
        guard core.state.cpl == 0 else {
            _ = core.generalProtection()
            return nil
        }
        if core.state.dr7 & DebugControl.generalDetect != 0 {
            core.state.dr6 |= DebugStatus.generalDetect
            // A fault, unlike other debug exceptions that come before an instruction.
            core.state.systemFlags |= RFLAGS.resume
            _ = core.raise(.debug)
            return nil
        }
        return number
    }
}
