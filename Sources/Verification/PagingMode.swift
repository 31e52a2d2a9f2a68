import Processor
import X86

/// The forms of paging structures (SDM Vol. 3A §4.1.1).
enum PagingForm: UInt8 {
    case twoLevel, pae, fourLevel, fiveLevel

    /// The level of the table that the root names. PAE's pointer registers are not a table.
    var topLevel: Int {
        switch self {
        case .twoLevel, .pae: 2
        case .fourLevel: 4
        case .fiveLevel: 5
        }
    }

    var entryBytes: UInt64 { self == .twoLevel ? 4 : 8 }

    /// How far right an address is shifted to bring the index at `level` to bit 0; what one entry
    /// maps is 2 to the power of it.
    func shift(_ level: Int) -> UInt64 {
        self == .twoLevel ? (level == 1 ? 12 : 22) : 3 &+ 9 &* UInt64(level)
    }

    /// The index of an address in a table at `level`.
    func index(_ address: UInt64, _ level: Int) -> UInt64 {
        address >> shift(level) & (self == .twoLevel ? 1023 : 511)
    }
}

/// What of a processor's state decides what entries mean.
struct PagingMode: Equatable {
    var form: PagingForm
    /// EFER.NXE; where clear, bit 63 is reserved.
    var executeDisable: Bool
    /// CR4.PSE; only 2-level paging asks.
    var pageSizeExtensions: Bool
    /// CR4.PGE.
    var globalPages: Bool
    /// MAXPHYADDR.
    var addressBits: UInt64
    /// CPUID.80000001H:EDX.Page1GB.
    var gigabytePages: Bool

    /// nil where CR0.PG is clear.
    init?(_ registers: Registers) {
        guard registers.cr0 & CR0.paging != 0 else { return nil }
        if registers.cr4 & CR4.physicalAddressExtension == 0 {
            form = .twoLevel
        } else if registers.efer & EFER.longModeActive == 0 {
            form = .pae
        } else {
            form = registers.cr4 & CR4.fiveLevelPaging != 0 ? .fiveLevel : .fourLevel
        }
        executeDisable = registers.efer & EFER.executeDisableEnable != 0
        pageSizeExtensions = registers.cr4 & CR4.pageSizeExtensions != 0
        globalPages = registers.cr4 & CR4.pageGlobalEnable != 0
        // Without PSE-36 a 4-byte entry has no address bits beyond its own.
        addressBits =
            form == .twoLevel && !registers.hasWideLargePages
            ? min(registers.addressBits, 32) : registers.addressBits
        gigabytePages = registers.gigabytePages
    }

    /// Bits of an address that an 8-byte entry may hold.
    var addressMask: UInt64 { ((1 << addressBits) &- 1) & ~0xfff }
}

/// Where walks begin.
enum Root: Hashable {
    /// The table that CR3 names, at the form's top level.
    case table(UInt64)
    /// The four pointer registers of PAE paging. They are loaded by operations, never by a walk,
    /// and grant all rights.
    case pointers(SIMD4<UInt64>)

    init(_ registers: Registers, _ mode: PagingMode) {
        switch mode.form {
        case .twoLevel: self = .table(registers.cr3 & 0xffff_f000)
        case .pae: self = .pointers(registers.pointers)
        case .fourLevel, .fiveLevel: self = .table(registers.cr3 & mode.addressMask)
        }
    }

    /// The first table of a walk for an address; nil where a pointer is not present.
    func table(_ address: UInt64, _ mode: PagingMode) -> UInt64? {
        switch self {
        case .table(let base): return base
        case .pointers(let pointers):
            let pointer = pointers[Int(address >> 30) & 3]
            return pointer & 1 != 0 ? pointer & mode.addressMask : nil
        }
    }

    /// The guest-physical addresses of all first tables.
    func tables(_ mode: PagingMode) -> [UInt64] {
        switch self {
        case .table(let base): [base]
        case .pointers: (0..<4 as Range<UInt64>).compactMap { table($0 << 30, mode) }
        }
    }
}

/// A processor's registers that bear on translation, at one moment.
struct Registers: Equatable {
    var cr0: UInt64
    var cr3: UInt64
    var cr4: UInt64
    var efer: UInt64
    /// The pointer registers of PAE paging.
    var pointers: SIMD4<UInt64>
    /// EFLAGS.AC.
    var alignmentCheck: Bool
    /// PKRU.
    var keyRights: UInt32
    var addressBits: UInt64
    var gigabytePages: Bool
    /// CPUID.01H:EDX.PSE-36: 4 MiB pages have addresses beyond 32 bits.
    var hasWideLargePages: Bool

    init(_ processor: Processor) {
        cr0 = processor.cr0
        cr3 = processor.cr3
        cr4 = processor.cr4
        efer = processor.efer
        pointers = processor.pointers
        alignmentCheck = processor.alignmentCheckFlag
        keyRights = processor.keyRights.rawValue
        addressBits = min(processor.model.physicalAddressBits, 52)
        hasWideLargePages = processor.model.has(.pse36)
        gigabytePages = processor.model.hasGigabytePages
    }

    /// Whether protection keys count: CR4.PKE in IA-32e mode.
    var hasKeys: Bool { cr4 & CR4.protectionKeyEnable != 0 && efer & EFER.longModeActive != 0 }

    /// The PCID; 0 without CR4.PCIDE.
    var pcid: UInt16 {
        cr4 & CR4.pcidEnable != 0 ? UInt16(truncatingIfNeeded: cr3 & CR3.pcidMask) : 0
    }
}

/// An entry of a paging structure, read by the rules of one mode and level (SDM Vol. 3A §4.3 to
/// §4.5). The bit numbers are written out here, since nothing may be shared with what is judged.
struct Entry {
    let raw: UInt64
    let level: Int
    let mode: PagingMode

    private func bit(_ number: UInt64) -> Bool { raw >> number & 1 != 0 }

    var isPresent: Bool { bit(0) }
    var isWritable: Bool { bit(1) }
    var isUser: Bool { bit(2) }
    var isAccessed: Bool { bit(5) }
    var isDirty: Bool { bit(6) }
    /// G, where it counts.
    var isGlobal: Bool { bit(8) && mode.globalPages }
    var isExecuteDisabled: Bool { mode.form != .twoLevel && bit(63) }

    /// The protection key; the 32-bit forms have none.
    var key: UInt8 {
        mode.form == .fourLevel || mode.form == .fiveLevel
            ? UInt8(truncatingIfNeeded: raw >> 59) & 15 : 0
    }

    /// Whether it maps a page rather than naming a table.
    var isLeaf: Bool {
        switch level {
        case 1: true
        case 2: bit(7) && (mode.form != .twoLevel || mode.pageSizeExtensions)
        case 3: bit(7)
        default: false
        }
    }

    /// The base of the page or table.
    var address: UInt64 {
        if mode.form == .twoLevel {
            guard isLeaf, level == 2 else { return raw & 0xffff_f000 }
            return raw & 0xffc0_0000 | (raw >> 13 & 0xff) << 32
        }
        let size: UInt64 = isLeaf ? 1 << mode.form.shift(level) : 4096
        return raw & mode.addressMask & ~(size &- 1)
    }

    /// Whether a bit is set that the mode reserves.
    var hasReservedBits: Bool {
        if mode.form == .twoLevel {
            guard isLeaf, level == 2 else { return false }
            let above: UInt64 =
                mode.addressBits >= 40 ? 0 : (0xff << (mode.addressBits &- 32)) & 0xff
            return bit(21) || raw >> 13 & above != 0
        }
        var reserved: UInt64 = 0x000f_ffff_ffff_f000 & ~((1 << mode.addressBits) &- 1)
        if !mode.executeDisable { reserved |= 1 << 63 }
        if mode.form == .pae { reserved |= 0x7ff << 52 }
        if level >= 4 { reserved |= 1 << 7 }
        if level == 3 && !mode.gigabytePages { reserved |= 1 << 7 }
        if isLeaf && level == 3 { reserved |= 0x3fff_e000 }
        if isLeaf && level == 2 { reserved |= 0x1f_e000 }
        return raw & reserved != 0
    }
}
