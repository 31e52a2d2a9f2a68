import X86

/// Why the processor stopped executing the guest. Exhaustive: the hypervisor and the board answer
/// every case.
///
/// A *fault-like* exit leaves the guest's state as it was before the instruction, which is executed
/// again on the next entry. A *trap-like* exit comes after the instruction has retired.
public enum Exit: Equatable, Sendable {
    /// The retired count reached the limit given to `run`.
    case limit
    /// HLT retired, and no interrupt is deliverable. Trap-like.
    case halted
    /// The platform asked the processor to stop (`Processor.requestStop`), or the guest has
    /// run for long without retiring an instruction: repeated string instructions, or exceptions
    /// in exception handlers. Between instructions or iterations.
    case stopped
    /// A double fault could not be delivered: the processor is in shutdown.
    case tripleFault
    /// A walk of the shadow tables found no translation that permits the access, or found a leaf
    /// whose D is clear for a write. Fault-like; only under `PagingScheme.shadow` and `agile`.
    case pageFault(GuestVirtualAddress, AccessKind)
    /// The second dimension does not map the guest-physical address, or not for this kind of
    /// access. Fault-like; only under `PagingScheme.nested` and `agile`.
    case secondDimensionFault(GuestPhysicalAddress, AccessKind)
    /// MOV to CR3, or a task switch, loaded a root, and with PAE paging the pointer registers.
    /// Trap-like. `flushed`: the translations of the new PCID were invalidated (bit 63 of the
    /// source was clear). A task switch goes on at the next entry: the new task's segments are
    /// loaded through the new root, and may exit in turn.
    case rootLoaded(flushed: Bool)
    /// INVLPG retired. Trap-like.
    case invalidatePage(GuestVirtualAddress)
    /// INVPCID retired. Trap-like. `type` is 0…3.
    case invalidatePCID(type: UInt8, pcid: UInt16, address: GuestVirtualAddress)
    /// CR0, CR4 or EFER changed in a bit that bears on paging, or that has the pointer registers of
    /// PAE paging loaded again. Trap-like; holds the old values.
    case pagingModeChanged(cr0: UInt64, cr4: UInt64, efer: UInt64)
    /// The guest write buffer reached its threshold. Trap-like.
    case bufferThreshold
    /// The guest write buffer has no room for the widest instruction. Fault-like.
    case bufferFull
    /// The step for which `ControlBlock.completesProtectedWrites` was set is done. Trap-like; of a
    /// repeated string instruction it comes after an iteration.
    case writeCompleted
}
