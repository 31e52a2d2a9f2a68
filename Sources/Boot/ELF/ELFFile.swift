/// The program headers of an x86 ELF executable, 32-bit or 64-bit.
///
/// - Source: System V ABI, "Object Files" and "Program Loading"; ELF-64 Object File Format 1.5.
struct ELFFile {
    /// A program header.
    struct Segment {
        var type: UInt32
        /// The bytes in the file, from `offset`.
        var offset: UInt64
        var fileSize: UInt64
        var virtualAddress: UInt64
        var physicalAddress: UInt64
        /// The bytes in memory; what exceeds `fileSize` is zero.
        var memorySize: UInt64
    }

    /// More program headers than this make no kernel.
    static let mostSegments = 256

    /// The entry point as the file gives it: virtual or physical.
    let entry: UInt64
    /// All program headers.
    let segments: [Segment]

    /// The segments that are loaded (PT_LOAD) and not empty.
    var loadable: [Segment] { segments.filter { $0.type == 1 && $0.memorySize > 0 } }

    /// Whether the file claims to be a little-endian ELF file.
    static func isPresent(in file: ImageFile) -> Bool {
        file.bytes.count > 5 && file.bytes[0..<4].elementsEqual([0x7f, 0x45, 0x4c, 0x46])
            && (file.bytes[4] == 1 || file.bytes[4] == 2) && file.bytes[5] == 1
    }

    init(_ file: ImageFile) throws(BootError) {
        let wide = try file.load(UInt8.self, at: 4) == 2
        func word(_ offset: UInt64) throws(BootError) -> UInt64 {
            wide
                ? try file.load(UInt64.self, at: offset)
                : UInt64(try file.load(UInt32.self, at: offset))
        }
        let type = try file.load(UInt16.self, at: 16)
        guard type == 2 || type == 3 else {  // ET_EXEC, ET_DYN
            throw .badImage(path: file.path, .notExecutable(type))
        }
        let machine = try file.load(UInt16.self, at: 18)
        guard machine == 3 || machine == 62 else {  // EM_386, EM_X86_64
            throw .badImage(path: file.path, .notX86(machine))
        }
        entry = try word(24)
        let table = try word(wide ? 32 : 28)
        let stride = UInt64(try file.load(UInt16.self, at: wide ? 54 : 42))
        let count = Int(try file.load(UInt16.self, at: wide ? 56 : 44))
        guard count <= Self.mostSegments else {
            throw .badImage(path: file.path, .tooManySegments(count))
        }
        guard count == 0 || stride >= (wide ? 56 : 32) else {
            throw .badImage(path: file.path, .badProgramHeaderSize(Int(stride)))
        }
        try file.range(at: table, count: UInt64(count) * stride)
        var segments: [Segment] = []
        for index in 0..<UInt64(count) {
            // The whole table is in the file, so these sums do not overflow.
            let base = table + index * stride
            let type = try file.load(UInt32.self, at: base)
            segments.append(
                Segment(
                    type: type, offset: try word(base + (wide ? 8 : 4)),
                    fileSize: try word(base + (wide ? 32 : 16)),
                    virtualAddress: try word(base + (wide ? 16 : 8)),
                    physicalAddress: try word(base + (wide ? 24 : 12)),
                    memorySize: try word(base + (wide ? 40 : 20))))
        }
        self.segments = segments
    }

    /// Copies the segments to their physical addresses and clears what follows each.
    func load(_ file: ImageFile, _ placement: inout Placement) throws(BootError) {
        let loadable = loadable
        guard !loadable.isEmpty else { throw .badImage(path: file.path, .noSegments) }
        for segment in loadable {
            guard segment.fileSize <= segment.memorySize else {
                throw .badImage(path: file.path, .segmentExceedsMemory(segment.physicalAddress))
            }
            let range = try file.range(at: segment.offset, count: segment.fileSize)
            try placement.claim(segment.physicalAddress, size: segment.memorySize)
            try placement.write(file.bytes, range, at: segment.physicalAddress)
            try placement.clear(
                segment.physicalAddress + segment.fileSize,
                count: segment.memorySize - segment.fileSize)
        }
    }

    /// The physical address of the entry point.
    ///
    /// As boot loaders do, an entry inside a segment's virtual addresses moves with the segment;
    /// any other is taken as physical already and must lie in a segment.
    func physicalEntry(path: String) throws(BootError) -> UInt64 {
        for segment in loadable where entry &- segment.virtualAddress < segment.memorySize {
            return try checkEntry(
                entry &- segment.virtualAddress &+ segment.physicalAddress, path: path)
        }
        return try checkEntry(entry, path: path)
    }

    /// Throws unless a physical entry point lies in a segment and below 4 GiB.
    func checkEntry(_ address: UInt64, path: String) throws(BootError) -> UInt64 {
        let inside = loadable.contains { address &- $0.physicalAddress < $0.memorySize }
        guard inside, address <= UInt64(UInt32.max) else {
            throw .badImage(path: path, .entryOutside(address))
        }
        return address
    }
}
