import X86

/// Loads a bzImage by the 64-bit boot protocol, or the 32-bit one where the kernel is for that.
///
/// The protected-mode part goes to the address that it prefers: from a lower one it would move
/// itself there, and it needs the same memory then. The real-mode part is not used; its header
/// becomes part of the zero page.
/// - Source: Linux Documentation/arch/x86/boot.rst and zero-page.rst.
enum LinuxBoot {
    /// Where the 64-bit entry lies in the protected-mode part.
    static let entryOffset: UInt64 = 0x200

    static func load(
        _ file: ImageFile, _ header: LinuxHeader, _ request: BootRequest,
        _ placement: inout Placement
    ) throws(BootError) -> BootState {
        try placement.claim(header.preferredAddress, size: header.runtimeSize)
        try placement.write(file.bytes, header.kernelRange, at: header.preferredAddress)
        let initrd = try BootLoader.loadInitrd(
            request, below: header.initrdAddressMax + 1, &placement)
        try BootLoader.writeCommandLine(
            request.commandLine, limit: header.commandLineSize, to: placement)
        try placement.write(setupData(seed: request.rngSeed), at: Layout.setupData)
        try placement.write(
            zeroPage(file, header, memoryBytes: request.memoryBytes, initrd: initrd),
            at: Layout.zeroPage)
        var state: BootState
        if header.has64BitEntry {
            try BootTables.writePageTables(to: placement)
            state = .long64(entry: header.preferredAddress &+ entryOffset)
        } else {
            try BootTables.writeDescriptors(BootTables.linuxCode32, to: placement)
            state = .protected32(entry: header.preferredAddress)
            state.code = BootTables.linuxCode32
        }
        state[.rsi] = Layout.zeroPage
        return state
    }

    /// The zero page (`struct boot_params`), 4096 bytes.
    private static func zeroPage(
        _ file: ImageFile, _ header: LinuxHeader, memoryBytes: UInt64,
        initrd: (address: UInt64, size: UInt64)?
    ) -> [UInt8] {
        typealias Offset = LinuxHeader.Offset
        var page = [UInt8](repeating: 0, count: Int(pageSize))
        page.replaceSubrange(header.headerRange, with: file.bytes[header.headerRange])
        func put<T: FixedWidthInteger>(_ value: T, _ offset: UInt64) {
            page.put(value, at: Int(offset))
        }
        put(UInt16(0xffff), Offset.videoMode)  // "normal"
        put(UInt8(0xff), Offset.typeOfLoader)  // no registered loader
        put(UInt32(truncatingIfNeeded: header.preferredAddress), Offset.code32Start)
        // Both lie below 3 GiB, so that the fields for upper halves stay zero.
        put(UInt32(truncatingIfNeeded: initrd?.address ?? 0), Offset.ramdiskImage)
        put(UInt32(truncatingIfNeeded: initrd?.size ?? 0), Offset.ramdiskSize)
        put(UInt32(Layout.commandLine), Offset.commandLine)
        put(Layout.setupData, Offset.setupData)

        put(Layout.acpiTables, 0x070)  // acpi_rsdp_addr
        let map = MemoryRegion.map(memoryBytes: memoryBytes)
        put(UInt8(map.count), 0x1e8)  // e820_entries
        for (index, region) in map.enumerated() {
            let entry = 0x2d0 + 20 * UInt64(index)  // e820_table
            put(region.start, entry)
            put(region.size, entry + 8)
            put(region.kind.rawValue, entry + 16)
        }
        return page
    }

    /// One `struct setup_data` of type SETUP_RNG_SEED with 32 bytes from `SplitMix64`.
    private static func setupData(seed: UInt64) -> [UInt8] {
        var generator = SplitMix64(seed: seed)
        var node: [UInt8] = []
        node.append(littleEndian: UInt64(0))  // next: none
        node.append(littleEndian: UInt32(9))  // SETUP_RNG_SEED
        node.append(littleEndian: UInt32(32))
        for _ in 0..<4 { node.append(littleEndian: generator.next()) }
        return node
    }
}
