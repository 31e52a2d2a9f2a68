/// What CPUID returns.
@frozen public struct CPUIDResult: Equatable, Sendable {
    public var eax: UInt32 = 0
    public var ebx: UInt32 = 0
    public var ecx: UInt32 = 0
    public var edx: UInt32 = 0
    public init(eax: UInt32 = 0, ebx: UInt32 = 0, ecx: UInt32 = 0, edx: UInt32 = 0) {
        self.eax = eax
        self.ebx = ebx
        self.ecx = ecx
        self.edx = edx
    }
}

/// The state of the asking processor on which CPUID depends.
public struct CPUIDContext: Sendable {
    /// The x2APIC ID.
    public var apicID: UInt32
    /// CR4, for OSXSAVE and OSPKE.
    public var cr4: UInt64
    /// XCR0, for the size of the XSAVE area.
    public var xcr0: UInt64
    /// Whether IA32_APIC_BASE enables the local APIC.
    public var isAPICEnabled: Bool
    public init(apicID: UInt32, cr4: UInt64, isAPICEnabled: Bool, xcr0: UInt64 = 1) {
        self.apicID = apicID
        self.cr4 = cr4
        self.xcr0 = xcr0
        self.isAPICEnabled = isAPICEnabled
    }
}

extension ProcessorModel {
    /// The time-stamp counter's frequency in hertz: 25 MHz crystal × 40.
    public static let timeStampFrequency: UInt64 = 1_000_000_000
    /// The crystal's frequency in hertz, which also feeds the local APIC's timer
    /// (SDM Vol. 3A §10.5.4).
    public static let crystalFrequency: UInt64 = 25_000_000

    private static let maximumBasicLeaf: UInt32 = 0x16
    private static let maximumExtendedLeaf: UInt32 = 0x8000_0008

    /// The registers that CPUID returns (SDM Vol. 2A, CPUID). A leaf beyond the highest gives the
    /// data of the highest basic leaf, as Intel processors do.
    public func cpuid(leaf: UInt32, subleaf: UInt32, context: CPUIDContext) -> CPUIDResult {
        switch leaf {
        case 0x4000_0000...0x4000_00ff:
            return hypervisorLeaf(leaf)
        case 0x8000_0000...Self.maximumExtendedLeaf:
            return extendedLeaf(leaf)
        case 0...Self.maximumBasicLeaf:
            return basicLeaf(leaf, subleaf, context)
        default:
            return basicLeaf(Self.maximumBasicLeaf, subleaf, context)
        }
    }

    /// The leaves that processors leave to hypervisors: who it is, and the region marker.
    private func hypervisorLeaf(_ leaf: UInt32) -> CPUIDResult {
        switch leaf {
        case 0x4000_0000:
            vendor("PenumbraVMM\0", maximum: RegionMarker.leaf, order: .hypervisor)
        case RegionMarker.leaf: RegionMarker.result
        default: CPUIDResult()
        }
    }

    private func basicLeaf(
        _ leaf: UInt32, _ subleaf: UInt32, _ context: CPUIDContext
    ) -> CPUIDResult {
        switch leaf {
        case 0: return vendor("GenuineIntel", maximum: Self.maximumBasicLeaf, order: .processor)
        case 1: return versionLeaf(context)
        // One descriptor, 0xff: "use leaf 4".
        case 2: return CPUIDResult(eax: 0xff01)
        case 4: return cacheLeaf(subleaf)
        // Monitored lines of 64 bytes; MWAIT ends at interrupts even where IF masks them, and has
        // no deeper states than the one that does nothing.
        case 5 where has(.monitor): return CPUIDResult(eax: 64, ebx: 64, ecx: 3)
        case 6: return CPUIDResult(eax: word(.leaf6EAX))
        case 7 where subleaf == 0:
            var ecx = word(.leaf7ECX)
            if context.cr4 & CR4.protectionKeyEnable != 0 { ecx |= 1 << 4 }
            return CPUIDResult(ebx: word(.leaf7EBX), ecx: ecx, edx: word(.leaf7EDX))
        case 0xb: return topologyLeaf(subleaf, context)
        case 0xd: return stateLeaf(subleaf, context)
        case 0x15:
            return CPUIDResult(
                eax: 1, ebx: UInt32(Self.timeStampFrequency / Self.crystalFrequency),
                ecx: UInt32(Self.crystalFrequency))
        case 0x16:
            let megahertz = UInt32(Self.timeStampFrequency / 1_000_000)
            return CPUIDResult(eax: megahertz, ebx: megahertz, ecx: 100)
        default: return CPUIDResult()
        }
    }

    private func versionLeaf(_ context: CPUIDContext) -> CPUIDResult {
        // EBX: initial APIC ID, logical processors, CLFLUSH line in quadwords.
        let count = UInt32(clamping: max(processorCount, 1))
        var edx = word(.leaf1EDX)
        if !context.isAPICEnabled { edx &= ~(1 << 9) }
        if count > 1 { edx |= 1 << 28 }
        var ecx = word(.leaf1ECX)
        if context.cr4 & CR4.osXSAVE != 0 { ecx |= 1 << 27 }
        return CPUIDResult(
            eax: signature, ebx: (context.apicID & 0xff) << 24 | min(count, 255) << 16 | 8 << 8,
            ecx: ecx, edx: edx)
    }

    /// Leaf 4: 32 KiB of data and of code, 1 MiB at level 2, 16 MiB shared at level 3.
    private func cacheLeaf(_ subleaf: UInt32) -> CPUIDResult {
        // (type, level, ways, sets): line size 64 bytes, one partition.
        let shape: (type: UInt32, level: UInt32, ways: UInt32, sets: UInt32)
        switch subleaf {
        case 0: shape = (1, 1, 8, 64)
        case 1: shape = (2, 1, 8, 64)
        case 2: shape = (3, 2, 16, 1024)
        case 3: shape = (3, 3, 16, 16384)
        default: return CPUIDResult()
        }
        let ids = UInt32(1) << coreShift
        let sharing = shape.level == 3 ? min(ids, 4096) - 1 : 0
        return CPUIDResult(
            eax: shape.type | shape.level << 5 | 1 << 8 | sharing << 14
                | (min(ids, 64) - 1) << 26,
            ebx: 63 | (shape.ways - 1) << 22, ecx: shape.sets - 1)
    }

    /// How many bits of the x2APIC ID number the cores of the package.
    private var coreShift: UInt32 {
        let count = UInt32(clamping: max(processorCount, 1))
        return min(UInt32(32 - (count - 1).leadingZeroBitCount), 16)
    }

    /// Leaf 0xb: one thread a core, all cores in one package.
    private func topologyLeaf(_ subleaf: UInt32, _ context: CPUIDContext) -> CPUIDResult {
        switch subleaf {
        case 0: CPUIDResult(eax: 0, ebx: 1, ecx: 1 << 8, edx: context.apicID)
        case 1:
            CPUIDResult(
                eax: coreShift, ebx: UInt32(clamping: max(processorCount, 1)), ecx: 2 << 8 | 1,
                edx: context.apicID)
        default: CPUIDResult(ecx: subleaf & 0xff, edx: context.apicID)
        }
    }

    /// Leaf 0xd: the components of XSAVE, and the sizes that they come to.
    private func stateLeaf(_ subleaf: UInt32, _ context: CPUIDContext) -> CPUIDResult {
        guard has(.xsave) else { return CPUIDResult() }
        let all = extendedStateComponents
        switch subleaf {
        case 0:
            return CPUIDResult(
                eax: UInt32(truncatingIfNeeded: all), ebx: ExtendedState.size(of: context.xcr0),
                ecx: ExtendedState.size(of: all), edx: UInt32(truncatingIfNeeded: all >> 32))
        case 1:
            let isCompacting = has(.xsavec) || has(.xsaves)
            return CPUIDResult(
                eax: word(.leafDEAX),
                ebx: isCompacting ? ExtendedState.compactedSize(of: context.xcr0) : 0)
        case 2 where has(.avx):
            return CPUIDResult(eax: ExtendedState.avxBytes, ebx: ExtendedState.leastBytes)
        case 9 where has(.pku):
            return CPUIDResult(
                eax: ExtendedState.keyRightsBytes, ebx: ExtendedState.keyRightsOffset)
        default: return CPUIDResult()
        }
    }

    /// The components of XSAVE that XCR0 can enable.
    public var extendedStateComponents: UInt64 {
        ExtendedState.x87 | ExtendedState.sse | (has(.avx) ? ExtendedState.avx : 0)
            | (has(.pku) ? ExtendedState.keyRights : 0)
    }

    private func extendedLeaf(_ leaf: UInt32) -> CPUIDResult {
        switch leaf {
        case 0x8000_0000: CPUIDResult(eax: Self.maximumExtendedLeaf)
        case 0x8000_0001: CPUIDResult(ecx: word(.extended1ECX), edx: word(.extended1EDX))
        case 0x8000_0002...0x8000_0004: brand(Int(leaf - 0x8000_0002))
        // Level 2: 1 MiB, 16 ways, 64-byte lines.
        case 0x8000_0006: CPUIDResult(ecx: 1024 << 16 | 8 << 12 | 64)
        case 0x8000_0007: CPUIDResult(edx: word(.extended7EDX))
        case 0x8000_0008:
            CPUIDResult(eax: UInt32(physicalAddressBits) | (has(.la57) ? 57 : 48) << 8)
        default: CPUIDResult()
        }
    }

    /// The feature bits in one register.
    private func word(_ word: Word) -> UInt32 {
        var value: UInt32 = 0
        for feature in Feature.allCases where has(feature) {
            let location = feature.location
            if location.word == word { value |= 1 << location.bit }
        }
        return value
    }

    private enum VendorOrder { case processor, hypervisor }

    private func vendor(_ text: String, maximum: UInt32, order: VendorOrder) -> CPUIDResult {
        let first = Self.letters(text, 0)
        let second = Self.letters(text, 4)
        let third = Self.letters(text, 8)
        return order == .processor
            ? CPUIDResult(eax: maximum, ebx: first, ecx: third, edx: second)
            : CPUIDResult(eax: maximum, ebx: first, ecx: second, edx: third)
    }

    private func brand(_ part: Int) -> CPUIDResult {
        let text = has(.avx2) ? "Penumbra v3 processor" : "Penumbra v2 processor"
        return CPUIDResult(
            eax: Self.letters(text, part * 16), ebx: Self.letters(text, part * 16 + 4),
            ecx: Self.letters(text, part * 16 + 8), edx: Self.letters(text, part * 16 + 12))
    }

    /// Four letters from `offset` on, the first in the low byte; zeroes past the end.
    private static func letters(_ text: String, _ offset: Int) -> UInt32 {
        var value: UInt32 = 0
        for (index, byte) in text.utf8.dropFirst(offset).prefix(4).enumerated() {
            value |= UInt32(byte) << UInt32(index * 8)
        }
        return value
    }
}
