import X86

/// Guest RAM as saved machines hold it: the pages that are not all zero, by guest frame number
/// (guest-physical address / 4096).
extension MachineMemory {
    /// Calls `body` with runs of consecutive guest pages none of which is all zero, in ascending
    /// order and without overlap: the number of the first frame, and the run's bytes, a multiple of
    /// 4096. The bytes are valid during the call.
    /// - Parameter limit: how many pages a run has at most, at least 1.
    package func forEachUsedRun<E: Error>(
        atMost limit: UInt64, _ body: (UInt64, UnsafeRawBufferPointer) throws(E) -> Void
    ) throws(E) {
        try unsafe forEachUsedRun(0..<lowGuestBytes / pageSize, limit, body)
        let high = Self.highStart / pageSize
        try unsafe forEachUsedRun(high..<high + highGuestBytes / pageSize, limit, body)
    }

    private func forEachUsedRun<E: Error>(
        _ frames: Range<UInt64>, _ limit: UInt64,
        _ body: (UInt64, UnsafeRawBufferPointer) throws(E) -> Void
    ) throws(E) {
        var frame = frames.lowerBound
        while frame < frames.upperBound {
            var end = frame
            while end < frames.upperBound, end - frame < limit, isUsed(end) { end += 1 }
            if end > frame, let run = unsafe guestPages(frame, count: end - frame) {
                try unsafe body(frame, UnsafeRawBufferPointer(run))
            }
            frame = end > frame ? end : frame + 1
        }
    }

    /// Whether a page of guest RAM has a byte that is not zero.
    private func isUsed(_ frame: UInt64) -> Bool {
        // The frame is one of RAM, so all of its page is in the arena.
        let page = unsafe base + Int(guestBase + frame * pageSize)
        for word in stride(from: 0, to: Int(pageSize), by: 8)
        where unsafe page.load(fromByteOffset: word, as: UInt64.self) != 0 {
            return true
        }
        return false
    }

    /// The memory of `count` guest pages from a frame; nil unless all of them are RAM. It stays
    /// where it is for the machine's lifetime. What is written there is told to nobody: only for a
    /// machine that has not run.
    package func guestPages(_ frame: UInt64, count: UInt64) -> UnsafeMutableRawBufferPointer? {
        let (end, overflow) = frame.addingReportingOverflow(count)
        let high = Self.highStart / pageSize
        let isRAM =
            end <= lowGuestBytes / pageSize
            || frame >= high && end <= high + highGuestBytes / pageSize
        guard count > 0, !overflow, isRAM else { return nil }
        return unsafe UnsafeMutableRawBufferPointer(
            start: base + Int(guestBase + frame * pageSize), count: Int(count * pageSize))
    }
}
