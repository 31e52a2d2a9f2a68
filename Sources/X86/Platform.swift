/// The pins of the processor: how it reaches what is not memory.
///
/// The processor calls these at an instruction's own place in time. An access through any of them
/// counts as a device access in the ledger. The board implements it.
public protocol Platform: AnyObject {
    /// Reads `size` (1, 2 or 4) bytes from an I/O port. Nobody there: all ones.
    func readPort(_ port: UInt16, size: Int) -> UInt32
    /// Writes the low `size` (1, 2 or 4) bytes of `value` to an I/O port.
    func writePort(_ port: UInt16, size: Int, value: UInt32)
    /// Reads `size` (1…8) bytes at a machine address that no memory answers. Nobody there: all ones.
    func readDevice(_ address: MachineAddress, size: Int) -> UInt64
    /// Writes the low `size` (1…8) bytes of `value` to a machine address that no memory answers.
    func writeDevice(_ address: MachineAddress, size: Int, value: UInt64)
    /// Reads a register of the local APIC's MSR interface: IA32_APIC_BASE, IA32_TSC_DEADLINE,
    /// the x2APIC range. Nil: #GP.
    func readAPICRegister(_ register: UInt32, processor: Int) -> UInt64?
    /// Writes a register of the local APIC's MSR interface. False: #GP.
    func writeAPICRegister(_ register: UInt32, value: UInt64, processor: Int) -> Bool
    /// The task priority class, 0…15, of the local APIC: what CR8 reads.
    func taskPriority(processor: Int) -> UInt8
    /// Sets the task priority class: MOV to CR8.
    func setTaskPriority(_ value: UInt8, processor: Int)
    /// Takes the interrupt that the processor is about to deliver (an INTA cycle). Nil: it went away.
    func acknowledgeInterrupt(processor: Int) -> UInt8?
    /// The time-stamp counter's value when `retired` instructions have been retired.
    func timeStamp(retired: UInt64, processor: Int) -> UInt64
    /// The guest has moved its time-stamp counter: it is `timeStamp` plus `offset` now, by which
    /// IA32_TSC_DEADLINE is judged.
    func setTimeStampOffset(_ offset: UInt64, processor: Int)
    /// FERR#: an unmasked x87 exception is pending while CR0.NE is clear, or no longer.
    /// - Returns: IGNNE#: whether the processor is to go on as if it were not.
    func signalFloatingPointError(_ isPending: Bool, processor: Int) -> Bool
    /// Guest code has executed a region marker, which is no access and counts as none. The
    /// instruction has not retired yet; `Processor.requestStop` stops right after it.
    func marked(_ marker: RegionMarker, processor: Int)
}

extension Platform {
    /// Nobody listens: the marker means nothing.
    public func marked(_ marker: RegionMarker, processor: Int) {}

    /// Nobody has a deadline.
    public func setTimeStampOffset(_ offset: UInt64, processor: Int) {}

    /// The pins are not connected.
    public func signalFloatingPointError(_ isPending: Bool, processor: Int) -> Bool { false }
}
