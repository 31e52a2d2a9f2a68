/// A form of guest page tables (SDM Vol. 3A §4.1.1, Table 4-1).
@frozen public enum PagingForm: UInt8, CaseIterable, Sendable {
    /// "32-bit paging": 4-byte entries, two levels, 4 KiB and (with CR4.PSE) 4 MiB pages.
    case twoLevel
    /// PAE paging: 8-byte entries, two levels below four pointer registers, 32-bit addresses.
    case pae
    /// 4-level paging: 48-bit addresses.
    case fourLevel
    /// 5-level paging: 57-bit addresses.
    case fiveLevel

    /// The form that the control registers select; nil without paging.
    @inlinable
    public init?(cr0: UInt64, cr4: UInt64, efer: UInt64) {
        guard cr0 & CR0.paging != 0 else { return nil }
        if cr4 & CR4.physicalAddressExtension == 0 {
            self = .twoLevel
        } else if efer & EFER.longModeActive == 0 {
            self = .pae
        } else {
            self = cr4 & CR4.fiveLevelPaging == 0 ? .fourLevel : .fiveLevel
        }
    }

    /// The level of the tables that CR3 names; of PAE, that of the four pointers, which are not
    /// read by walks but loaded into registers with CR3 (SDM Vol. 3A §4.4.1).
    @inlinable public var topLevel: PageLevel {
        switch self {
        case .twoLevel: .directory
        case .pae: .directoryPointer
        case .fourLevel: .pml4
        case .fiveLevel: .pml5
        }
    }

    /// The bytes of one entry.
    @inlinable public var entryBytes: UInt64 { self == .twoLevel ? 4 : 8 }

    /// How many entries a table at `level` has.
    @inlinable
    public func entryCount(at level: PageLevel) -> Int {
        switch self {
        case .twoLevel: 1024
        case .pae: level == .directoryPointer ? 4 : 512
        case .fourLevel, .fiveLevel: 512
        }
    }

    /// How far right an address is shifted to bring the index of a level to bit 0.
    @inlinable @inline(__always)
    public func shift(_ level: PageLevel) -> UInt64 {
        self == .twoLevel ? 2 + 10 * UInt64(level.rawValue) : level.shift
    }

    /// The bytes that one entry at a level maps.
    @inlinable @inline(__always)
    public func entrySpan(_ level: PageLevel) -> UInt64 { 1 << shift(level) }

    /// The index of an address into a table at `level`.
    @inlinable @inline(__always)
    public func index(_ address: GuestVirtualAddress, at level: PageLevel) -> Int {
        Int(truncatingIfNeeded: address.rawValue >> shift(level)) & (entryCount(at: level) - 1)
    }

    /// The bits of CR3 that hold the address of the first table, before MAXPHYADDR limits them.
    @inlinable public var rootMask: UInt64 {
        switch self {
        case .twoLevel: 0xffff_f000
        case .pae: 0xffff_ffe0
        case .fourLevel, .fiveLevel: PagingEntry.addressMask
        }
    }

    /// How many bits a linear address has: above, all must equal the highest of them in the 64-bit
    /// forms; the 32-bit forms translate the low 32 bits.
    @inlinable public var linearAddressBits: UInt64 {
        switch self {
        case .twoLevel, .pae: 32
        case .fourLevel: 48
        case .fiveLevel: 57
        }
    }
}

/// What entries of the guest's page tables mean in the present mode.
@frozen public struct PagingRules: Equatable, Sendable {
    public var form: PagingForm
    /// MAXPHYADDR, at most 52.
    public var physicalAddressBits: UInt64
    /// EFER.NXE: where clear, bit 63 of an 8-byte entry is reserved.
    public var executeDisable: Bool
    /// CPUID.80000001H:EDX.Page1GB: where false, PS of a level-3 entry is reserved.
    public var gigabytePages: Bool
    /// CR4.PSE: where clear, PS of a 4-byte directory entry is ignored.
    public var pageSizeExtensions: Bool

    @inlinable
    public init(
        form: PagingForm, physicalAddressBits: UInt64, executeDisable: Bool, gigabytePages: Bool,
        pageSizeExtensions: Bool
    ) {
        self.form = form
        self.physicalAddressBits = min(physicalAddressBits, 52)
        self.executeDisable = executeDisable
        self.gigabytePages = gigabytePages
        self.pageSizeExtensions = pageSizeExtensions
    }

    /// The bits of an address that an entry may hold.
    @inlinable @inline(__always)
    public var addressMask: UInt64 {
        PagingEntry.addressMask & ((1 << physicalAddressBits) &- 1)
    }

    /// Whether a present entry at `level` maps a page rather than naming a table.
    @inlinable @inline(__always)
    public func isLeaf(_ entry: PagingEntry, at level: PageLevel) -> Bool {
        switch level {
        case .table: true
        case .directory: entry.isLarge && (form != .twoLevel || pageSizeExtensions)
        // A pointer of PAE has no PS.
        case .directoryPointer: entry.isLarge && form != .pae
        case .pml4, .pml5: false
        }
    }

    /// The guest-physical base of the page that a leaf at `level` maps. In a 4-byte directory entry
    /// bits 20…13 are bits 39…32 of it ("PSE-36", SDM Vol. 3A Table 4-4).
    @inlinable @inline(__always)
    public func leafBase(_ entry: PagingEntry, at level: PageLevel) -> UInt64 {
        guard form == .twoLevel else { return entry.leafBase(at: level) & addressMask }
        let low = entry.rawValue & 0xffff_ffff
        if level == .table { return low & 0xffff_f000 }
        return (low & 0xffc0_0000 | (low & 0x1f_e000) << 19) & addressMask
    }

    /// The guest-physical base of the table that an entry names.
    @inlinable @inline(__always)
    public func tableBase(_ entry: PagingEntry) -> UInt64 {
        form == .twoLevel ? entry.rawValue & 0xffff_f000 : entry.rawValue & addressMask
    }

    /// The protection key of a leaf; 0 in the 32-bit forms, which have none.
    @inlinable @inline(__always)
    public func key(_ leaf: PagingEntry) -> UInt8 {
        form == .fourLevel || form == .fiveLevel ? leaf.key : 0
    }

    /// The bits of a present entry at `level` that must be zero and are not.
    ///
    /// - Source: SDM Vol. 3A Tables 4-4 to 4-6 (4-byte entries), 4-8 to 4-11 (PAE; a pointer's are
    ///   looked at when it is loaded), 4-14 to 4-20 (4- and 5-level).
    @inlinable @inline(__always)
    public func reservedBits(_ entry: PagingEntry, at level: PageLevel) -> UInt64 {
        let beyond = PagingEntry.addressMask & ~addressMask
        switch form {
        case .twoLevel:
            guard level == .directory && isLeaf(entry, at: level) else { return 0 }
            // Bit 21, and of bits 20…13 those whose address bits are beyond MAXPHYADDR.
            return entry.rawValue & (1 << 21 | (beyond >> 19) & 0x1f_e000)
        case .pae:
            if level == .directoryPointer {
                // P, PWT, PCD, the ignored bits 11…9 and the address exist.
                return entry.rawValue & (~PagingEntry.addressMask & ~0xfff | beyond | 0x1e6)
            }
            var reserved = beyond | 0x7ff << 52
            if !executeDisable { reserved |= PagingEntry.executeDisableBit }
            // Bit 12 of a large leaf is PAT.
            if isLeaf(entry, at: level) { reserved |= (level.entrySpan - 1) & ~0x1fff }
            return entry.rawValue & reserved
        case .fourLevel, .fiveLevel:
            var reserved = beyond
            if !executeDisable { reserved |= PagingEntry.executeDisableBit }
            switch level {
            case .table: break
            case .pml4, .pml5: reserved |= PagingEntry.largeBit
            case .directory, .directoryPointer:
                guard entry.isLarge else { break }
                if level == .directoryPointer && !gigabytePages {
                    reserved |= PagingEntry.largeBit
                }
                reserved |= (level.entrySpan - 1) & ~0x1fff
            }
            return entry.rawValue & reserved
        }
    }
}
