import SystemPackage

/// Why a guest could not be loaded. Each description is one line that says what to do.
public enum BootError: Error, Equatable, CustomStringConvertible {
    /// The file could not be opened.
    case cannotOpen(path: String, Errno)
    /// The file was opened and could not be read.
    case cannotRead(path: String, Errno)
    /// The file has no bytes.
    case emptyFile(path: String)
    /// The file has more than `limit` bytes.
    case fileTooLarge(path: String, limit: UInt64)
    /// The file ends before what its headers name: it needs `needed` bytes and has `actual`.
    case truncated(path: String, needed: UInt64, actual: UInt64)
    /// The file is no kernel that can be loaded.
    case unknownFormat(path: String)
    /// The file is an ELF file with neither a Multiboot header nor a PVH entry.
    case noEntryProtocol(path: String)
    /// The file's headers contradict themselves or its format.
    case badImage(path: String, ImageFault)
    /// The file is a Linux kernel whose boot protocol (major << 8 | minor) is before 2.12.
    case oldBootProtocol(path: String, version: UInt16)
    /// The Multiboot header requires features that are not there; `flags` are those bits.
    case unsupportedMultiboot(path: String, flags: UInt32)
    /// Part of the file belongs at `start..<end`, where there is no RAM or the loader's own data.
    case noRAM(path: String, start: UInt64, end: UInt64)
    /// Two parts of the file belong at the same address.
    case overlap(path: String, address: UInt64)
    /// The file needs `bytes` of contiguous free RAM, and there are none below `limit`.
    case doesNotFit(path: String, bytes: UInt64, limit: UInt64)
    /// The guest has less memory than any machine needs.
    case tooLittleMemory(bytes: UInt64)
    /// The command line, in bytes, is longer than the kernel takes.
    case commandLineTooLong(bytes: Int, limit: Int)
    /// The command line or a module's name holds a NUL.
    case commandLineHoldsNUL
    /// An initrd was asked for by an empty name.
    case noInitrdName
    /// The modules' list and strings, in bytes, exceed the room for them.
    case tooManyModules(bytes: Int, limit: Int)
    /// The firmware's size in bytes is none that firmware has.
    case badFirmwareSize(path: String, bytes: UInt64)
    /// Firmware was given beside a command line or an initrd, which belong to a kernel.
    case firmwareTakesNoKernel(path: String)
    /// The number of processors cannot be described.
    case badProcessorCount(Int)

    public var description: String {
        switch self {
        case .cannotOpen(let path, let errno):
            "cannot open \(path): \(errno); check its name and its permissions"
        case .cannotRead(let path, let errno):
            "cannot read \(path): \(errno); give a regular file"
        case .emptyFile(let path):
            "\(path) is empty: give a file that was built or downloaded completely"
        case .fileTooLarge(let path, let limit):
            "\(path) has more than the \(limit) bytes that can be loaded: "
                + "give a smaller file or the guest more memory"
        case .truncated(let path, let needed, let actual):
            "\(path) is truncated: it needs \(needed) bytes and has \(actual); "
                + "build or download it again"
        case .unknownFormat(let path):
            "\(path) is no kernel that can be loaded: "
                + "give a bzImage, or an ELF file with a Multiboot header or a PVH entry"
        case .noEntryProtocol(let path):
            "\(path) is an ELF file with neither a Multiboot header nor a PVH entry: "
                + "give the kernel's bzImage, or build it with CONFIG_PVH"
        case .badImage(let path, let fault):
            "\(path) is damaged or not made for this machine: \(fault)"
        case .oldBootProtocol(let path, let version):
            "\(path) has Linux boot protocol \(version >> 8).\(version & 0xff): "
                + "give a kernel with 2.12 or later (Linux 3.8)"
        case .unsupportedMultiboot(let path, let flags):
            "\(path) requires Multiboot features 0x\(String(flags, radix: 16)), "
                + "which are not supported: give a kernel that does without"
        case .noRAM(let path, let start, let end):
            "\(path) belongs at 0x\(String(start, radix: 16))-0x\(String(end, radix: 16)), "
                + "where the guest has no free RAM: give the guest more memory, "
                + "or link the kernel elsewhere"
        case .overlap(let path, let address):
            "two parts of \(path) belong at 0x\(String(address, radix: 16)): "
                + "link the kernel without overlapping segments"
        case .doesNotFit(let path, let bytes, let limit):
            "\(path) needs \(bytes) bytes of free RAM below 0x\(String(limit, radix: 16)): "
                + "give the guest more memory"
        case .tooLittleMemory(let bytes):
            "\(bytes) bytes of guest memory are too few: give at least 2 MiB"
        case .commandLineTooLong(let bytes, let limit):
            "the command line has \(bytes) bytes and the kernel takes \(limit): shorten it"
        case .commandLineHoldsNUL:
            "the command line holds a NUL character: remove it"
        case .noInitrdName:
            "an initrd was asked for without a name: give a file"
        case .tooManyModules(let bytes, let limit):
            "the modules' names take \(bytes) bytes and there is room for \(limit): "
                + "give fewer or shorter ones"
        case .badFirmwareSize(let path, let bytes):
            "\(path) has \(bytes) bytes and is no firmware: give 64, 128, 192 or 256 KiB"
        case .firmwareTakesNoKernel(let path):
            "the firmware \(path) takes no initrd and no command line: leave them out"
        case .badProcessorCount(let count):
            "\(count) processors are not possible: give 1 to \(Layout.mostProcessors)"
        }
    }
}

/// What is wrong with a kernel file's headers.
public enum ImageFault: Error, Equatable, CustomStringConvertible {
    /// The ELF file is not for the 386 or x86-64; the value is its machine number.
    case notX86(UInt16)
    /// The ELF file is not executable (an object file or a core dump); the value is its type.
    case notExecutable(UInt16)
    /// The ELF file has no segment to load.
    case noSegments
    /// The ELF file has this many program headers, more than any kernel.
    case tooManySegments(Int)
    /// The ELF program headers have this size in bytes, which is too small.
    case badProgramHeaderSize(Int)
    /// A segment at this address has more bytes in the file than in memory.
    case segmentExceedsMemory(UInt64)
    /// The entry point lies in no segment, or not below 4 GiB.
    case entryOutside(UInt64)
    /// The addresses in a Multiboot header contradict each other.
    case badMultibootAddresses
    /// A Linux setup header has this many bytes, too few for its version.
    case shortSetupHeader(Int)
    /// A Linux kernel's preferred address is not page-aligned above the first megabyte.
    case badPreferredAddress(UInt64)

    public var description: String {
        switch self {
        case .notX86(let machine): "its machine number is \(machine), not that of the x86"
        case .notExecutable(let type): "its ELF type is \(type), not an executable"
        case .noSegments: "it has no segment to load"
        case .tooManySegments(let count): "it has \(count) program headers"
        case .badProgramHeaderSize(let size): "its program headers have \(size) bytes each"
        case .segmentExceedsMemory(let address):
            "the segment at 0x\(String(address, radix: 16)) is larger in the file than in memory"
        case .entryOutside(let address):
            "its entry point 0x\(String(address, radix: 16)) lies outside its segments"
        case .badMultibootAddresses: "the addresses in its Multiboot header contradict each other"
        case .shortSetupHeader(let size): "its Linux setup header has only \(size) bytes"
        case .badPreferredAddress(let address):
            "its preferred address 0x\(String(address, radix: 16)) is not possible"
        }
    }
}
