import SystemPackage
import X86

/// Loads a Multiboot 1 kernel: 32-bit protected mode, paging off, EAX = 0x2badb002, EBX = the
/// information structure.
///
/// ELF files, 32-bit or 64-bit, are loaded by their program headers' physical addresses; other
/// files by the addresses in their Multiboot header. Modules follow the kernel, each at a page.
/// - Source: Multiboot Specification 0.6.96 §3.
enum MultibootBoot {
    /// What EAX holds at entry.
    private static let handover: UInt64 = 0x2bad_b002

    static func load(
        _ file: ImageFile, _ header: MultibootHeader, _ request: BootRequest,
        _ placement: inout Placement
    ) throws(BootError) -> BootState {
        let entry: UInt64
        if let addresses = header.addresses {
            entry = try load(file, addresses, headerOffset: header.offset, &placement)
        } else if ELFFile.isPresent(in: file) {
            let elf = try ELFFile(file)
            try elf.load(file, &placement)
            entry = try elf.physicalEntry(path: file.path)
        } else {
            throw .unknownFormat(path: file.path)
        }
        var info = MultibootInfo(memoryBytes: request.memoryBytes)
        for module in ModuleRequest.parse(request.initrd ?? "") {
            guard !module.path.isEmpty else { throw .noInitrdName }
            let contents = try ImageFile.read(
                FilePath(module.path), limit: placement.lowTop)
            let address = try placement.claimLowest(
                size: contents.size, from: placement.kernelEnd, for: module.path)
            try placement.write(contents.bytes, at: address)
            info.modules.append(
                .init(start: address, end: address + contents.size, string: module.string))
        }
        // The kernel's name comes first, as other loaders have it; kernels skip one word.
        try BootLoader.writeCommandLine(
            file.path + " " + request.commandLine, limit: Layout.commandLineBytes - 1,
            to: placement)
        try placement.write(try info.encode(), at: Layout.startInfo)

        var state = BootState.protected32(entry: entry)
        state[.rax] = handover
        state[.rbx] = Layout.startInfo
        return state
    }

    /// Loads by the addresses in the header (§3.1.3).
    /// - Returns: the entry point.
    private static func load(
        _ file: ImageFile, _ addresses: MultibootHeader.Addresses, headerOffset: UInt64,
        _ placement: inout Placement
    ) throws(BootError) -> UInt64 {
        // All addresses are 32-bit values and the offset is below 8192: nothing here overflows.
        guard addresses.load <= addresses.header,
            addresses.header - addresses.load <= headerOffset
        else { throw .badImage(path: file.path, .badMultibootAddresses) }
        let start = headerOffset - (addresses.header - addresses.load)
        let count: UInt64
        if addresses.loadEnd == 0 {
            count = file.size - start
        } else {
            guard addresses.loadEnd > addresses.load else {
                throw .badImage(path: file.path, .badMultibootAddresses)
            }
            count = addresses.loadEnd - addresses.load
        }
        let range = try file.range(at: start, count: count)
        let loadEnd = addresses.load + count
        let zeroEnd = max(addresses.zeroEnd, loadEnd)
        guard addresses.zeroEnd == 0 || addresses.zeroEnd >= loadEnd else {
            throw .badImage(path: file.path, .badMultibootAddresses)
        }
        guard addresses.load..<zeroEnd ~= addresses.entry else {
            throw .badImage(path: file.path, .entryOutside(addresses.entry))
        }
        try placement.claim(addresses.load, size: zeroEnd - addresses.load)
        try placement.write(file.bytes, range, at: addresses.load)
        try placement.clear(loadEnd, count: zeroEnd - loadEnd)
        return addresses.entry
    }
}
