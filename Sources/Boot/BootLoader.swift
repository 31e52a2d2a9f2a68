import SystemPackage
import X86

/// What to boot, and in what machine.
public struct BootRequest: Sendable {
    /// The kernel: a bzImage, or an ELF file with a Multiboot header or a PVH entry.
    public var kernel: FilePath
    /// Whether that file is a PC's firmware in place of a kernel.
    public var isFirmware = false
    /// For Linux the initial RAM file system's name; for a Multiboot kernel a list of modules,
    /// "FILE arguments,FILE ...", in which ",," stands for a comma.
    public var initrd: String?
    /// The kernel's command line. Multiboot kernels get the kernel's name before it.
    public var commandLine: String
    /// Guest RAM in bytes.
    public var memoryBytes: UInt64
    /// The number of virtual processors, 1…255; their local APICs are numbered from 0.
    public var processors: Int
    /// What the random seed handed to a Linux guest is derived from.
    public var rngSeed: UInt64
    /// Where the board's chips are.
    public var platform: PlatformAddresses

    /// A request for the default board, one processor and no initrd unless said otherwise.
    public init(
        kernel: FilePath, initrd: String? = nil, commandLine: String = "", memoryBytes: UInt64,
        processors: Int = 1, rngSeed: UInt64 = 0
    ) {
        self.kernel = kernel
        self.initrd = initrd
        self.commandLine = commandLine
        self.memoryBytes = memoryBytes
        self.processors = processors
        self.rngSeed = rngSeed
        platform = PlatformAddresses()
    }
}

/// Loads guests: does what firmware and a boot loader do before a kernel's first instruction.
///
/// A kernel is loaded by the protocol that its file speaks (`GuestImage`): Linux's 64-bit boot
/// protocol, Multiboot 1, or PVH. In each case the ACPI tables lie where kernels search for them,
/// and everything else where `Layout` says.
///
///     let request = BootRequest(kernel: "bzImage", memoryBytes: 512 << 20)
///     let registers = try BootLoader.load(request, into: board)
///
/// A PC's firmware (SeaBIOS) is loaded in place of a kernel where the request says so.
///
/// Caveats: otherwise no firmware exists, so a guest that calls the BIOS or UEFI finds nothing; and
/// everything is placed below 3 GiB, also where a kernel would take it higher.
public enum BootLoader {
    /// Reads the request's files and loads the guest.
    ///
    /// It may be called again for the same memory, as at a reset.
    /// - Returns: the boot processor's registers.
    public static func load(
        _ request: BootRequest, into memory: any GuestMemory
    ) throws(BootError) -> BootState {
        let kernel = try ImageFile.read(request.kernel, limit: Layout.kernelFileLimit)
        return try load(kernel, request, into: memory)
    }

    /// Loads a kernel that has been read already.
    package static func load(
        _ kernel: ImageFile, _ request: BootRequest, into memory: any GuestMemory
    ) throws(BootError) -> BootState {
        guard 1...Layout.mostProcessors ~= request.processors else {
            throw .badProcessorCount(request.processors)
        }
        if request.commandLine.utf8.contains(0) || request.initrd?.utf8.contains(0) == true {
            throw .commandLineHoldsNUL
        }
        if request.initrd == "" { throw .noInitrdName }
        var placement = try Placement(
            memory: memory, memoryBytes: request.memoryBytes, kernel: kernel.path)
        if request.isFirmware { return try FirmwareBoot.load(kernel, request, &placement) }
        let image = try GuestImage(kernel)
        try BootTables.writeCommon(to: placement)
        let tables = ACPITables(processors: request.processors, platform: request.platform)
        try placement.write(tables.bytes, at: Layout.acpiTables)
        switch image {
        case .linux(let header):
            return try LinuxBoot.load(kernel, header, request, &placement)
        case .multiboot(let header):
            return try MultibootBoot.load(kernel, header, request, &placement)
        case .pvh(let elf, let entry):
            return try PVHBoot.load(kernel, elf, entry: entry, request, &placement)
        }
    }

    /// Writes a command line and its NUL.
    /// - Parameter limit: the most bytes, without the NUL, that the kernel takes.
    static func writeCommandLine(
        _ line: String, limit: UInt64, to placement: borrowing Placement
    ) throws(BootError) {
        let limit = Int(min(limit, Layout.commandLineBytes - 1))
        let bytes = Array(line.utf8)
        guard bytes.count <= limit else {
            throw .commandLineTooLong(bytes: bytes.count, limit: limit)
        }
        try placement.write(bytes + [0], at: Layout.commandLine)
    }

    /// Reads the initial RAM file system and places it as high as possible below `limit`.
    /// - Returns: its address and size; nil if none was asked for.
    static func loadInitrd(
        _ request: BootRequest, below limit: UInt64, _ placement: inout Placement
    ) throws(BootError) -> (address: UInt64, size: UInt64)? {
        guard let name = request.initrd else { return nil }
        let initrd = try ImageFile.read(FilePath(name), limit: placement.lowTop)
        let address = try placement.claimHighest(size: initrd.size, below: limit, for: name)
        try placement.write(initrd.bytes, at: address)
        return (address, initrd.size)
    }
}
