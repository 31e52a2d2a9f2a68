import X86

/// Instructions that tell of the processor, of time, and of randomness.
enum Identification {
    static let cpuid: Handler = {
        plain($0, $1) { core, _ in
            let processor = core.processor
            // IA32_APIC_BASE bit 11; looked at, not accessed: the guest did not ask the APIC.
            let apic = processor.platform.readAPICRegister(
                MSR.apicBase, processor: processor.index)
            let leaf = UInt32(truncatingIfNeeded: core[.rax])
            let subleaf = UInt32(truncatingIfNeeded: core[.rcx])
            let result = processor.model.cpuid(
                leaf: leaf, subleaf: subleaf,
                context: CPUIDContext(
                    apicID: UInt32(truncatingIfNeeded: processor.index), cr4: core.state.cr4,
                    isAPICEnabled: (apic ?? 0) & 0x800 != 0, xcr0: core.state.xcr0))
            core[.rax] = UInt64(result.eax)
            core[.rbx] = UInt64(result.ebx)
            core[.rcx] = UInt64(result.ecx)
            core[.rdx] = UInt64(result.edx)
            if let marker = RegionMarker(leaf: leaf, subleaf: subleaf) {
                processor.platform.marked(marker, processor: processor.index)
            }
            return .next
        }
    }

    /// The time-stamp counter as the guest sees it.
    static func timeStamp(_ core: Core) -> UInt64 {
        core.withProcessor {
            $0.platform.timeStamp(retired: $0.retired, processor: $0.index)
                &+ core.state.tscOffset
        }
    }

    private static func permitsTimeStamp(_ core: Core) -> Bool {
        core.state.cpl == 0 || core.state.cr4 & CR4.timeStampDisable == 0
    }

    /// RDTSC; RDTSCP (code 1) reads IA32_TSC_AUX too.
    static let readTimeStamp: Handler = {
        plain($0, $1) { core, op in
            guard permitsTimeStamp(core) else { return core.generalProtection() }
            let value = timeStamp(core)
            core[.rax] = value & 0xffff_ffff
            core[.rdx] = value >> 32
            if op.code == 1 { core[.rcx] = core.state.tscAux & 0xffff_ffff }
            return .next
        }
    }

    /// RDPMC: there are no performance counters (CPUID.0AH:EAX is 0).
    static let readCounter: Handler = {
        plain($0, $1) { core, _ in core.generalProtection() }
    }

    /// RDPID.
    static let readProcessorID: Handler = {
        plain($0, $1) { core, op in
            core[op.a] = core.state.tscAux & 0xffff_ffff
            return .next
        }
    }

    /// RDRAND and RDSEED: the run's own SplitMix64, so that a run can be repeated. CF is set.
    static let random: Handler = {
        plain($0, $1) { core, op in
            let value = core.processor.nextRandom()
            switch op.width {
            case 2: core[op.a] = UInt16(truncatingIfNeeded: value)
            case 4: core[op.a] = value & 0xffff_ffff
            default: core[op.a] = value
            }
            core.setArithmeticFlags(RFLAGS.carry)
            return .next
        }
    }
}

extension Processor {
    /// Sets the seed from which RDRAND and RDSEED draw.
    public func seedRandom(_ seed: UInt64) { core.state.randomState = seed }

    /// One step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    func nextRandom() -> UInt64 {
        core.state.randomState &+= 0x9e37_79b9_7f4a_7c15
        var mixed = core.state.randomState
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
