import X86

/// The architectural state of one processor, and what the interpreter keeps beside it.
///
/// One block of memory that never moves, reached through `Core`: instruction handlers name
/// registers by byte offset from its start, so the register file comes first.
///
/// ```
///  offset 0    registers[0…15]   RAX…R15
///         128  registers[16]     always zero: the base or index of an operand that has none
///         136  registers[17]     the RIP of the start of the page that the running block is in
///         144  remaining, masks  what generated code names most: within reach of a short
///                                displacement from `GuestRegisters.state`
/// ```
@safe struct State {
    var registers = InlineArray<18, UInt64>(repeating: 0)
    /// How many instructions blocks that have not begun may still retire.
    var remaining: UInt64 = 0
    /// Masks that generated code takes from memory: see `TranslatedMasks`.
    var masks = TranslatedMasks()

    // MARK: Flags. CF, PF, AF, ZF, SF and OF follow from these three (Core+Flags.swift).
    /// The last result, sign-extended: ZF is whether it is zero, SF its bit 63, PF its low byte.
    var flagResult: UInt64 = 1
    /// The carries out of each bit, shifted so that the operand's top bit is bit 63: CF is bit 63,
    /// OF is bit 63 xor bit 62.
    var flagCarry: UInt64 = 0
    /// Bit 4: AF. Bit 63 inverts SF and bits 15…8 are xored into PF's byte, for flags that were
    /// loaded rather than computed.
    var flagAux: UInt64 = 0x100
    /// The other bits of RFLAGS: TF, IF, DF, IOPL, NT, RF, VM, AC, VIF, VIP, ID.
    var systemFlags: UInt64 = 0

    // MARK: Control flow
    /// The next instruction's offset in the code segment; exact between blocks.
    var rip: UInt64 = 0
    /// The block runs while the next op's address is below this; 0 leaves it after the instruction.
    var blockEnd: UInt = 0
    /// Instructions retired before the running block.
    var retired: UInt64 = 0
    /// The address of the running block's first op; 0 between blocks.
    var blockStart: UInt = 0
    /// The address of the running op.
    var currentOp: UInt = 0

    // MARK: Translated code (Translator/)
    /// The retired count at which `remaining` is used up.
    var runLimit: UInt64 = 0
    /// Of the instructions that `remaining` was charged with, those that have not retired.
    var undone: UInt64 = 0
    /// A jump that wants to lead to another block's translation: where its distance lies (0: none),
    /// and the block's machine address.
    var chainSite: UInt64 = 0
    var chainTarget: UInt64 = 0
    /// Zero while the guest's XMM registers and MXCSR are in the host's, and while the x87 ones are.
    var xmmAbsent: UInt64 = 1
    var x87Absent: UInt64 = 1
    /// What a call keeps while it pushes its return address.
    var callHost: UInt64 = 0
    var callTarget: UInt64 = 0

    // MARK: Memory path
    /// The bank of the software TLB for explicit accesses at the current CPL and EFLAGS.AC.
    var bank: UInt = 0
    /// The bank for supervisor accesses with AC clear: implicit supervisor accesses.
    var supervisorBank: UInt = 0

    // MARK: Pending event of the running instruction
    var pending = PendingEvent.none
    var pendingVector: UInt8 = 0
    var pendingError: UInt32 = 0
    /// The faulting address of a pending page fault, for CR2.
    var pendingAddress: UInt64 = 0
    /// The pending #GP is for a non-canonical address: #SS where the operand's segment is SS.
    var pendingNonCanonical = false
    /// The exit to take when `pending` is `.faultExit` or `.trapExit`.
    var pendingExit = Exit.limit

    // MARK: Segmentation
    var segments = InlineArray<6, Segment>(repeating: Segment())
    var ldtr = Segment()
    var taskRegister = Segment()
    var gdtr = DescriptorTable()
    var idtr = DescriptorTable()

    // MARK: Control
    var cr0: UInt64 = 0
    var cr2: UInt64 = 0
    var cr3: UInt64 = 0
    var cr4: UInt64 = 0
    /// The four pointers of PAE paging, as they were loaded.
    var pointers = SIMD4<UInt64>()
    var efer: UInt64 = 0
    var xcr0: UInt64 = 1
    /// PKRU.
    var keyRights: UInt32 = 0
    var debugAddresses = InlineArray<4, UInt64>(repeating: 0)
    var dr6: UInt64 = 0xffff_0ff0
    var dr7: UInt64 = 0x400
    /// The current privilege level, 0…3.
    var cpl: UInt8 = 0
    var mode = CodeMode.real16
    /// Instructions to run before an interrupt is recognised again: 1 after STI or a load of SS.
    var interruptShadow = false
    /// The op that an STI made the shadow of which is before, in the same block: the shadow counts
    /// only where the op leaves the block for the hypervisor before it retires.
    var shadowedOp: UInt = 0
    /// A load of SS also holds back debug exceptions for one instruction.
    var debugShadow = false
    var nmiBlocked = false
    var isHalted = false
    /// After INIT: nothing but a start-up IPI has an effect. `isHalted` is set too.
    var waitsForStartup = false
    /// `Processor.instructionObserver` is set.
    var isObserved = false
    /// The debug conditions (DR6 bits) to report as #DB after the instruction.
    var debugConditions: UInt64 = 0

    // MARK: Model-specific registers
    var star: UInt64 = 0
    var longSTAR: UInt64 = 0
    var compatibilitySTAR: UInt64 = 0
    var systemCallFlagMask: UInt64 = 0
    var kernelGSBase: UInt64 = 0
    var sysenterCS: UInt64 = 0
    var sysenterESP: UInt64 = 0
    var sysenterEIP: UInt64 = 0
    var pat: UInt64 = 0x0007_0406_0007_0406
    var tscAux: UInt64 = 0
    var tscOffset: UInt64 = 0
    var tscAdjust: UInt64 = 0
    var miscEnable: UInt64 = 1
    var speculationControl: UInt64 = 0
    /// IA32_DEBUGCTL.
    var debugControl: UInt64 = 0
    /// The memory type range registers.
    var typeRanges = MemoryTypeRanges(
        physicalAddressBits: ProcessorModel.penumbraV2.physicalAddressBits)

    // MARK: Events and debugging (System/)
    /// The event that is being delivered, kept while delivery needs the hypervisor.
    var latched = LatchedEvent()
    /// The task that is being entered.
    var taskEntry = TaskEntry()
    /// A double fault could not be delivered.
    var isShutDown = false
    /// When the running instruction is followed by a single-step trap.
    var stepRule = StepRule.byOldFlag
    /// The running instruction loaded EFLAGS.RF, which then counts for the next one.
    var resumeFlagLoaded = false
    /// The generator behind RDRAND and RDSEED.
    var randomState: UInt64 = 0

    init() {}
}

/// Constants for PEXT, which picks bits without touching flags.
struct TranslatedMasks {
    /// The bits of an address that choose an entry of the software TLB.
    var entry = UInt64(SoftwareTLB.entriesPerBank - 1) << 12
    /// Those above the offset in the page.
    var page = ~UInt64(0xfff)
    /// Those, and those that an address aligned to 16 bytes has clear.
    var alignedPage = ~UInt64(0xff0)
    var sign = UInt64(1) << 63
    var jump = JumpTable.mask
    /// The bits of a RIP that choose its page in the table of jumps.
    var codePage = JumpTable.pageMask
    /// Of a shift's count.
    var count = UInt64(31)
    var wideCount = UInt64(63)
    var x87Exceptions = UInt64(X87Status.exceptions)
    /// All of RFLAGS but one bit.
    var allButInterruptEnable = ~RFLAGS.interruptEnable
    var allButAlignmentCheck = ~RFLAGS.alignmentCheck
    var allButResume = ~RFLAGS.resume
}

/// What an instruction left to be done instead of retiring.
enum PendingEvent: UInt8 {
    case none
    /// Deliver the exception `pendingVector` with `pendingError`, RIP at the instruction.
    case exception
    /// Leave `run` with `pendingExit`, RIP at the instruction, which has not retired.
    case faultExit
    /// Leave `run` with `pendingExit` after the instruction, which has retired.
    case trapExit
}

/// The size of code and of its default operands, and whether it is protected.
enum CodeMode: UInt8 {
    /// Real-address mode.
    case real16
    /// Virtual-8086 mode.
    case virtual8086
    /// Protected or compatibility mode, CS.D=0.
    case protected16
    /// Protected or compatibility mode, CS.D=1.
    case protected32
    /// 64-bit mode.
    case long64
}

/// A segment register with its hidden part (SDM Vol. 3A §3.4.3).
struct Segment: Equatable {
    var base: UInt64 = 0
    /// In bytes, granularity applied: the last valid offset of an expand-up segment.
    var limit: UInt32 = 0xffff
    var selector: UInt16 = 0
    /// Descriptor bits 55…40: type (0…3), S (4), DPL (5…6), P (7), AVL (12), L (13), D/B (14),
    /// G (15). Bits 8…11 are zero. A null selector loaded in protected mode has 0 here.
    var attributes: UInt16 = 0x93

    static let accessed: UInt16 = 1 << 0
    /// Writable data, readable code.
    static let writable: UInt16 = 1 << 1
    /// Expand-down data, conforming code.
    static let conforming: UInt16 = 1 << 2
    static let code: UInt16 = 1 << 3
    static let codeOrData: UInt16 = 1 << 4
    static let present: UInt16 = 1 << 7
    static let long: UInt16 = 1 << 13
    static let big: UInt16 = 1 << 14
    static let granular: UInt16 = 1 << 15

    func has(_ bit: UInt16) -> Bool { attributes & bit != 0 }
    var dpl: UInt8 { UInt8(truncatingIfNeeded: attributes >> 5) & 3 }
    var type: UInt8 { UInt8(truncatingIfNeeded: attributes) & 15 }
    var isNull: Bool { selector & 0xfffc == 0 }
}

/// GDTR or IDTR.
struct DescriptorTable: Equatable {
    var base: UInt64 = 0
    var limit: UInt16 = 0xffff
}

/// Byte offsets of fields that decoded instructions name directly.
enum StateOffset {
    static func register(_ number: UInt8) -> UInt16 { UInt16(number & 15) * 8 }
    /// AL…R15B, with REX or numbers 0…3.
    static func low8(_ number: UInt8) -> UInt16 { UInt16(number & 15) * 8 }
    /// AH, CH, DH, BH for numbers 4…7 without REX.
    static func high8(_ number: UInt8) -> UInt16 { UInt16(number & 3) * 8 + 1 }
    static let zero: UInt16 = 16 * 8
    static let blockRIP: UInt16 = 17 * 8
}
