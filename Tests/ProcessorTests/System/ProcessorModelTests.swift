import Testing
import X86

/// CPUID models (SDM Vol. 2A, CPUID).
@Suite struct ProcessorModelTests {
    let model = ProcessorModel.penumbraV2
    let context = CPUIDContext(apicID: 0, cr4: 0, isAPICEnabled: true)

    func text(_ words: [UInt32]) -> String {
        String(decoding: words.flatMap { bytes($0) }.filter { $0 != 0 }, as: UTF8.self)
    }

    @Test("vendor, brand and hypervisor signature spell out")
    func strings() {
        let vendor = model.cpuid(leaf: 0, subleaf: 0, context: context)
        #expect(text([vendor.ebx, vendor.edx, vendor.ecx]) == "GenuineIntel")
        #expect(vendor.eax == 0x16)
        let brand = (0x8000_0002...0x8000_0004 as ClosedRange<UInt32>).flatMap { leaf in
            let part = model.cpuid(leaf: leaf, subleaf: 0, context: context)
            return [part.eax, part.ebx, part.ecx, part.edx]
        }
        #expect(text(brand) == "Penumbra v2 processor")
        let hypervisor = model.cpuid(leaf: 0x4000_0000, subleaf: 0, context: context)
        #expect(text([hypervisor.ebx, hypervisor.ecx, hypervisor.edx]) == "PenumbraVMM")
        #expect(hypervisor.eax == RegionMarker.leaf)
        #expect(
            model.cpuid(leaf: 0x4000_0002, subleaf: 0, context: context) == CPUIDResult())
    }

    @Test("the time-stamp counter's frequency follows from leaf 0x15")
    func frequency() {
        let leaf = model.cpuid(leaf: 0x15, subleaf: 0, context: context)
        #expect(UInt64(leaf.ecx) * UInt64(leaf.ebx) / UInt64(leaf.eax) == 1_000_000_000)
    }

    @Test("features stand at their bits, and what is not implemented is absent")
    func features() throws {
        let leaf1 = model.cpuid(leaf: 1, subleaf: 0, context: context)
        // pni, ssse3, cx16, pcid, sse4_1, sse4_2, x2apic, popcnt, deadline, xsave, hypervisor
        #expect(leaf1.ecx == 0x85ba_2201)
        // No VME, MCE, MTRR, MCA, PSN, DS, ACPI, SS, HT.
        #expect(leaf1.edx == 0x078b_ab7d)
        let leaf7 = model.cpuid(leaf: 7, subleaf: 0, context: context)
        let features = [0, 7, 10, 20] as [UInt32]
        // FDP at exceptions alone, no FCS and FDS.
        #expect(leaf7.ebx == (features + [6, 13]).reduce(0) { $0 | 1 << $1 })
        #expect(leaf7.ecx == 1 << 2)
        #expect(leaf7.edx == 0xac00_0000)
        let extended = model.cpuid(leaf: 0x8000_0001, subleaf: 0, context: context)
        #expect(extended.edx == 0x2c10_0800)
        #expect(extended.ecx == 1)
        #expect(model.cpuid(leaf: 0x8000_0008, subleaf: 0, context: context).eax == 0x3028)
        let deep = try ProcessorModel(parsing: "penumbra-v2,+la57")
        #expect(deep.cpuid(leaf: 7, subleaf: 0, context: context).ecx == 1 << 2 | 1 << 16)
        #expect(deep.cpuid(leaf: 0x8000_0008, subleaf: 0, context: context).eax == 0x3928)
    }

    @Test("OSXSAVE follows CR4 and the APIC bit its base register")
    func dynamic() {
        let on = model.cpuid(
            leaf: 1, subleaf: 0,
            context: CPUIDContext(apicID: 3, cr4: CR4.osXSAVE, isAPICEnabled: false))
        #expect(on.ecx >> 27 & 1 == 1)
        #expect(on.edx >> 9 & 1 == 0)
        #expect(on.ebx >> 24 == 3)
    }

    @Test("the topology counts the processors", arguments: [1, 2, 3, 8])
    func topology(_ count: Int) {
        var model = model
        model.processorCount = count
        let cores = model.cpuid(
            leaf: 0xb, subleaf: 1, context: CPUIDContext(apicID: 1, cr4: 0, isAPICEnabled: true))
        #expect(cores.ebx == UInt32(count))
        #expect(1 << cores.eax >= count)
        #expect(cores.edx == 1)
        let end = model.cpuid(leaf: 0xb, subleaf: 2, context: context)
        #expect(end.eax == 0 && end.ebx == 0 && end.ecx == 2)
        #expect(
            model.cpuid(leaf: 1, subleaf: 0, context: context).edx >> 28 & 1 == (count > 1 ? 1 : 0))
    }

    @Test("a leaf beyond the highest gives the highest basic leaf")
    func beyond() {
        let highest = model.cpuid(leaf: 0x16, subleaf: 0, context: context)
        #expect(model.cpuid(leaf: 0x17, subleaf: 0, context: context) == highest)
        #expect(model.cpuid(leaf: 0x8000_0009, subleaf: 0, context: context) == highest)
    }

    @Test("features are added and removed by name, with what depends on them")
    func parsing() throws {
        let changed = try ProcessorModel(parsing: "penumbra-v2,+rdrand,-xsave,-pdpe1gb")
        #expect(changed.has(.rdrand))
        #expect(!changed.has(.xsave) && !changed.has(.xsaveopt))
        #expect(!changed.hasGigabytePages)
        #expect(try ProcessorModel(parsing: "penumbra-v2") == .penumbraV2)
        #expect(try ProcessorModel(parsing: "penumbra-v2,-xsave,+xsaveopt").has(.xsave))
    }

    @Test("a bad model text is refused with what is wrong")
    func refusals() {
        #expect(throws: ProcessorModelError.unknownModel("host")) {
            try ProcessorModel(parsing: "host")
        }
        #expect(throws: ProcessorModelError.unknownModel("")) { try ProcessorModel(parsing: "") }
        #expect(throws: ProcessorModelError.unknownFeature("avx512f")) {
            try ProcessorModel(parsing: "penumbra-v2,+avx512f")
        }
        #expect(throws: ProcessorModelError.missingSign("smap")) {
            try ProcessorModel(parsing: "penumbra-v2,smap")
        }
        #expect(throws: ProcessorModelError.missingSign("")) {
            try ProcessorModel(parsing: "penumbra-v2,")
        }
        #expect(throws: ProcessorModelError.requiredFeature("lm")) {
            try ProcessorModel(parsing: "penumbra-v2,-lm")
        }
    }

    @Test("every feature has a bit of its own")
    func distinct() {
        let all = ProcessorModel.Feature.allCases
        #expect(all.count < 128)
        var seen: Set<String> = []
        for feature in all {
            let location = feature.location
            #expect(seen.insert("\(location.word) \(location.bit)").inserted)
        }
    }
}
