import X86

/// What the hypervisor tells the processor: the whole of the interface in that direction, beside
/// `Processor.run` and the invalidation operations.
public struct ControlBlock: Sendable {
    /// Which tables the processor walks.
    public var paging: PagingScheme = .guest
    /// Whether INVLPG, INVPCID, MOV to CR3 and changes of the paging mode exit.
    public var exitsOnPagingOperations = false
    /// Whether, where those exit, INVLPG and INVPCID do too. A hypervisor whose shadow follows each
    /// write at once has nothing left to do at them.
    public var exitsOnInvalidation = true
    /// The processor makes the writes of one step to *protected* pages itself, on behalf of the
    /// hypervisor, as an instruction emulator would; see `takeCompletedWrites`.
    ///
    /// A page is protected by a shadow leaf with T set and D clear, or by such a leaf of the second
    /// dimension. A write through it exits, with `pageFault` or `secondDimensionFault`, before
    /// anything of the instruction has happened. With this set, the next step (one instruction, the
    /// iterations of a repeated one up to the first that writes to such a page, or one delivery of
    /// an event) writes through such leaves as though D were set; a walk that sets A or D in a
    /// guest table in such a page does so as well. Each write is noted, and `writeCompleted` or
    /// another trap-like exit follows the step, by which the processor clears this. Rights are those
    /// of the leaf and apply as ever; a leaf with T and D clear is not protected but clean, and
    /// exits still. Nothing of it is cached.
    public var completesProtectedWrites = false
    /// The traced-write facility.
    public var trace = TraceControls()
    /// An exception to deliver to the guest before the next instruction; the processor clears it.
    public var injection: InjectedFault?

    public init() {}
}

/// Which tables the processor walks to translate.
public enum PagingScheme: Equatable, Sendable {
    /// The guest's own, from CR3 (with PAE paging, from the pointer registers), when CR0.PG is set;
    /// no translation otherwise. Page faults go to the guest without an exit.
    case guest
    /// Tables of the hypervisor from `root`, always, whatever CR0.PG says, and in the one format of
    /// 4- and 5-level paging whatever form the guest's have: 8-byte entries, 52 address bits, XD
    /// and 1 GiB pages. `top` is the level of `root`: `.pml4`, or `.pml5` for a guest whose
    /// addresses have 57 bits; other levels count as `.pml4`. Addresses of 32-bit guests are
    /// extended with zeroes. CR0.WP, CR4.SMEP, CR4.SMAP and EFLAGS.AC are the guest's and apply at
    /// each access, as does its PCID for tagging. With CR0.PG clear every access is made with
    /// supervisor rights.
    ///
    /// The processor sets A in entries that it uses, and never sets D in a leaf: a write through a
    /// leaf whose D is clear exits with `pageFault`, and so the hypervisor learns of the first
    /// write to a page whatever CR0.WP says, and of every write to a page that it protects
    /// (`ControlBlock.completesProtectedWrites`). `root` must lie in machine memory.
    ///
    /// The pointer registers of PAE paging are the processor's own business under this scheme, too:
    /// it loads them from the guest's memory, which `MachineMemory.guestBase` places.
    case shadow(root: MachineAddress, top: PageLevel = .pml4)
    /// The guest's own, as with `guest`, with every guest-physical address (of tables, CR3's among
    /// them, and of what is accessed) translated by a *second dimension*: 4-level tables of the
    /// hypervisor from `root`, guest-physical → machine, in the format of shadow tables. A walk of 4
    /// guest levels reads up to 4 × (4 + 1) + 4 = 24 entries. With CR0.PG clear the second dimension
    /// alone translates. Page faults go to the guest without an exit; what the second dimension
    /// does not map exits with `secondDimensionFault`.
    ///
    /// Of a second-dimension entry P, R/W (of all levels together), PS and the address count; the
    /// processor sets neither A nor D there. What is cached is the translation of both dimensions
    /// together, of the smaller of the two page sizes; INVLPG ends every part of a guest page.
    /// Guest-physical addresses have up to 48 bits. `root` must lie in machine memory.
    ///
    /// A leaf of the second dimension whose D is clear is not written through: the write exits with
    /// `secondDimensionFault`, also one that the walk makes to set A or D in a guest table. With T
    /// set as well the page is protected, as by a shadow leaf
    /// (`ControlBlock.completesProtectedWrites`).
    case nested(root: MachineAddress)
    /// As `shadow`, but an entry that names a table and has S set (`PagingEntry.isSwitch`) names one
    /// of the *guest's*, by its machine address, of the level below. There the walk goes on in the
    /// guest's table, by the guest's rules in its present mode, as under `nested`: the
    /// guest-physical addresses that it finds, of further tables and of what is accessed, are
    /// translated by the second dimension from `second`, A and D are set in the guest's tables, and
    /// page faults go to the guest without an exit. The table that the switch names is itself read
    /// with one reference. Rights accumulate over both parts. The pointer registers of PAE paging
    /// are loaded through the second dimension.
    ///
    /// With 4 levels, a switch at level 2 to a guest table of level 1 makes a walk of
    /// 3 + 1 + 4 entries.
    case agile(root: MachineAddress, second: MachineAddress, top: PageLevel = .pml4)
}

/// A page fault that the hypervisor hands to the guest: error code, and the address for CR2.
public struct InjectedFault: Equatable, Sendable {
    public var error: PageFaultError
    public var address: GuestVirtualAddress

    public init(error: PageFaultError, address: GuestVirtualAddress) {
        self.error = error
        self.address = address
    }
}
