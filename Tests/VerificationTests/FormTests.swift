import MachineMemory
import Processor
import Testing
import Verification
import X86

/// Translations by every form of page tables, made up, put before the oracle.
@Suite("The lawfulness oracle and the forms of page tables")
struct FormTests {
    enum Form: CaseIterable, Sendable { case twoLevel, pae, fourLevel, fiveLevel }

    /// A processor on tables of a form, which map `Bench.page` to 0x600000.
    private func bench(_ form: Form, model: ProcessorModel = .penumbraV2) throws -> Bench {
        let bench = try Bench("bare", model: model)
        var registers = BootRegisters()
        registers.cr0 = CR0.protectionEnable | CR0.paging | CR0.extensionType
        registers.cr4 = CR4.physicalAddressExtension
        registers.efer = EFER.longModeEnable | EFER.longModeActive
        bench.put(0x60_0063, at: 0xa0_3028)
        bench.put(0xa0_3027, at: 0xa0_2200)
        bench.put(0xa0_2027, at: 0xa0_4000)
        bench.put(0xa0_4027, at: 0xa0_5000)
        bench.put(0xa0_5027, at: 0xa0_6000)
        switch form {
        case .twoLevel:
            registers.cr3 = 0xa0_0000
            registers.cr4 = CR4.pageSizeExtensions
            registers.efer = 0
            put32(bench, 0xa0_1027, at: 0xa0_0080)
            put32(bench, 0x60_0063, at: 0xa0_1014)
        case .pae:
            registers.cr3 = 0xa0_7000
            registers.efer = 0
            registers.pointers = SIMD4(0xa0_2001, 0xa0_2000, 0, 0)
        case .fourLevel: registers.cr3 = 0xa0_5000
        case .fiveLevel:
            registers.cr3 = 0xa0_6000
            registers.cr4 |= CR4.fiveLevelPaging
        }
        bench.processors[0].setBootState(registers)
        return bench
    }

    private func put32(_ bench: Bench, _ value: UInt32, at address: UInt64) {
        bench.memory.store(value, at: MachineAddress(address))
    }

    private func change(_ bench: Bench, _ form: Form, to entry: UInt32) {
        form == .twoLevel
            ? put32(bench, entry, at: 0xa0_1014) : bench.put(UInt64(entry), at: 0xa0_3028)
    }

    private func judge(
        _ bench: Bench, _ base: UInt64, at address: UInt64 = Bench.page, shift: UInt64 = 12
    ) -> LawfulnessRule? {
        bench.oracle.translated(
            ObservedTranslation(
                address: address, access: [], base: base, shift: shift, isWritable: true,
                isUser: false, isExecuteDisabled: false, isDirty: true, isGlobal: false),
            isUse: false, by: bench.processors[0])
        return bench.rule
    }

    @Test("each form's tables are walked, now and in the past", arguments: Form.allCases)
    func walked(form: Form) throws {
        let bench = try bench(form)
        #expect(judge(bench, 0x60_0000) == nil)
        #expect(bench.oracle.counts.explainedByHistory == 0)
        change(bench, form, to: 0x70_0063)
        #expect(judge(bench, 0x70_0000) == nil)
        #expect(bench.oracle.counts.explainedByHistory == 0)
        #expect(judge(bench, 0x60_0000) == nil)
        #expect(bench.oracle.counts.explainedByHistory == 1)
        bench.oracle.operated(.invalidatePage(Bench.page), by: bench.processors[0])
        #expect(judge(bench, 0x70_0000) == nil)
        #expect(judge(bench, 0x60_0000) == .staleLeaf, "\(bench.text)")
    }

    @Test("what no value gave is unlawful in each form", arguments: Form.allCases)
    func neverHeld(form: Form) throws {
        #expect(judge(try bench(form), 0x61_0000) == .neverHeld)
    }

    @Test("a pointer register that is not present leads nowhere, whatever it holds beside")
    func absentPointer() throws {
        #expect(judge(try bench(.pae), 0x60_0000, at: Bench.page + (1 << 30)) == .neverHeld)
    }

    @Test("a 4 MiB page has the address bits of PSE-36, and may be cached in parts")
    func largePage() throws {
        let bench = try bench(.twoLevel)
        // The directory's entry 40: bit 13 is bit 32 of the address.
        put32(bench, 0x00c0_20e3, at: 0xa0_00a0)
        #expect(judge(bench, 0x1_00e0_0000, at: 0xa20_0000, shift: 21) == nil)
        #expect(judge(bench, 0x1_00c0_5000, at: 0xa00_5000) == nil)
        #expect(judge(bench, 0x00e0_0000, at: 0xa20_0000, shift: 21) == .neverHeld)
    }

    @Test("without PSE-36 the bits of a 4 MiB page beyond 32 are reserved")
    func narrowLargePage() throws {
        let bench = try bench(.twoLevel, model: ProcessorModel(parsing: "penumbra-v2,-pse36"))
        put32(bench, 0x00c0_20e3, at: 0xa0_00a0)
        bench.oracle.faulted(0xa20_0000, error: 9, access: [], by: bench.processors[0])
        #expect(bench.rule == nil, "\(bench.text)")
        #expect(judge(bench, 0x1_00e0_0000, at: 0xa20_0000, shift: 21) == .invalidEntry)
    }
}
