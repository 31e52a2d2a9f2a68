extension ProcessorModel {
    /// A feature that CPUID tells of, by the name that Linux gives it in `/proc/cpuinfo`.
    public enum Feature: String, CaseIterable, Sendable {
        // Leaf 1, EDX.
        case fpu, vme, de, pse, tsc, msr, pae, mce, cx8, apic, sep, mtrr, pge, mca, cmov, pat, pse36
        case clflush, mmx, fxsr, sse, sse2
        // Leaf 1, ECX.
        case sse3 = "pni"
        case monitor, ssse3, fma, cx16, pcid
        case sse41 = "sse4_1"
        case sse42 = "sse4_2"
        case x2apic, movbe, popcnt
        case tscDeadline = "tsc_deadline_timer"
        case xsave, avx, f16c, rdrand, hypervisor
        // Leaf 6, EAX.
        case arat
        // Leaf 7, EBX.
        case fsgsbase
        case tscAdjust = "tsc_adjust"
        case bmi1, avx2
        // FDP is recorded at unmasked exceptions alone; FCS and FDS are always zero.
        case dataPointerAtExceptions = "fdp_excptn_only"
        case zeroFCSAndFDS = "zero_fcs_fds"
        case smep, bmi2, erms, invpcid, rdseed, adx, smap, clflushopt, clwb
        // Leaf 7, ECX.
        case umip, pku, la57, rdpid
        // Leaf 7, EDX.
        case speculationControl = "spec_ctrl"
        case stibp
        case archCapabilities = "arch_capabilities"
        case ssbd
        // Leaf 0xd, subleaf 1, EAX.
        case xsaveopt, xsavec
        case xgetbv1, xsaves
        // Leaf 0x80000001, ECX and EDX.
        case lahf = "lahf_lm"
        case lzcnt = "abm"
        case prefetchw = "3dnowprefetch"
        case syscall, nx
        case gigabytePages = "pdpe1gb"
        case rdtscp
        case longMode = "lm"
        // Leaf 0x80000007, EDX.
        case invariantTSC = "nonstop_tsc"

        /// Where CPUID shows the feature (SDM Vol. 2A, CPUID, Tables 3-8 to 3-21).
        package var location: (word: Word, bit: UInt32) {
            switch self {
            case .fpu: (.leaf1EDX, 0)
            case .vme: (.leaf1EDX, 1)
            case .de: (.leaf1EDX, 2)
            case .pse: (.leaf1EDX, 3)
            case .tsc: (.leaf1EDX, 4)
            case .msr: (.leaf1EDX, 5)
            case .pae: (.leaf1EDX, 6)
            case .mce: (.leaf1EDX, 7)
            case .cx8: (.leaf1EDX, 8)
            case .apic: (.leaf1EDX, 9)
            case .sep: (.leaf1EDX, 11)
            case .mtrr: (.leaf1EDX, 12)
            case .pge: (.leaf1EDX, 13)
            case .mca: (.leaf1EDX, 14)
            case .cmov: (.leaf1EDX, 15)
            case .pat: (.leaf1EDX, 16)
            case .pse36: (.leaf1EDX, 17)
            case .clflush: (.leaf1EDX, 19)
            case .mmx: (.leaf1EDX, 23)
            case .fxsr: (.leaf1EDX, 24)
            case .sse: (.leaf1EDX, 25)
            case .sse2: (.leaf1EDX, 26)
            case .sse3: (.leaf1ECX, 0)
            case .monitor: (.leaf1ECX, 3)
            case .ssse3: (.leaf1ECX, 9)
            case .fma: (.leaf1ECX, 12)
            case .cx16: (.leaf1ECX, 13)
            case .pcid: (.leaf1ECX, 17)
            case .sse41: (.leaf1ECX, 19)
            case .sse42: (.leaf1ECX, 20)
            case .x2apic: (.leaf1ECX, 21)
            case .movbe: (.leaf1ECX, 22)
            case .popcnt: (.leaf1ECX, 23)
            case .tscDeadline: (.leaf1ECX, 24)
            case .xsave: (.leaf1ECX, 26)
            case .avx: (.leaf1ECX, 28)
            case .f16c: (.leaf1ECX, 29)
            case .rdrand: (.leaf1ECX, 30)
            case .hypervisor: (.leaf1ECX, 31)
            case .arat: (.leaf6EAX, 2)
            case .fsgsbase: (.leaf7EBX, 0)
            case .tscAdjust: (.leaf7EBX, 1)
            case .bmi1: (.leaf7EBX, 3)
            case .avx2: (.leaf7EBX, 5)
            case .dataPointerAtExceptions: (.leaf7EBX, 6)
            case .smep: (.leaf7EBX, 7)
            case .bmi2: (.leaf7EBX, 8)
            case .erms: (.leaf7EBX, 9)
            case .invpcid: (.leaf7EBX, 10)
            case .zeroFCSAndFDS: (.leaf7EBX, 13)
            case .rdseed: (.leaf7EBX, 18)
            case .adx: (.leaf7EBX, 19)
            case .smap: (.leaf7EBX, 20)
            case .clflushopt: (.leaf7EBX, 23)
            case .clwb: (.leaf7EBX, 24)
            case .umip: (.leaf7ECX, 2)
            case .pku: (.leaf7ECX, 3)
            case .la57: (.leaf7ECX, 16)
            case .rdpid: (.leaf7ECX, 22)
            case .speculationControl: (.leaf7EDX, 26)
            case .stibp: (.leaf7EDX, 27)
            case .archCapabilities: (.leaf7EDX, 29)
            case .ssbd: (.leaf7EDX, 31)
            case .xsaveopt: (.leafDEAX, 0)
            case .xsavec: (.leafDEAX, 1)
            case .xgetbv1: (.leafDEAX, 2)
            case .xsaves: (.leafDEAX, 3)
            case .lahf: (.extended1ECX, 0)
            case .lzcnt: (.extended1ECX, 5)
            case .prefetchw: (.extended1ECX, 8)
            case .syscall: (.extended1EDX, 11)
            case .nx: (.extended1EDX, 20)
            case .gigabytePages: (.extended1EDX, 26)
            case .rdtscp: (.extended1EDX, 27)
            case .longMode: (.extended1EDX, 29)
            case .invariantTSC: (.extended7EDX, 8)
            }
        }

        /// Whether every model has it, because 64-bit software cannot do without.
        package var isRequired: Bool {
            switch self {
            case .fpu, .tsc, .msr, .pae, .cx8, .cmov, .fxsr, .sse, .sse2, .syscall, .longMode,
                .apic, .dataPointerAtExceptions, .zeroFCSAndFDS:
                true
            default: false
            }
        }

        /// Whether it is implemented but not part of a model, to be asked for by `+name`.
        package var isOptional: Bool {
            switch self {
            // With la57 Linux uses five levels, whether it needs the room or not.
            // With mtrr Linux sets up page attributes, which mean nothing here.
            case .vme, .mce, .mca, .mtrr, .rdrand, .rdseed, .rdpid, .tscAdjust, .erms, .la57, .pku,
                .monitor, .movbe,
                .bmi1, .bmi2, .adx, .lzcnt, .clflushopt, .clwb, .prefetchw, .xsavec, .xgetbv1,
                .xsaves, .avx, .avx2, .fma, .f16c:
                true
            default: false
            }
        }

        /// Whether it is there only where the host's processor has it.
        package var dependsOnHost: Bool {
            switch self {
            case .avx, .avx2, .fma, .f16c: true
            default: false
            }
        }

        /// Whether x86-64-v3 has it, and x86-64-v2 has not.
        package var isLevel3: Bool {
            switch self {
            case .avx, .avx2, .fma, .f16c, .bmi1, .bmi2, .lzcnt, .movbe: true
            default: false
            }
        }

        /// The feature without which this one means nothing.
        package var prerequisite: Feature? {
            switch self {
            case .xsaveopt, .xsavec, .xgetbv1, .avx: .xsave
            case .avx2, .fma, .f16c: .avx
            case .xsaves: .xsavec
            case .pse36: .pse
            case .mca: .mce
            case .ssse3: .sse3
            case .sse41: .ssse3
            case .sse42: .sse41
            default: nil
            }
        }
    }

    /// A register of a CPUID leaf that holds feature bits.
    package enum Word: Hashable, Sendable {
        case leaf1EDX, leaf1ECX, leaf6EAX, leaf7EBX, leaf7ECX, leaf7EDX, leafDEAX
        case extended1ECX, extended1EDX, extended7EDX
    }

    /// The bits of IA32_ARCH_CAPABILITIES (SDM Vol. 4, MSR 10AH).
    package enum ArchCapabilities {
        /// Bits that say a flaw is absent: RDCL, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB, MDS,
        /// PSCHANGE_MC, TAA, SBDR_SSDP, FBSDP, PSDP, BHI, PBRSB, GDS, RFDS, ITS. A software
        /// processor does not speculate.
        package static let value: UInt64 =
            [0, 1, 3, 4, 5, 6, 8, 13, 14, 15, 20, 24, 26, 27, 62].reduce(0) { $0 | 1 << $1 }
    }
}
