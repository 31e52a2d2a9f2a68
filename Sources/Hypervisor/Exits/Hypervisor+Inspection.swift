import Processor
import X86

/// One processor's guest write buffer, for debuggers.
public struct WriteBufferSummary: Equatable, Sendable {
    /// The registers of the facility.
    public var controls: TraceControls
    /// Free-running counts of records written and consumed.
    public var producer: UInt64
    public var consumer: UInt64
    /// The first quadwords of the records that wait, oldest first: `limit` of them at most.
    public var pending: [UInt64]

    /// How many wait.
    public var pendingCount: UInt64 { min(producer &- consumer, controls.recordCount) }
}

/// What debuggers see. Looking drains, fills and flushes nothing.
extension Hypervisor {
    /// The shadow pages in use; none under `bare`.
    public var shadowPages: [ShadowPageSummary] { mmu?.summaries ?? [] }

    /// A processor's write buffer; nil where the technique has none.
    /// - Parameter limit: how many records to tell of.
    public func writeBuffer(of number: Int, limit: Int) -> WriteBufferSummary? {
        guard let mmu, policy.trace != nil, rings.indices ~= number else { return nil }
        let processor = processors[number]
        var ring = rings[number]
        ring.producer = processor.traceProducer
        ring.consumer = processor.control.trace.consumer
        let count = min(ring.pending, UInt64(max(limit, 0)))
        return WriteBufferSummary(
            controls: processor.control.trace, producer: ring.producer, consumer: ring.consumer,
            pending: (0..<count).map { index in
                mmu.tables.load(ring.address(ring.consumer &+ index))
            })
    }
}
