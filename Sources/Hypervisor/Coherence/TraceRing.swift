import X86

/// One processor's guest write buffer as the hypervisor sees it.
///
/// ```
///  record i, at base + (i × 8) mod capacity
///  63                                              3 2   0
/// ┌─────────────────────────────────────────────────┬─────┐
/// │ machine address of the aligned quadword, 63…3   │size │   size: log2 of the bytes written
/// └─────────────────────────────────────────────────┴─────┘
/// ```
package struct TraceRing: Equatable, Sendable {
    /// The first byte, in machine memory.
    package var base: MachineAddress
    /// The size in bytes, a power of two.
    package var capacity: UInt64
    /// Free-running count of records that the processor wrote.
    package var producer: UInt64
    /// Free-running count of records that the hypervisor has applied.
    package var consumer: UInt64

    package init(
        base: MachineAddress, capacity: UInt64, producer: UInt64 = 0, consumer: UInt64 = 0
    ) {
        self.base = base
        self.capacity = capacity
        self.producer = producer
        self.consumer = consumer
    }

    /// How many records wait; never more than there is room for.
    package var pending: UInt64 { min(producer &- consumer, capacity / 8) }

    /// The machine address of record `number`.
    func address(_ number: UInt64) -> UInt64 {
        base.rawValue &+ (number &* 8) & (capacity &- 1)
    }
}
