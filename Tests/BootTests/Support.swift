import Boot
import Glibc
import SystemPackage
import X86

/// Guest RAM in an array, with the hole between the EBDA and the ACPI tables.
final class TestMemory: GuestMemory {
    private(set) var bytes: [UInt8]

    init(megabytes: Int, filledWith byte: UInt8 = 0) {
        bytes = [UInt8](repeating: byte, count: megabytes << 20)
    }

    func write(_ source: Span<UInt8>, at address: GuestPhysicalAddress) -> Bool {
        guard address.rawValue <= UInt64(bytes.count),
            UInt64(bytes.count) - address.rawValue >= UInt64(source.count)
        else { return false }
        let start = Int(address.rawValue)
        if source.isEmpty { return true }
        unsafe source.withUnsafeBufferPointer { buffer in
            _ = unsafe bytes.withUnsafeMutableBytes { target in
                unsafe memcpy(target.baseAddress! + start, buffer.baseAddress!, buffer.count)
            }
        }
        return true
    }

    func load<T: FixedWidthInteger>(_ type: T.Type, _ address: UInt64) -> T {
        unsafe bytes.withUnsafeBytes {
            unsafe $0.loadUnaligned(fromByteOffset: Int(address), as: T.self)
        }
    }

    func u8(_ address: UInt64) -> UInt8 { load(UInt8.self, address) }
    func u16(_ address: UInt64) -> UInt16 { load(UInt16.self, address) }
    func u32(_ address: UInt64) -> UInt32 { load(UInt32.self, address) }
    func u64(_ address: UInt64) -> UInt64 { load(UInt64.self, address) }

    func slice(_ address: UInt64, _ count: Int) -> [UInt8] {
        Array(bytes[Int(address)..<Int(address) + count])
    }

    /// The text up to the NUL at `address`.
    func string(_ address: UInt64) -> String {
        String(decoding: bytes[Int(address)...].prefix(while: { $0 != 0 }), as: UTF8.self)
    }
}

/// Runs `body` with a file of the given contents, which is gone afterwards.
func withFile<R>(_ contents: [UInt8], _ body: (FilePath) throws -> R) throws -> R {
    var template = Array("/tmp/penumbra-boot-XXXXXX".utf8CString)
    let raw = unsafe template.withUnsafeMutableBufferPointer { unsafe mkstemp($0.baseAddress!) }
    let descriptor = FileDescriptor(rawValue: raw)
    let name = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer { unsafe unlink(name) }
    try descriptor.closeAfter { _ = try descriptor.writeAll(contents) }
    return try body(FilePath(name))
}

/// A request for a kernel that the test hands over itself.
func request(
    megabytes: UInt64 = 4, initrd: String? = nil, commandLine: String = "", processors: Int = 1
) -> BootRequest {
    BootRequest(
        kernel: "kernel", initrd: initrd, commandLine: commandLine,
        memoryBytes: megabytes << 20, processors: processors, rngSeed: 7)
}

/// The error that loading `bytes` gives, or nil if it loads.
func bootError(
    _ bytes: [UInt8], _ request: BootRequest = request(), into memory: TestMemory? = nil
) -> BootError? {
    let memory = memory ?? TestMemory(megabytes: Int(request.memoryBytes >> 20))
    do throws(BootError) {
        _ = try BootLoader.load(ImageFile(path: "kernel", bytes: bytes), request, into: memory)
        return nil
    } catch {
        return error
    }
}

/// A bzImage as small as they get: four setup sectors, two pages of "kernel" of byte 0x90.
struct SyntheticLinux {
    var version: UInt16 = 0x20f
    var xloadflags: UInt16 = 1
    var preferredAddress: UInt64 = 0x10_0000
    var initSize: UInt32 = 0x10_0000
    var commandLineSize: UInt32 = 255
    var initrdAddressMax: UInt32 = 0x7fff_ffff
    var headerEnd: Int = 0x26c

    var bytes: [UInt8] {
        var image = [UInt8](repeating: 0x90, count: 5 * 512 + 8192)
        for index in 0..<5 * 512 { image[index] = 0 }
        image[0x1f1] = 4
        image.put(UInt32(8192 / 16), at: 0x1f4)
        image.put(UInt16(0xaa55), at: 0x1fe)
        image[0x200] = 0xeb
        image[0x201] = UInt8(headerEnd - 0x202)
        image.replaceSubrange(0x202..<0x206, with: Array("HdrS".utf8))
        image.put(version, at: 0x206)
        image[0x211] = 1
        image.put(initrdAddressMax, at: 0x22c)
        image.put(UInt32(0x20_0000), at: 0x230)
        image[0x234] = 1
        image.put(xloadflags, at: 0x236)
        image.put(commandLineSize, at: 0x238)
        image.put(preferredAddress, at: 0x258)
        image.put(initSize, at: 0x260)
        return image
    }
}

/// An ELF executable whose first segment holds a Multiboot header, a PVH note, or neither.
struct SyntheticELF {
    struct Segment {
        var type: UInt32 = 1
        var virtualAddress: UInt64
        var physicalAddress: UInt64
        var contents: [UInt8]
        var memorySize: UInt64
    }

    var wide = false
    var machine: UInt16 = 3
    var type: UInt16 = 2
    var entry: UInt64 = 0x10_000c
    var segments: [Segment] = []

    /// A Multiboot header, 12 bytes.
    static func multibootHeader(flags: UInt32 = 3) -> [UInt8] {
        var header: [UInt8] = []
        header.append(littleEndian: UInt32(0x1bad_b002))
        header.append(littleEndian: flags)
        header.append(littleEndian: 0 &- (UInt32(0x1bad_b002) &+ flags))
        return header
    }

    /// One segment at 1 MiB: a Multiboot header, four bytes of code, and a page of zeroes.
    static func multiboot(flags: UInt32 = 3) -> SyntheticELF {
        let contents = multibootHeader(flags: flags) + [0xf4, 0xf4, 0xf4, 0xf4]
        return SyntheticELF(segments: [
            Segment(
                virtualAddress: 0x10_0000, physicalAddress: 0x10_0000, contents: contents,
                memorySize: UInt64(contents.count) + 4096)
        ])
    }

    /// One segment at 1 MiB, and the note that makes its start the PVH entry.
    static func pvh(entry: UInt64 = 0x10_0000) -> SyntheticELF {
        var note: [UInt8] = []
        for word in [4, 4, 99] as [UInt32] { note.append(littleEndian: word) }
        note += Array("Xen\0".utf8) + [1, 2, 3, 4]
        for word in [4, 8, 18] as [UInt32] { note.append(littleEndian: word) }
        note += Array("Xen\0".utf8)
        note.append(littleEndian: entry)
        return SyntheticELF(
            wide: true, machine: 62, entry: 0x10_0000,
            segments: [
                Segment(
                    virtualAddress: 0xffff_ffff_8010_0000, physicalAddress: 0x10_0000,
                    contents: [0xf4, 0xf4, 0xf4, 0xf4], memorySize: 8192),
                Segment(
                    type: 4, virtualAddress: 0, physicalAddress: 0, contents: note,
                    memorySize: UInt64(note.count)),
            ])
    }

    var bytes: [UInt8] {
        var file: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]
        file += [UInt8](repeating: 0, count: 9)
        func word(_ value: UInt64) {
            wide
                ? file.append(littleEndian: value)
                : file.append(littleEndian: UInt32(truncatingIfNeeded: value))
        }
        let headerSize = wide ? 64 : 52
        let entrySize = wide ? 56 : 32
        file.append(littleEndian: type)
        file.append(littleEndian: machine)
        file.append(littleEndian: UInt32(1))
        word(entry)
        word(UInt64(headerSize))
        word(0)
        file.append(littleEndian: UInt32(0))
        let shorts = [headerSize, entrySize, segments.count, 0, 0, 0]
        for short in shorts { file.append(littleEndian: UInt16(short)) }
        // Contents follow the headers, each at a multiple of 4.
        var offset = UInt64(headerSize + entrySize * segments.count)
        for segment in segments {
            file.append(littleEndian: segment.type)
            if wide { file.append(littleEndian: UInt32(7)) }
            word(offset)
            word(segment.virtualAddress)
            word(segment.physicalAddress)
            word(UInt64(segment.contents.count))
            word(segment.memorySize)
            if !wide { file.append(littleEndian: UInt32(7)) }
            word(4096)
            offset += UInt64((segment.contents.count + 3) & ~3)
        }
        for segment in segments {
            file += segment.contents
            file.pad(to: 4)
        }
        return file
    }
}
