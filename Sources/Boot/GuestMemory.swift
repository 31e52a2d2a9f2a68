import X86

/// Guest RAM as the loader sees it. The board implements it.
public protocol GuestMemory: AnyObject {
    /// Copies bytes to guest-physical memory. `0xe0000..<0x100000` must take them as RAM does.
    /// - Returns: false, and nothing written, unless memory answers at all of them.
    func write(_ bytes: Span<UInt8>, at address: GuestPhysicalAddress) -> Bool
}

/// A piece of the guest-physical memory map, as firmware reports it.
package struct MemoryRegion: Equatable {
    /// What a region is; the raw value is the type in an e820, Multiboot or PVH map.
    package enum Kind: UInt32 {
        case usable = 1
        case reserved = 2
    }

    package var start: UInt64
    package var size: UInt64
    package var kind: Kind

    package init(start: UInt64, size: UInt64, kind: Kind) {
        self.start = start
        self.size = size
        self.kind = kind
    }

    /// The map of a machine with `memoryBytes` of RAM, in ascending order.
    ///
    /// - Source: ACPI 6.4 §15, "System Address Map Interfaces".
    package static func map(memoryBytes: UInt64) -> [MemoryRegion] {
        let lowTop = Layout.lowTop(memoryBytes: memoryBytes)
        let highBytes = (memoryBytes & ~(pageSize - 1)) &- lowTop
        var regions = [
            MemoryRegion(start: 0, size: Layout.extendedBIOSData, kind: .usable),
            MemoryRegion(
                start: Layout.extendedBIOSData,
                size: Layout.legacyHole - Layout.extendedBIOSData, kind: .reserved),
            MemoryRegion(start: Layout.acpiTables, size: Layout.acpiBytes, kind: .reserved),
        ]
        if lowTop > Layout.extendedMemory {
            let size = lowTop - Layout.extendedMemory
            regions.append(
                MemoryRegion(start: Layout.extendedMemory, size: size, kind: .usable))
        }
        if highBytes > 0 {
            regions.append(MemoryRegion(start: Layout.highStart, size: highBytes, kind: .usable))
        }
        return regions
    }
}
