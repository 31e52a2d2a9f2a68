import X86

/// The registers with which the board starts a guest; what is not here is as after a reset.
public struct BootRegisters: Equatable, Sendable {
    /// RAX…R15, by their numbers: 16 values.
    public var general = [UInt64](repeating: 0, count: 16)
    /// The offset in CS of the first instruction.
    public var rip: UInt64 = 0
    /// RFLAGS; bit 1 is set in any case.
    public var rflags = RFLAGS.alwaysOne
    public var cr0 = CR0.extensionType
    public var cr3: UInt64 = 0
    public var cr4: UInt64 = 0
    /// The pointer registers of PAE paging, for a guest that starts with it.
    public var pointers = SIMD4<UInt64>()
    /// IA32_EFER, LMA included.
    public var efer: UInt64 = 0
    public var gdt = Table()
    public var idt = Table()
    /// CS. Its DPL is the privilege level at which the guest starts.
    public var code = SegmentValue()
    /// DS, ES, FS, GS and SS, all alike.
    public var data = SegmentValue()
    /// TR; in IA-32e mode a busy 64-bit TSS, otherwise a busy 32-bit one.
    public var task = SegmentValue()

    public init() {}

    /// GDTR or IDTR.
    public struct Table: Equatable, Sendable {
        /// A linear address.
        public var base: UInt64
        /// The offset of the last byte.
        public var limit: UInt16
        public init(base: UInt64 = 0, limit: UInt16 = 0) {
            self.base = base
            self.limit = limit
        }
    }

    /// A segment register with its hidden part.
    public struct SegmentValue: Equatable, Sendable {
        public var selector: UInt16
        public var base: UInt64
        /// The offset of the last byte, in bytes whatever the granularity.
        public var limit: UInt32
        /// Descriptor bits 55…40 without the limit's (SDM Vol. 3A §3.4.5, Figure 3-8): type (3…0),
        /// S (4), DPL (6…5), P (7), AVL (12), L (13), D/B (14), G (15).
        public var attributes: UInt16
        public init(
            selector: UInt16 = 0, base: UInt64 = 0, limit: UInt32 = 0, attributes: UInt16 = 0
        ) {
            self.selector = selector
            self.base = base
            self.limit = limit
            self.attributes = attributes
        }

        fileprivate var segment: Segment {
            Segment(base: base, limit: limit, selector: selector, attributes: attributes & 0xf0ff)
        }
    }
}

extension Processor {
    /// Resets the processor and loads the registers with which a boot protocol starts a guest.
    public func setBootState(_ boot: BootRegisters) {
        reset()
        for (number, value) in boot.general.prefix(16).enumerated() {
            core[UInt16(number) * 8] = value
        }
        core.state.rip = boot.rip
        core.state.cr0 = boot.cr0 | CR0.extensionType
        core.state.cr3 = boot.cr3
        core.state.cr4 = boot.cr4
        core.state.pointers = boot.pointers
        core.state.efer = boot.efer
        core.state.gdtr = DescriptorTable(base: boot.gdt.base, limit: boot.gdt.limit)
        core.state.idtr = DescriptorTable(base: boot.idt.base, limit: boot.idt.limit)
        for register in SegmentRegister.allCases { core[register] = boot.data.segment }
        core[.cs] = boot.code.segment
        core.state.taskRegister = boot.task.segment
        core.state.ldtr = .null(0)
        core.state.cpl = core.isProtected ? boot.code.segment.dpl : 0
        core.setFlags(boot.rflags)
        core.updateMode()
        caches.invalidateEverything()
        observe(.reset)
    }
}
