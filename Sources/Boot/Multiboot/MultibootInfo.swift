/// The information structure that a Multiboot kernel receives, with all that it points to.
///
/// ```
/// startInfo + 0    the structure, 120 bytes
///           + 120  memory map, 24 bytes an entry (its size field counts 20)
///           + ...  module list, 16 bytes a module
///           + ...  strings, each ended by a NUL: the loader's name, then the modules' strings
/// ```
/// - Source: Multiboot Specification 0.6.96 §3.3.
struct MultibootInfo {
    /// A loaded module, `start..<end`, with its string.
    struct Module {
        var start: UInt64
        var end: UInt64
        var string: String
    }

    /// Guest RAM in bytes.
    var memoryBytes: UInt64
    /// The modules in the order asked for.
    var modules: [Module] = []

    init(memoryBytes: UInt64) { self.memoryBytes = memoryBytes }

    /// The size of the structure itself, in bytes.
    private static let size = 120
    /// Bits of `flags`: which fields are valid.
    private static let memory: UInt32 = 1 << 0
    private static let commandLine: UInt32 = 1 << 2
    private static let moduleList: UInt32 = 1 << 3
    private static let memoryMap: UInt32 = 1 << 6
    private static let loaderName: UInt32 = 1 << 9

    /// The bytes that belong at `Layout.startInfo`.
    func encode() throws(BootError) -> [UInt8] {
        let map = MemoryRegion.map(memoryBytes: memoryBytes)
        let mapOffset = Self.size
        let listOffset = mapOffset + 24 * map.count
        let stringsOffset = listOffset + 16 * modules.count
        let base = UInt32(Layout.startInfo)
        func address(_ offset: Int) -> UInt32 { base &+ UInt32(truncatingIfNeeded: offset) }

        var strings = Array("Penumbra".utf8) + [0]
        var list: [UInt8] = []
        for module in modules {
            list.append(littleEndian: UInt32(truncatingIfNeeded: module.start))
            list.append(littleEndian: UInt32(truncatingIfNeeded: module.end))
            list.append(littleEndian: address(stringsOffset + strings.count))
            list.append(littleEndian: UInt32(0))
            strings += Array(module.string.utf8) + [0]
        }
        var info = [UInt8](repeating: 0, count: Self.size)
        let flags =
            Self.memory | Self.commandLine | Self.moduleList | Self.memoryMap | Self.loaderName
        info.put(flags, at: 0)
        // KiB from 0, and KiB from 1 MiB to the first hole above it.
        info.put(UInt32(Layout.extendedBIOSData >> 10), at: 4)
        let upper = Layout.lowTop(memoryBytes: memoryBytes) - Layout.extendedMemory
        info.put(UInt32(upper >> 10), at: 8)
        info.put(UInt32(Layout.commandLine), at: 16)
        info.put(UInt32(modules.count), at: 20)
        info.put(address(listOffset), at: 24)
        info.put(UInt32(24 * map.count), at: 44)
        info.put(address(mapOffset), at: 48)
        info.put(address(stringsOffset), at: 64)
        for region in map {
            info.append(littleEndian: UInt32(20))
            info.append(littleEndian: region.start)
            info.append(littleEndian: region.size)
            info.append(littleEndian: region.kind.rawValue)
        }
        info += list + strings
        guard info.count <= Int(Layout.startInfoBytes) else {
            throw .tooManyModules(bytes: info.count, limit: Int(Layout.startInfoBytes))
        }
        return info
    }
}
