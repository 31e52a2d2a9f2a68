import MachineMemory
import Processor
import X86

/// Where the structures of the traced-write facility lie in machine memory.
///
/// ```
///  0
///  ┌────────┬───┬────────┬────────────────┬────────────────┬──────────────────┬───────────────
///  │ ring 0 │ … │ ring N │ common         │ roots          │ map of frames    │ masks of pages
///  └────────┴───┴────────┴────────────────┴────────────────┴──────────────────┴───────────────
///   capacity × processors  1 page           1 page            1 bit a frame      64 B a frame
///                          elide, value     elide             indication=frame   record=mask
/// ```
/// Each is there only where the parameters ask for it, in whole pages; the shadow pages follow.
package struct TraceLayout: Equatable, Sendable {
    /// The guest's machine frames, RAM or not, which the map and the masks describe.
    package let frames: Range<UInt64>
    package let common: UInt64
    package let roots: UInt64
    package let frameMap: UInt64
    package let masks: UInt64
    /// Where all of it ends.
    package let end: UInt64

    private let parameters: TraceParameters?

    /// - Parameters:
    ///   - parameters: nil where nothing is recorded.
    ///   - frames: the guest's machine frames, or as many from 0 up where only `end` is wanted.
    package init(_ parameters: TraceParameters?, processors: Int, frames: Range<UInt64>) {
        self.parameters = parameters
        self.frames = frames
        let elides = parameters?.elide == true
        let count = UInt64(frames.count)
        var next: UInt64 = 0
        func take(_ bytes: UInt64, if isUsed: Bool) -> UInt64 {
            defer { if isUsed { next += (bytes + pageSize - 1) / pageSize * pageSize } }
            return next
        }
        _ = take((parameters?.capacity ?? 0) * UInt64(max(processors, 0)), if: true)
        common = take(64, if: elides || parameters?.record == .value)
        roots = take(TraceRoots.bytes * UInt64(max(processors, 0)), if: elides)
        frameMap = take((count + 7) / 8, if: parameters?.indication == .frame)
        masks = take(count * 64, if: parameters?.record == .mask)
        end = next
    }

    /// How many frames a guest of `guestBytes` of RAM spans, the hole for devices included.
    package static func frameCount(guestBytes: UInt64) -> UInt64 {
        guestBytes <= MachineMemory.lowLimit
            ? guestBytes / pageSize
            : (MachineMemory.highStart &+ guestBytes &- MachineMemory.lowLimit) / pageSize
    }

    /// The guest's machine frames in a machine.
    package static func frames(of memory: MachineMemory) -> Range<UInt64> {
        let first = memory.guestBase / pageSize
        return first..<first + frameCount(guestBytes: memory.guestBytes)
    }

    /// The ring of a processor.
    package func ring(_ processor: Int, producer: UInt64) -> TraceRing? {
        guard let parameters else { return nil }
        return TraceRing(
            base: MachineAddress(UInt64(processor) * parameters.capacity),
            capacity: parameters.capacity, producer: producer, consumer: producer,
            format: parameters.record)
    }

    /// The table of known roots of a processor; nil where there is none.
    package func rootTable(_ processor: Int) -> UInt64? {
        parameters?.elide == true ? roots + UInt64(processor) * TraceRoots.bytes : nil
    }

    /// What a processor's trace controls are set to.
    package func controls(_ processor: Int, _ ring: TraceRing) -> TraceControls {
        var trace = TraceControls()
        guard let parameters else { return trace }
        trace.isEnabled = true
        trace.indication = parameters.indication
        trace.format = parameters.record
        trace.base = ring.base
        trace.capacity = parameters.capacity
        trace.threshold = parameters.threshold
        trace.coalesce = parameters.coalesce
        trace.consumer = ring.consumer
        trace.frames = frames
        trace.frameMap = MachineAddress(frameMap)
        trace.masks = MachineAddress(masks)
        trace.common = MachineAddress(common)
        trace.elides = parameters.elide
        trace.roots = MachineAddress(rootTable(processor) ?? 0)
        return trace
    }
}
