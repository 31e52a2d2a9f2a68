/// Who wrote to memory.
public enum MemoryWriter: Equatable, Sendable {
    /// A processor's instruction or delivery of an event; `rip` is the instruction's offset in CS,
    /// `retired` the count of those before it.
    case processor(Int, rip: UInt64, retired: UInt64)
    /// A processor's page walker: A and D.
    case walker(Int)
    /// The hypervisor: A and D that it sets on a processor's behalf.
    case hypervisor
    /// A device, the loader, or the host.
    case host
}

/// Something that must know of each write to the frames that it watches.
package protocol MemoryWriteObserver: AnyObject {
    /// `size` bytes at a machine address, within one watched frame, have been written.
    func memoryWritten(_ address: UInt64, size: Int, by writer: MemoryWriter)
}

/// Watched frames: every write to one takes the slow path, on every processor, and is told of.
///
/// Nothing is watched in an ordinary run, and then nothing here costs anything: a watched frame is
/// one flag beside the one that frames with decoded code have.
extension MachineMemory {
    /// Begins to watch a frame.
    package func watch(_ frame: UInt64) {
        guard frame < frameCount, unsafe frameFlags[Int(frame)] & FrameFlags.watched == 0 else {
            return
        }
        unsafe frameFlags[Int(frame)] |= FrameFlags.watched
        for member in codeCaches { member.cache?.watchWrites(to: frame) }
    }

    /// Ends it.
    package func unwatch(_ frame: UInt64) {
        guard frame < frameCount else { return }
        unsafe frameFlags[Int(frame)] &= ~FrameFlags.watched
    }

    /// Tells the observer of a write, where the frames that it touches are watched.
    @inline(__always)
    package func noteWrite(_ address: UInt64, size: Int, by writer: MemoryWriter) {
        if !isObserved { return }
        tellObserver(address, size, writer)
    }

    @inline(never)
    private func tellObserver(_ first: UInt64, _ size: Int, _ writer: MemoryWriter) {
        var address = first
        let end = first &+ UInt64(size)
        while address < end, address < arenaBytes {
            let next = min(end, (address | 0xfff) &+ 1)
            if unsafe frameFlags[Int(address >> 12)] & FrameFlags.watched != 0 {
                writeObserver?.memoryWritten(address, size: Int(next &- address), by: writer)
            }
            address = next
        }
    }
}
