/// A kernel file, told apart by its headers.
enum GuestImage {
    /// A Linux bzImage, with a 64-bit or a 32-bit entry.
    case linux(LinuxHeader)
    /// A file with a Multiboot 1 header.
    case multiboot(MultibootHeader)
    /// An ELF file with a PVH entry, at this guest-physical address.
    case pvh(ELFFile, entry: UInt64)

    init(_ file: ImageFile) throws(BootError) {
        if LinuxHeader.isPresent(in: file) {
            self = .linux(try LinuxHeader(file))
        } else if let header = try MultibootHeader.find(in: file) {
            self = .multiboot(header)
        } else if ELFFile.isPresent(in: file) {
            let elf = try ELFFile(file)
            guard let entry = try elf.pvhEntry(in: file) else {
                throw .noEntryProtocol(path: file.path)
            }
            self = .pvh(elf, entry: entry)
        } else {
            throw .unknownFormat(path: file.path)
        }
    }
}
