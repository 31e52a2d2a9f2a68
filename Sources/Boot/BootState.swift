import X86

/// The boot processor's registers at the guest's first instruction, complete: what is not here is
/// as after a processor reset.
public struct BootState: Sendable, Equatable {
    /// RIP.
    public var instructionPointer: UInt64
    /// The 16 general registers, indexed by `GeneralRegister.rawValue`.
    public var generalRegisters: [UInt64]
    /// RFLAGS. Interrupts are off.
    public var flags: UInt64
    /// CR0.
    public var cr0: UInt64
    /// CR3: the root of the boot page tables in 64-bit mode, else 0.
    public var cr3: UInt64
    /// CR4.
    public var cr4: UInt64
    /// IA32_EFER.
    public var efer: UInt64
    /// GDTR; the table is in guest memory.
    public var gdt: DescriptorTable
    /// IDTR: empty, so that an exception before the guest has a table ends the machine.
    public var idt: DescriptorTable
    /// CS.
    public var code: SegmentState
    /// DS, ES, FS, GS and SS, all alike.
    public var data: SegmentState
    /// TR.
    public var task: SegmentState
    /// The mode that `cr0`, `efer` and `code` amount to.
    public var mode: Mode
    /// Where the guest finds the ACPI tables.
    public var rsdp: GuestPhysicalAddress

    /// In which mode a guest starts.
    public enum Mode: Sendable, Equatable {
        /// 32-bit protected mode, paging off.
        case protected32
        /// Real mode, as after a processor's reset.
        case real16
        /// 64-bit mode on the boot page tables.
        case long64
    }

    /// The value of a general register.
    public subscript(register: GeneralRegister) -> UInt64 {
        get { generalRegisters[Int(register.rawValue)] }
        set { generalRegisters[Int(register.rawValue)] = newValue }
    }

    /// A start in 32-bit protected mode with flat segments (Multiboot 0.6.96 §3.2; the PVH ABI).
    package static func protected32(entry: UInt64) -> BootState {
        BootState(
            instructionPointer: entry, generalRegisters: [UInt64](repeating: 0, count: 16),
            flags: RFLAGS.alwaysOne, cr0: CR0.protectionEnable | CR0.extensionType, cr3: 0, cr4: 0,
            efer: 0, gdt: BootTables.gdt, idt: DescriptorTable(base: 0, limit: 0),
            code: BootTables.code32, data: BootTables.data, task: BootTables.task,
            mode: .protected32, rsdp: GuestPhysicalAddress(Layout.acpiTables))
    }

    /// A start in real mode (SDM Vol. 3A §10.1, Table 10-1), but for CS, whose base is the segment's.
    package static func real16(segment: UInt16, offset: UInt64) -> BootState {
        func real(_ segment: UInt16, _ attributes: UInt16) -> SegmentState {
            SegmentState(
                selector: segment, base: UInt64(segment) << 4, limit: 0xffff,
                attributes: attributes)
        }
        var state = protected32(entry: offset)
        state.mode = .real16
        state.cr0 = CR0.extensionType | CR0.cacheDisable | CR0.notWriteThrough
        state.gdt = DescriptorTable(base: 0, limit: 0xffff)
        state.idt = state.gdt
        state.code = real(segment, 0x9b)
        state.data = real(0, 0x93)
        state.task = real(0, 0x8b)
        return state
    }

    /// A start in 64-bit mode on the boot page tables (Linux boot.rst, "64-bit Boot Protocol").
    package static func long64(entry: UInt64) -> BootState {
        var state = protected32(entry: entry)
        state.mode = .long64
        state.cr0 |= CR0.numericError | CR0.paging
        state.cr3 = Layout.bootPageTables
        state.cr4 = CR4.physicalAddressExtension
        state.efer = EFER.longModeEnable | EFER.longModeActive
        state.code = BootTables.code64
        return state
    }
}

/// GDTR or IDTR.
public struct DescriptorTable: Sendable, Equatable {
    /// The table's linear address.
    public var base: UInt64
    /// The offset of the table's last byte.
    public var limit: UInt16
}

/// A segment register, its hidden part included.
public struct SegmentState: Sendable, Equatable {
    /// The selector.
    public var selector: UInt16
    /// The base, a linear address.
    public var base: UInt64
    /// The offset of the last byte, in bytes whatever the granularity.
    public var limit: UInt32
    /// Bits 7…0: P, DPL, S and type; bits 15…12: G, D/B, L and AVL; the rest zero. These are bits
    /// 55…40 of the descriptor (SDM Vol. 3A §3.4.5, Figure 3-8) with the limit's bits cleared.
    public var attributes: UInt16

    /// The segment as an 8-byte descriptor (SDM Vol. 3A §3.4.5, Figure 3-8). A base beyond 4 GiB
    /// does not fit and is cut.
    package var descriptor: UInt64 {
        let pages = attributes & 0x8000 != 0
        let limit = UInt64(pages ? self.limit >> 12 : self.limit)
        return limit & 0xffff | (base & 0xff_ffff) << 16 | UInt64(attributes & 0xf0ff) << 40
            | (limit >> 16 & 0xf) << 48 | (base >> 24 & 0xff) << 56
    }
}
