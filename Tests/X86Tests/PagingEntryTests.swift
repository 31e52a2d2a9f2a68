import Testing
import X86

@Suite struct PagingEntryTests {
    @Test func `a leaf is a page table's entry, or one with PS at levels 2 and 3`() {
        let small = PagingEntry(PagingEntry.presentBit)
        let large = PagingEntry(PagingEntry.presentBit | PagingEntry.largeBit)
        #expect(small.isLeaf(at: .table) && large.isLeaf(at: .table))
        #expect(!small.isLeaf(at: .directory) && large.isLeaf(at: .directory))
        #expect(!small.isLeaf(at: .directoryPointer) && large.isLeaf(at: .directoryPointer))
        #expect(!small.isLeaf(at: .pml4) && !large.isLeaf(at: .pml4))
    }

    /// Every single bit at every level, against the manual's tables written out.
    @Test func `each reserved bit is reserved exactly where the manual says`() {
        for level in PageLevel.allCases {
            for large in [false, true] {
                for executeDisable in [false, true] {
                    for gigabytePages in [false, true] {
                        for bit in 0..<64 as Range<UInt64> {
                            let entry = PagingEntry(
                                1 << bit | PagingEntry.presentBit
                                    | (large ? PagingEntry.largeBit : 0))
                            let found =
                                entry.reservedBits(
                                    at: level, physicalAddressBits: 40,
                                    executeDisable: executeDisable, gigabytePages: gigabytePages)
                                & 1 << bit != 0
                            #expect(
                                found
                                    == isReserved(
                                        bit, level, large || bit == 7, executeDisable,
                                        gigabytePages),
                                "bit \(bit) level \(level) PS \(large)")
                        }
                    }
                }
            }
        }
    }

    private func isReserved(
        _ bit: UInt64, _ level: PageLevel, _ large: Bool, _ executeDisable: Bool,
        _ gigabytePages: Bool
    ) -> Bool {
        if bit == 63 { return !executeDisable }
        if (40...51).contains(bit) { return true }
        switch level {
        case .table: return false
        case .pml4, .pml5: return bit == 7
        case .directory: return large && (13...20).contains(bit)
        case .directoryPointer:
            if bit == 7 { return !gigabytePages }
            return large && (13...29).contains(bit)
        }
    }

    @Test func `an address splits into four indices and an offset`() {
        let address = GuestVirtualAddress(1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 5)
        #expect(address.index(at: .pml4) == 1)
        #expect(address.index(at: .directoryPointer) == 2)
        #expect(address.index(at: .directory) == 3)
        #expect(address.index(at: .table) == 4)
        #expect(address.pageOffset == 5)
        #expect(PageLevel.directory.entrySpan == 2 << 20)
    }
}
