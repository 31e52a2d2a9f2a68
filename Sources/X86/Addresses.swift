/// The kinds of address, kept apart by type.
///
/// A guest virtual address becomes a guest physical address through the guest's page tables, and
/// a guest physical address becomes a machine address through the hypervisor's slots. No
/// conversion between the kinds is implicit.

/// 4 KiB: the size of a frame and of the smallest page.
public let pageSize: UInt64 = 4096

/// What all address kinds share: a raw 64-bit value and its arithmetic with pages.
public protocol Address: Hashable, Sendable, Comparable, CustomStringConvertible {
    var rawValue: UInt64 { get }
    init(_ rawValue: UInt64)
}

extension Address {
    /// The address of the first byte of the 4 KiB page that holds this address.
    @inlinable @inline(__always)
    public var pageBase: Self { Self(rawValue & ~(pageSize - 1)) }

    /// The distance in bytes from the start of the 4 KiB page, in `0..<4096`.
    @inlinable @inline(__always)
    public var pageOffset: UInt64 { rawValue & (pageSize - 1) }

    /// The number of the 4 KiB page that holds this address.
    @inlinable @inline(__always)
    public var pageNumber: UInt64 { rawValue >> 12 }

    /// The address `offset` bytes further, modulo 2^64 as address arithmetic is.
    @inlinable @inline(__always)
    public static func + (base: Self, offset: UInt64) -> Self { Self(base.rawValue &+ offset) }

    @inlinable @inline(__always)
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }

    public var description: String { "0x" + String(rawValue, radix: 16) }
}

/// An address that guest code uses, after segmentation ("linear" in the manual).
@frozen public struct GuestVirtualAddress: Address {
    public var rawValue: UInt64
    @inlinable @inline(__always) public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// The index into the table at `level`, in `0..<512` of 8-byte entries (SDM Vol. 3A
    /// §4.5.4).
    @inlinable @inline(__always)
    public func index(at level: PageLevel) -> Int {
        Int(truncatingIfNeeded: rawValue >> level.shift) & 511
    }
}

/// An address that the guest's page tables name and its devices answer to.
@frozen public struct GuestPhysicalAddress: Address {
    public var rawValue: UInt64
    @inlinable @inline(__always) public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    /// The 4 KiB guest frame that holds this address.
    @inlinable @inline(__always) public var frame: GuestFrame { GuestFrame(rawValue >> 12) }
}

/// An address in the modelled machine's memory.
@frozen public struct MachineAddress: Address {
    public var rawValue: UInt64
    @inlinable @inline(__always) public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    /// The 4 KiB machine frame that holds this address.
    @inlinable @inline(__always) public var frame: MachineFrame { MachineFrame(rawValue >> 12) }
}

/// The number of a 4 KiB frame of guest-physical memory.
@frozen public struct GuestFrame: Hashable, Sendable {
    public var number: UInt64
    @inlinable @inline(__always) public init(_ number: UInt64) { self.number = number }
    /// The address of the frame's first byte.
    @inlinable @inline(__always)
    public var base: GuestPhysicalAddress { GuestPhysicalAddress(number << 12) }
}

/// The number of a 4 KiB frame of machine memory.
@frozen public struct MachineFrame: Hashable, Sendable {
    public var number: UInt64
    @inlinable @inline(__always) public init(_ number: UInt64) { self.number = number }
    /// The address of the frame's first byte.
    @inlinable @inline(__always)
    public var base: MachineAddress { MachineAddress(number << 12) }
}

/// A level of the paging hierarchy: 1 is the page table, 4 the PML4 table, 5 the PML5 table.
@frozen public enum PageLevel: UInt8, CaseIterable, Comparable, Sendable {
    case table = 1
    case directory = 2
    case directoryPointer = 3
    case pml4 = 4
    case pml5 = 5

    /// How far right an address is shifted to bring this level's index to bit 0.
    @inlinable @inline(__always) public var shift: UInt64 { 3 + 9 * UInt64(rawValue) }
    /// The bytes that one entry at this level maps: 4 KiB, 2 MiB, 1 GiB, 512 GiB,
    /// 256 TiB. 8-byte entries; for 4-byte ones see `PagingForm`.
    @inlinable @inline(__always) public var entrySpan: UInt64 { 1 << shift }
    /// The level that an entry of this level points to, or nil at the page table.
    @inlinable @inline(__always) public var below: PageLevel? { PageLevel(rawValue: rawValue - 1) }

    @inlinable @inline(__always)
    public static func < (a: PageLevel, b: PageLevel) -> Bool { a.rawValue < b.rawValue }
}
