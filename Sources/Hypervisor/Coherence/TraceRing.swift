import Processor
import X86

/// One processor's guest write buffer as the hypervisor sees it: record *i* lies at
/// base + (i × the record's size) mod capacity. The formats of records are drawn in
/// `Processor+Record.swift`.
package struct TraceRing: Equatable, Sendable {
    /// The first byte, in machine memory.
    package var base: MachineAddress
    /// The size in bytes, a power of two.
    package var capacity: UInt64
    /// Free-running count of records that the processor wrote.
    package var producer: UInt64
    /// Free-running count of records that the hypervisor has applied.
    package var consumer: UInt64
    /// What a record is.
    package var format: TraceFormat

    package init(
        base: MachineAddress, capacity: UInt64, producer: UInt64 = 0, consumer: UInt64 = 0,
        format: TraceFormat = .address
    ) {
        self.base = base
        self.capacity = capacity
        self.producer = producer
        self.consumer = consumer
        self.format = format
    }

    /// How many records wait; never more than there is room for.
    package var pending: UInt64 { min(producer &- consumer, capacity / format.recordBytes) }

    /// The machine address of record `number`.
    package func address(_ number: UInt64) -> UInt64 {
        base.rawValue &+ (number &* format.recordBytes) & (capacity &- 1)
    }
}
