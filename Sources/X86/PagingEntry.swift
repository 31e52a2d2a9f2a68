/// An entry of a paging structure, guest's or shadow's (SDM Vol. 3A §4.5.4, Tables 4-15 to 4-20).
///
/// ```
///  63 62   59 58   54 53 52 51             12 11  9  8   7   6   5   4   3   2   1   0
/// ┌──┬───────┬───────┬──┬──┬─────────────────┬─────┬───┬───┬───┬───┬───┬───┬───┬───┬───┐
/// │XD│ (PK)  │ ign.  │S │T │     address     │ ign.│ G │PS │ D │ A │PCD│PWT│U/S│R/W│ P │
/// └──┴───────┴───────┴──┴──┴─────────────────┴─────┴───┴───┴───┴───┴───┴───┴───┴───┴───┘
/// ```
/// T and S are Penumbra's. They lie in bits that the processor otherwise ignores, and mean something
/// only in the hypervisor's entries: T, the traced-write indication, in leaves; S, by which a walk
/// switches to the guest's own tables, in entries that name a table, where there is a second
/// dimension.
@frozen public struct PagingEntry: Hashable, Sendable {
    public var rawValue: UInt64
    @inlinable @inline(__always) public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    public static let presentBit: UInt64 = 1 << 0
    public static let writableBit: UInt64 = 1 << 1
    public static let userBit: UInt64 = 1 << 2
    public static let writeThroughBit: UInt64 = 1 << 3
    public static let cacheDisableBit: UInt64 = 1 << 4
    public static let accessedBit: UInt64 = 1 << 5
    public static let dirtyBit: UInt64 = 1 << 6
    public static let largeBit: UInt64 = 1 << 7
    public static let globalBit: UInt64 = 1 << 8
    public static let tracedBit: UInt64 = 1 << 52
    public static let switchBit: UInt64 = 1 << 53
    public static let executeDisableBit: UInt64 = 1 << 63
    /// Bits 62…59 of a leaf: the protection key, in 4- and 5-level paging (SDM Vol. 3A §4.6.2).
    public static let keyMask: UInt64 = 0xf << keyShift
    public static let keyShift: UInt64 = 59
    /// Bits 51…12, where the address of a table or a 4 KiB page stands.
    public static let addressMask: UInt64 = 0x000f_ffff_ffff_f000

    @inlinable @inline(__always)
    func has(_ bit: UInt64) -> Bool { rawValue & bit != 0 }

    /// P.
    @inlinable @inline(__always) public var isPresent: Bool { has(Self.presentBit) }
    /// R/W.
    @inlinable @inline(__always) public var isWritable: Bool { has(Self.writableBit) }
    /// U/S.
    @inlinable @inline(__always) public var isUser: Bool { has(Self.userBit) }
    /// A.
    @inlinable @inline(__always) public var isAccessed: Bool { has(Self.accessedBit) }
    /// D; meaningful in leaves.
    @inlinable @inline(__always) public var isDirty: Bool { has(Self.dirtyBit) }
    /// PS; meaningful at levels 2 and 3.
    @inlinable @inline(__always) public var isLarge: Bool { has(Self.largeBit) }
    /// G; meaningful in leaves.
    @inlinable @inline(__always) public var isGlobal: Bool { has(Self.globalBit) }
    /// T, the traced-write indication; meaningful in shadow leaves.
    @inlinable @inline(__always) public var isTraced: Bool { has(Self.tracedBit) }
    /// S, the switch to the guest's tables; meaningful in shadow entries that name a table.
    @inlinable @inline(__always) public var isSwitch: Bool { has(Self.switchBit) }
    /// XD.
    @inlinable @inline(__always) public var isExecuteDisabled: Bool { has(Self.executeDisableBit) }

    /// The protection key, 0…15; meaningful in leaves.
    @inlinable @inline(__always)
    public var key: UInt8 { UInt8(truncatingIfNeeded: rawValue >> Self.keyShift) & 15 }

    /// The raw address field, bits 51…12, as a table's or a 4 KiB page's base.
    @inlinable @inline(__always) public var addressField: UInt64 { rawValue & Self.addressMask }

    /// The base of the page that a leaf at `level` maps; bits below the page's size are dropped.
    @inlinable @inline(__always)
    public func leafBase(at level: PageLevel) -> UInt64 {
        rawValue & Self.addressMask & ~(level.entrySpan - 1)
    }

    /// Whether a present entry at `level` maps a page rather than naming a table.
    @inlinable @inline(__always)
    public func isLeaf(at level: PageLevel) -> Bool {
        level == .table || (isLarge && level <= .directoryPointer)
    }

    /// The bits of a present entry that must be zero at `level` in 4-level paging.
    ///
    /// - Parameters:
    ///   - physicalAddressBits: MAXPHYADDR, in bits.
    ///   - executeDisable: EFER.NXE; where clear, bit 63 is reserved.
    ///   - gigabytePages: CPUID.80000001H:EDX.Page1GB; where false, PS of a level-3 entry is reserved.
    /// - Source: SDM Vol. 3A §4.5.4 and the footnotes of Tables 4-15 to 4-20.
    @inlinable @inline(__always)
    public func reservedBits(
        at level: PageLevel, physicalAddressBits: UInt64, executeDisable: Bool, gigabytePages: Bool
    ) -> UInt64 {
        var reserved = Self.addressMask & ~((1 << physicalAddressBits) - 1)
        if !executeDisable { reserved |= Self.executeDisableBit }
        switch level {
        case .table: break
        case .pml4, .pml5: reserved |= Self.largeBit
        case .directory, .directoryPointer:
            if isLarge {
                if level == .directoryPointer && !gigabytePages { reserved |= Self.largeBit }
                // Bit 12 of a large leaf is PAT; the bits from 13 up to the page's size are reserved.
                reserved |= (level.entrySpan - 1) & ~0x1fff
            }
        }
        return rawValue & reserved
    }
}

/// The error code of a page fault (SDM Vol. 3A §4.7, Figure 4-12).
@frozen public struct PageFaultError: OptionSet, Hashable, Sendable {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// P: the fault was a protection violation, not a missing translation.
    @inlinable public static var present: PageFaultError { PageFaultError(rawValue: 1 << 0) }
    /// W/R.
    @inlinable public static var write: PageFaultError { PageFaultError(rawValue: 1 << 1) }
    /// U/S: the access was a user-mode access.
    @inlinable public static var user: PageFaultError { PageFaultError(rawValue: 1 << 2) }
    /// RSVD: a reserved bit was set in an entry that the walk used.
    @inlinable public static var reserved: PageFaultError { PageFaultError(rawValue: 1 << 3) }
    /// I/D: the access was an instruction fetch (set only where NX or SMEP is in use).
    @inlinable public static var fetch: PageFaultError { PageFaultError(rawValue: 1 << 4) }
    /// PK: the page's protection key denies the access.
    @inlinable public static var protectionKey: PageFaultError { PageFaultError(rawValue: 1 << 5) }
}

/// PKRU: what the protection keys of user pages deny to data accesses (SDM Vol. 3A §4.6.2).
@frozen public struct KeyRights: Equatable, Sendable {
    /// For key i, bit 2i denies all accesses (AD), bit 2i + 1 writes (WD).
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Whether a key denies an access to a page that is a user page at all levels. Fetches are never
    /// denied; WD counts for the supervisor with CR0.WP alone. Only with CR4.PKE, in IA-32e mode.
    @inlinable @inline(__always)
    public func denies(_ access: AccessKind, key: UInt8, writeProtect: Bool) -> Bool {
        let bits = rawValue >> (UInt32(key & 15) &* 2)
        if bits & 3 == 0 || access.contains(.fetch) { return false }
        return bits & 1 != 0
            || access.contains(.write) && (access.contains(.user) || writeProtect)
    }
}

/// What an access needs of a translation.
@frozen public struct AccessKind: OptionSet, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable @inline(__always) public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The access writes (a read-modify-write counts as a write from its start).
    @inlinable public static var write: AccessKind { AccessKind(rawValue: 1) }
    /// The access fetches an instruction.
    @inlinable public static var fetch: AccessKind { AccessKind(rawValue: 2) }
    /// The access is made with user rights (CPL 3, and not an implicit supervisor access).
    @inlinable public static var user: AccessKind { AccessKind(rawValue: 4) }
    /// The access is an implicit supervisor access (descriptor tables, TSS): SMAP ignores AC.
    @inlinable public static var implicit: AccessKind { AccessKind(rawValue: 8) }
}
