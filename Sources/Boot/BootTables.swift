import X86

/// The descriptor table and page tables that a guest starts on.
enum BootTables {
    /// Flat 32-bit code.
    static let code32 = SegmentState(selector: 0x08, base: 0, limit: .max, attributes: 0xc09b)
    /// 64-bit code; Linux wants it at selector 0x10 (boot.rst, `__BOOT_CS`).
    static let code64 = SegmentState(selector: 0x10, base: 0, limit: .max, attributes: 0xa09b)
    /// The same selector for a Linux kernel that starts in 32-bit mode.
    static let linuxCode32 = SegmentState(
        selector: 0x10, base: 0, limit: .max, attributes: 0xc09b)
    /// Flat data; Linux wants it at selector 0x18 (boot.rst, `__BOOT_DS`).
    static let data = SegmentState(selector: 0x18, base: 0, limit: .max, attributes: 0xc093)
    /// A busy TSS of the least size, as the PVH ABI asks for. Nobody uses what it holds.
    static let task = SegmentState(selector: 0x20, base: 0, limit: 0x67, attributes: 0x008b)

    /// GDTR. A zero descriptor follows the TSS: in 64-bit mode it is the TSS's upper half.
    static let gdt = DescriptorTable(base: Layout.bootGDT, limit: 6 * 8 - 1)

    /// Writes the descriptor table, with what stands at selector 0x10.
    static func writeDescriptors(
        _ second: SegmentState, to placement: borrowing Placement
    ) throws(BootError) {
        var table: [UInt8] = []
        let descriptors = [
            0, code32.descriptor, second.descriptor, data.descriptor, task.descriptor, 0,
        ]
        for descriptor in descriptors { table.append(littleEndian: descriptor) }
        try placement.write(table, at: Layout.bootGDT)
    }

    /// Writes the descriptor table and the BIOS data that kernels look for.
    static func writeCommon(to placement: borrowing Placement) throws(BootError) {
        try writeDescriptors(code64, to: placement)
        // The BIOS data area: COM1's port at 0x400, the EBDA's segment at 0x40e, and the KiB of
        // RAM below it at 0x413.
        var area = [UInt8](repeating: 0, count: 0x100)
        area.put(UInt16(0x3f8), at: 0x00)
        area.put(UInt16(Layout.extendedBIOSData >> 4), at: 0x0e)
        area.put(UInt16(Layout.extendedBIOSData >> 10), at: 0x13)
        try placement.write(area, at: Layout.biosDataArea)
    }

    /// Writes page tables that map the first 4 GiB to themselves, writable, in 2 MiB pages.
    static func writePageTables(to placement: borrowing Placement) throws(BootError) {
        let link = PagingEntry.presentBit | PagingEntry.writableBit
        let pointers = Layout.bootPageTables + pageSize
        let directories = pointers + pageSize
        let gigabytes = Layout.bootMappedBytes >> 30
        var tables: [UInt8] = []
        tables.append(littleEndian: pointers | link)
        tables.append(contentsOf: repeatElement(0, count: 511 * 8))
        for index in 0..<512 as Range<UInt64> {
            let entry = index < gigabytes ? (directories + index * pageSize) | link : 0
            tables.append(littleEndian: entry)
        }
        for page in 0..<512 * gigabytes {
            tables.append(littleEndian: page << 21 | link | PagingEntry.largeBit)
        }
        try placement.write(tables, at: Layout.bootPageTables)
    }
}
