import Testing
import X86

@Suite struct PagingFormTests {
    private static func rules(
        _ form: PagingForm, bits: UInt64 = 40, executeDisable: Bool = true,
        pageSizeExtensions: Bool = true
    ) -> PagingRules {
        PagingRules(
            form: form, physicalAddressBits: bits, executeDisable: executeDisable,
            gigabytePages: true, pageSizeExtensions: pageSizeExtensions)
    }

    @Test func `the control registers select the form`() {
        let pg = CR0.paging | CR0.protectionEnable
        let pae = CR4.physicalAddressExtension
        let lma = EFER.longModeActive | EFER.longModeEnable
        #expect(PagingForm(cr0: CR0.protectionEnable, cr4: pae, efer: lma) == nil)
        #expect(PagingForm(cr0: pg, cr4: 0, efer: 0) == .twoLevel)
        // LA57 may stand in CR4 without IA-32e mode, and means nothing then.
        #expect(PagingForm(cr0: pg, cr4: pae | CR4.fiveLevelPaging, efer: 0) == .pae)
        #expect(PagingForm(cr0: pg, cr4: pae, efer: lma) == .fourLevel)
        #expect(PagingForm(cr0: pg, cr4: pae | CR4.fiveLevelPaging, efer: lma) == .fiveLevel)
    }

    @Test func `each form takes its own bits of an address for each level`() {
        let address = GuestVirtualAddress(0x0123_4567_89ab_cdef)
        #expect(PagingForm.twoLevel.index(address, at: .directory) == 0x89ab_cdef >> 22)
        #expect(PagingForm.twoLevel.index(address, at: .table) == 0x89ab_cdef >> 12 & 0x3ff)
        #expect(PagingForm.pae.index(address, at: .directoryPointer) == 2)
        #expect(PagingForm.pae.index(address, at: .directory) == 0x89ab_cdef >> 21 & 0x1ff)
        #expect(PagingForm.fiveLevel.index(address, at: .pml5) == 0x0123_4567_89ab_cdef >> 48 & 511)
        for level in [PageLevel.table, .directory, .directoryPointer, .pml4] {
            #expect(PagingForm.fourLevel.index(address, at: level) == address.index(at: level))
        }
        #expect(PagingForm.twoLevel.entrySpan(.directory) == 4 << 20)
        #expect(PagingForm.pae.entrySpan(.directory) == 2 << 20)
    }

    @Test func `a 4 MiB page has bits 39 to 32 of its base in bits 20 to 13, as many as exist`() {
        let wide = Self.rules(.twoLevel)
        let entry = PagingEntry(0xff40_0083 | 0x1f_e000)
        #expect(wide.isLeaf(entry, at: .directory))
        #expect(wide.leafBase(entry, at: .directory) == 0xff_ff40_0000)
        #expect(wide.reservedBits(entry, at: .directory) == 0)
        #expect(wide.reservedBits(PagingEntry(0x83 | 1 << 21), at: .directory) == 1 << 21)
        let narrow = Self.rules(.twoLevel, bits: 36)
        #expect(narrow.reservedBits(entry, at: .directory) == 0x1e_0000)
        // Without CR4.PSE the bit is ignored, and the entry names a table.
        let off = Self.rules(.twoLevel, pageSizeExtensions: false)
        #expect(!off.isLeaf(entry, at: .directory))
        #expect(off.reservedBits(entry, at: .directory) == 0)
        #expect(off.tableBase(entry) == 0xff5f_e000)
    }

    @Test func `entries of PAE paging reserve bits 62 to 52, and the pointers nearly all`() {
        let rules = Self.rules(.pae)
        let high = PagingEntry(1 << 52 | 1 << 62 | 1 << 40 | 1 << 39 | 1)
        #expect(rules.reservedBits(high, at: .table) == 1 << 52 | 1 << 62 | 1 << 40)
        #expect(rules.reservedBits(PagingEntry(1 << 63 | 1), at: .directory) == 0)
        let strict = Self.rules(.pae, executeDisable: false)
        #expect(strict.reservedBits(PagingEntry(1 << 63 | 1), at: .directory) == 1 << 63)
        #expect(rules.reservedBits(PagingEntry(0x83 | 1 << 13), at: .directory) == 1 << 13)
        #expect(rules.reservedBits(PagingEntry(0x83 | 1 << 12), at: .directory) == 0)
        #expect(
            rules.reservedBits(PagingEntry(.max), at: .directoryPointer)
                == 0xffff_ff00_0000_01e6)
        #expect(!rules.isLeaf(PagingEntry(0x81), at: .directoryPointer))
    }
}
