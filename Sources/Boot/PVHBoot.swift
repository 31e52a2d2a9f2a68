import X86

/// Loads an ELF kernel by its PVH entry: 32-bit protected mode, EBX = `hvm_start_info`.
///
/// - Source: Xen, docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h (version 1).
enum PVHBoot {
    static func load(
        _ file: ImageFile, _ elf: ELFFile, entry: UInt64, _ request: BootRequest,
        _ placement: inout Placement
    ) throws(BootError) -> BootState {
        try elf.load(file, &placement)
        // Below 2 GiB, as Linux asks of its other entries too.
        let initrd = try BootLoader.loadInitrd(request, below: 0x8000_0000, &placement)
        try BootLoader.writeCommandLine(
            request.commandLine, limit: Layout.commandLineBytes - 1, to: placement)
        try placement.write(
            startInfo(memoryBytes: request.memoryBytes, initrd: initrd), at: Layout.startInfo)

        var state = BootState.protected32(entry: entry)
        state[.rbx] = Layout.startInfo
        return state
    }

    /// `hvm_start_info` (56 bytes), one module (32 bytes), and the memory map (24 bytes an entry).
    private static func startInfo(
        memoryBytes: UInt64, initrd: (address: UInt64, size: UInt64)?
    ) -> [UInt8] {
        let map = MemoryRegion.map(memoryBytes: memoryBytes)
        let module = Layout.startInfo + 56
        var info: [UInt8] = []
        info.append(littleEndian: UInt32(0x336e_c578))  // "xEn3" with the top bit of E set
        info.append(littleEndian: UInt32(1))  // version
        info.append(littleEndian: UInt32(0))  // flags
        info.append(littleEndian: UInt32(initrd == nil ? 0 : 1))
        info.append(littleEndian: initrd == nil ? 0 : module)
        info.append(littleEndian: Layout.commandLine)
        info.append(littleEndian: Layout.acpiTables)
        info.append(littleEndian: module + 32)
        info.append(littleEndian: UInt32(map.count))
        info.append(littleEndian: UInt32(0))

        info.append(littleEndian: initrd?.address ?? 0)
        info.append(littleEndian: initrd?.size ?? 0)
        info.append(littleEndian: UInt64(0))  // no command line of its own
        info.append(littleEndian: UInt64(0))

        for region in map {
            info.append(littleEndian: region.start)
            info.append(littleEndian: region.size)
            info.append(littleEndian: region.kind.rawValue)
            info.append(littleEndian: UInt32(0))
        }
        return info
    }
}
