import Boot
import Testing
import X86

/// Walks the tables as a kernel does, from the pointer that the loader names.
@Suite struct ACPITests {
    private let memory = TestMemory(megabytes: 4)
    private let state: BootState

    init() throws {
        state = try BootLoader.load(
            ImageFile(path: "kernel", bytes: SyntheticLinux().bytes), request(processors: 3),
            into: memory)
    }

    private func signature(_ address: UInt64) -> String {
        String(decoding: memory.slice(address, 4), as: UTF8.self)
    }

    private func sum(_ address: UInt64, _ count: Int) -> UInt8 {
        memory.slice(address, count).reduce(0, &+)
    }

    /// The tables that a root table names, with pointers of `width` bytes.
    private func tables(root: UInt64, width: UInt64) -> [UInt64] {
        stride(from: root + 36, to: root + UInt64(memory.u32(root + 4)), by: Int(width)).map {
            width == 8 ? memory.u64($0) : UInt64(memory.u32($0))
        }
    }

    private var rsdp: UInt64 { state.rsdp.rawValue }

    @Test func `the root pointer is sound and lies where kernels search`() {
        #expect(rsdp >= 0xe_0000 && rsdp < 0x10_0000 && rsdp % 16 == 0)
        #expect(memory.slice(rsdp, 8) == Array("RSD PTR ".utf8))
        #expect(sum(rsdp, 20) == 0)
        #expect(sum(rsdp, 36) == 0)
        #expect(memory.u8(rsdp + 15) == 2)
        #expect(memory.u32(rsdp + 20) == 36)
    }

    @Test func `both root tables name the same tables, all with right checksums`() {
        let old = UInt64(memory.u32(rsdp + 16))
        let new = memory.u64(rsdp + 24)
        #expect(signature(old) == "RSDT" && signature(new) == "XSDT")
        let named = tables(root: new, width: 8)
        #expect(named == tables(root: old, width: 4))
        #expect(named.map(signature) == ["FACP", "APIC"])
        let dsdt = memory.u64(named[0] + 140)
        #expect(signature(dsdt) == "DSDT")
        for table in [old, new, dsdt] + named {
            let length = Int(memory.u32(table + 4))
            #expect(length > 36)
            #expect(sum(table, length) == 0, "\(signature(table))")
            #expect(table + UInt64(length) <= 0x10_0000)
        }
    }

    @Test func `the fixed table names the power registers and the reset port`() {
        let fadt = tables(root: memory.u64(rsdp + 24), width: 8)[0]
        #expect(memory.u32(fadt + 4) == 268)
        #expect(memory.u8(fadt + 8) == 5)
        #expect(memory.u32(fadt + 40) == UInt32(memory.u64(fadt + 140)))
        let facs = UInt64(memory.u32(fadt + 36))
        #expect(signature(facs) == "FACS" && facs % 64 == 0 && memory.u32(facs + 4) == 64)
        #expect(memory.u16(fadt + 46) == 9)
        #expect(memory.u32(fadt + 48) == 0, "no SMI command: ACPI mode from the start")
        #expect(memory.u32(fadt + 56) == 0x600 && memory.u8(fadt + 88) == 4)
        #expect(memory.u32(fadt + 64) == 0x604 && memory.u8(fadt + 89) == 2)
        #expect(memory.u32(fadt + 76) == 0x608 && memory.u8(fadt + 91) == 4)
        #expect(memory.u8(fadt + 108) == 0x32)
        #expect(memory.u16(fadt + 109) == 0b101)
        let flags = memory.u32(fadt + 112)
        #expect(flags & 1 << 10 != 0, "reset register")
        #expect(flags & 1 << 20 == 0, "not hardware-reduced")
        #expect(memory.slice(fadt + 116, 4) == [1, 8, 0, 1])
        #expect(memory.u64(fadt + 120) == 0xcf9)
        #expect(memory.u8(fadt + 128) == 6)
        #expect(memory.u64(fadt + 152) == 0x600)
        #expect(memory.u64(fadt + 176) == 0x604)
        #expect(memory.u64(fadt + 212) == 0x608)
    }

    @Test func `the interrupt table lists each processor and how interrupts are wired`() {
        let madt = tables(root: memory.u64(rsdp + 24), width: 8)[1]
        #expect(memory.u32(madt + 36) == 0xfee0_0000)
        #expect(memory.u32(madt + 40) == 1)
        var entries: [[UInt8]] = []
        var address = madt + 44
        let end = madt + UInt64(memory.u32(madt + 4))
        while address < end {
            let length = memory.u8(address + 1)
            guard length >= 2 else { break }
            entries.append(memory.slice(address, Int(length)))
            address += UInt64(length)
        }
        #expect(address == end)
        #expect(
            entries == [
                [0, 8, 0, 0, 1, 0, 0, 0], [0, 8, 1, 1, 1, 0, 0, 0], [0, 8, 2, 2, 1, 0, 0, 0],
                [1, 12, 3, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
                [2, 10, 0, 0, 2, 0, 0, 0, 0x05, 0], [2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0],
                [4, 6, 0xff, 0, 0, 1],
            ])
    }

    @Test func `the definition block is the AML that a disassembler has approved`() {
        let fadt = tables(root: memory.u64(rsdp + 24), width: 8)[0]
        let dsdt = memory.u64(fadt + 140)
        let body = memory.slice(dsdt + 36, Int(memory.u32(dsdt + 4)) - 36)
        #expect(memory.u8(dsdt + 8) == 2)
        // Name (\_S5, Package (4) {5, 5, 0, 0})
        #expect(
            body.starts(with: [
                0x08, 0x5c, 0x5f, 0x53, 0x35, 0x5f, 0x12, 0x08, 0x04, 0x0a, 5, 0x0a, 5, 0, 0,
            ]))
        // Scope (\_SB) { Device (COM1) { Name (_HID, EisaId ("PNP0501")) ...
        let scope = Array(body[15...])
        #expect(scope[0] == 0x10)
        let length = Int(scope[1] & 0xf) | Int(scope[2]) << 4
        #expect(scope[1] >> 6 == 1 && length == scope.count - 1)
        #expect(Array(scope[3..<8]) == Array("\\_SB_".utf8))
        #expect(Array(scope[8..<10]) == [0x5b, 0x82])
        #expect(Array(scope[11..<15]) == Array("COM1".utf8))
        #expect(
            Array(scope[15..<25])
                == [0x08] + Array("_HID".utf8) + [0x0c, 0x41, 0xd0, 0x05, 0x01])
        // The clock's resources: ports 0x70 and 0x71, interrupt 8.
        #expect(
            Array(scope.suffix(13))
                == [0x47, 1, 0x70, 0, 0x70, 0, 1, 2, 0x22, 0x00, 0x01, 0x79, 0])
    }

    @Test func `the tables of the largest machine fit in their place`() {
        let tables = ACPITables(processors: 255, platform: PlatformAddresses())
        #expect(tables.bytes.count <= Int(Layout.acpiBytes))
        #expect(tables.bytes.count > 255 * 8)
    }

    @Test func `the BIOS data area names the EBDA, the memory size and the serial port`() {
        #expect(memory.u16(0x400) == 0x3f8)
        #expect(memory.u16(0x40e) == 0x9fc0)
        #expect(memory.u16(0x413) == 639)
    }
}
