extension Ledger {
    /// Adds what happened between two readings of one machine's ledger.
    ///
    /// Counts are summed. `shadowPagesLive` and `shadowPagesPeak` are no counts but states, and are
    /// taken over from the later reading.
    package mutating func add(from earlier: Ledger, to later: Ledger) {
        let size = MemoryLayout<UInt64>.size
        // Every stored property is a UInt64 or a tally of them, so the value is a row of words; a
        // test holds the ledger to that. The offsets are within the value, and aligned.
        unsafe withUnsafeMutableBytes(of: &self) { sum in
            unsafe withUnsafeBytes(of: earlier) { earlier in
                unsafe withUnsafeBytes(of: later) { later in
                    for offset in stride(from: 0, to: MemoryLayout<Ledger>.size, by: size) {
                        let change =
                            unsafe later.load(fromByteOffset: offset, as: UInt64.self)
                            &- earlier.load(fromByteOffset: offset, as: UInt64.self)
                        unsafe sum.storeBytes(
                            of: sum.load(fromByteOffset: offset, as: UInt64.self) &+ change,
                            toByteOffset: offset, as: UInt64.self)
                    }
                }
            }
        }
        shadowPagesLive = later.shadowPagesLive
        shadowPagesPeak = later.shadowPagesPeak
    }
}
