import Snapshot
import X86

/// Saved machines: everything of a processor that bears on what the guest does from here on.
///
/// What is not in it follows from the rest (the mode, the software TLB's bank), lives within one
/// instruction (`State.pending`), is a cache (decoded code, translations: empty caches are lawful
/// at any moment), or is the hypervisor's (the control block but for a fault to inject, the guest
/// write buffer, completed writes, counts).
extension Processor {
    /// Writes the state. Between two calls of `run`.
    package func save(to writer: inout FieldWriter) {
        writer.put(core.state.retired)
        for register in GeneralRegister.allCases { writer.put(core[register]) }
        writer.put(core.state.rip)
        writer.put(core.flags)
        for register in SegmentRegister.allCases { writer.put(core[register]) }
        writer.put(core.state.ldtr)
        writer.put(core.state.taskRegister)
        for table in [core.state.gdtr, core.state.idtr] {
            writer.put(table.base)
            writer.put(table.limit)
        }
        saveControl(to: &writer)
        for value in [
            core.state.star, core.state.longSTAR, core.state.compatibilitySTAR,
            core.state.systemCallFlagMask, core.state.kernelGSBase, core.state.sysenterCS,
            core.state.sysenterESP, core.state.sysenterEIP, core.state.pat, core.state.tscAux,
            core.state.tscOffset, core.state.tscAdjust, core.state.miscEnable,
            core.state.speculationControl, core.state.debugControl, core.state.randomState,
        ] {
            writer.put(value)
        }
        core.state.typeRanges.save(to: &writer)
        saveEvents(to: &writer)
        vector.block.save(to: &writer)
    }

    private func saveControl(to writer: inout FieldWriter) {
        writer.put(core.state.cr0)
        writer.put(core.state.cr2)
        writer.put(core.state.cr3)
        writer.put(core.state.cr4)
        writer.put(core.state.efer)
        writer.put(core.state.xcr0)
        writer.put(core.state.keyRights)
        for number in 0..<4 { writer.put(core.state.pointers[number]) }
        for number in 0..<4 { writer.put(core.state.debugAddresses[number]) }
        writer.put(core.state.dr6)
        writer.put(core.state.dr7)
        writer.put(core.state.cpl)
    }

    private func saveEvents(to writer: inout FieldWriter) {
        writer.put(core.state.interruptShadow)
        writer.put(core.state.debugShadow)
        writer.put(core.state.nmiBlocked)
        writer.put(core.state.isHalted)
        writer.put(core.state.waitsForStartup)
        writer.put(core.state.debugConditions)
        writer.put(core.state.stepRule.rawValue)
        writer.put(core.state.resumeFlagLoaded)
        writer.put(core.state.isShutDown)
        let latched = core.state.latched
        writer.put(latched.isValid)
        writer.put(latched.event.vector)
        writer.put(latched.event.kind.rawValue)
        writer.put(optional: latched.event.error)
        writer.put(latched.event.returnRIP)
        writer.put(core.state.taskEntry.next.rawValue)
        writer.put(optional: core.state.taskEntry.error)
        writer.put(optional: control.injection?.error.rawValue)
        writer.put(optional: control.injection?.address.rawValue)
        writer.put(interruptRequested)
        writer.put(nmiRequested)
        writer.put(stopRequested)
        writer.put(standsStill)
        writer.put(UInt16(truncatingIfNeeded: exceptionsInPlace))
        writer.put(lastExceptionRetired)
    }

    /// Takes on a saved state, with empty caches. Counts begin at zero; the retired count goes on.
    ///
    /// CR0, CR3, CR4 and EFER change: whoever keeps shadows has to be told. After an error the
    /// processor is not to be used.
    package func restore(from reader: inout FieldReader) throws(FieldError) {
        reset()
        core.state.retired = try reader.get("retired instructions", in: 0...1 << 62)
        retiredBefore = core.state.retired
        for register in GeneralRegister.allCases { core[register] = try reader.get("registers") }
        core.state.rip = try reader.get("RIP")
        let flags: UInt64 = try reader.get("RFLAGS", mask: Self.flagBits)
        for register in SegmentRegister.allCases { core[register] = try segment(from: &reader) }
        core.state.ldtr = try segment(from: &reader)
        core.state.taskRegister = try segment(from: &reader)
        core.state.gdtr = try table(from: &reader)
        core.state.idtr = try table(from: &reader)
        try restoreControl(from: &reader)
        try restoreModelSpecific(from: &reader)
        try restoreEvents(from: &reader)
        try vector.block.restore(from: &reader)
        core.setFlags(flags)
        let level = core.state.cpl
        core.updateMode()
        guard level == core.state.cpl, core.is64 || core.state.rip >> 32 == 0 else {
            throw .badValue("CPL or RIP")
        }
        emptyCaches()
        observe(.reset)
    }

    /// The bits of RFLAGS that exist, of which bit 1 is always set.
    private static let flagBits: UInt64 = 0x3f_7fd7

    private func segment(from reader: inout FieldReader) throws(FieldError) -> Segment {
        var segment = Segment()
        segment.base = try linear("a segment's base", from: &reader)
        segment.limit = try reader.get("a segment's limit")
        segment.selector = try reader.get("a selector")
        segment.attributes = try reader.get("a segment's attributes", mask: 0xf0ff)
        return segment
    }

    private func table(from reader: inout FieldReader) throws(FieldError) -> DescriptorTable {
        DescriptorTable(
            base: try linear("a table's base", from: &reader),
            limit: try reader.get("a table's limit"))
    }

    /// An address that registers for linear addresses can hold.
    private func linear(
        _ name: StaticString, from reader: inout FieldReader
    ) throws(FieldError) -> UInt64 {
        let address: UInt64 = try reader.get(name)
        guard core.isStorable(address) else { throw .badValue(name) }
        return address
    }

    private func restoreControl(from reader: inout FieldReader) throws(FieldError) {
        core.state.cr0 = try reader.get("CR0")
        core.state.cr2 = try reader.get("CR2")
        core.state.cr3 = try reader.get("CR3", mask: 1 << model.physicalAddressBits &- 1)
        core.state.cr4 = try reader.get("CR4")
        core.state.efer = try reader.get("EFER")
        guard
            ControlRegisters.exist(
                cr0: core.state.cr0, cr4: core.state.cr4, efer: core.state.efer, model)
        else { throw .badValue("CR0, CR4 or EFER") }
        core.state.xcr0 = try reader.get("XCR0", mask: model.extendedStateComponents | 3)
        guard ExtendedState.canBeEnabled(core.state.xcr0) else { throw .badValue("XCR0") }
        core.state.keyRights = try reader.get("PKRU")
        guard core.state.keyRights == 0 || model.has(.pku) else { throw .badValue("PKRU") }
        var pointers = SIMD4<UInt64>()
        for number in 0..<4 { pointers[number] = try reader.get("PAE's pointers") }
        guard pointersAreValid(pointers) else { throw .badValue("PAE's pointers") }
        core.state.pointers = pointers
        for number in 0..<4 { core.state.debugAddresses[number] = try reader.get("DR0…DR3") }
        core.state.dr6 = try reader.get("DR6", mask: DebugStatus.alwaysOne | 0xe00f)
        core.state.dr7 = try reader.get(
            "DR7", mask: DebugControl.writable | DebugControl.alwaysOne)
        core.state.cpl = try reader.get("CPL", in: 0...3)
    }

    private func restoreModelSpecific(from reader: inout FieldReader) throws(FieldError) {
        core.state.star = try reader.get("IA32_STAR")
        core.state.longSTAR = try linear("IA32_LSTAR", from: &reader)
        core.state.compatibilitySTAR = try linear("IA32_CSTAR", from: &reader)
        core.state.systemCallFlagMask = try reader.get("IA32_FMASK", mask: 0xffff_ffff)
        core.state.kernelGSBase = try linear("IA32_KERNEL_GS_BASE", from: &reader)
        core.state.sysenterCS = try reader.get("IA32_SYSENTER_CS", mask: 0xffff_ffff)
        core.state.sysenterESP = try linear("IA32_SYSENTER_ESP", from: &reader)
        core.state.sysenterEIP = try linear("IA32_SYSENTER_EIP", from: &reader)
        core.state.pat = try reader.get("IA32_PAT")
        guard ModelSpecific.isPageAttributes(core.state.pat) else { throw .badValue("IA32_PAT") }
        core.state.tscAux = try reader.get("IA32_TSC_AUX", mask: 0xffff_ffff)
        core.state.tscOffset = try reader.get("the time-stamp counter's offset")
        core.state.tscAdjust = try reader.get("IA32_TSC_ADJUST")
        core.state.miscEnable = try reader.get("IA32_MISC_ENABLE")
        core.state.speculationControl = try reader.get("IA32_SPEC_CTRL", mask: 7)
        core.state.debugControl = try reader.get(
            "IA32_DEBUGCTL", mask: DebugControl.branchStep)
        core.state.randomState = try reader.get("the random generator")
        try core.state.typeRanges.restore(from: &reader)
    }

    private func restoreEvents(from reader: inout FieldReader) throws(FieldError) {
        core.state.interruptShadow = try reader.flag("interrupt shadow")
        core.state.debugShadow = try reader.flag("debug shadow")
        core.state.nmiBlocked = try reader.flag("blocking of NMIs")
        core.state.isHalted = try reader.flag("HLT")
        core.state.waitsForStartup = try reader.flag("wait for a start-up IPI")
        guard core.state.isHalted || !core.state.waitsForStartup else { throw .badValue("HLT") }
        core.state.debugConditions = try reader.get("debug conditions", mask: 0xe00f)
        guard let rule = StepRule(rawValue: try reader.get("single-step rule")) else {
            throw .badValue("single-step rule")
        }
        core.state.stepRule = rule
        core.state.resumeFlagLoaded = try reader.flag("loading of RF")
        core.state.isShutDown = try reader.flag("shutdown")
        core.state.latched.isValid = try reader.flag("event in delivery")
        core.state.latched.event.vector = try reader.get("vector of an event")
        guard let kind = Event.Kind(rawValue: try reader.get("kind of an event")) else {
            throw .badValue("kind of an event")
        }
        core.state.latched.event.kind = kind
        core.state.latched.event.error = try reader.optional("error code of an event")
        core.state.latched.event.returnRIP = try reader.get("return address of an event")
        guard let step = TaskEntry.Step(rawValue: try reader.get("step of a task switch")) else {
            throw .badValue("step of a task switch")
        }
        core.state.taskEntry.next = step
        core.state.taskEntry.error = try reader.optional("error code for a new task")
        let error: UInt32? = try reader.optional("error code of a page fault")
        let address: UInt64? = try reader.optional("address of a page fault")
        guard (error == nil) == (address == nil) else { throw .badValue("page fault") }
        if let error, let address {
            control.injection = InjectedFault(
                error: PageFaultError(rawValue: error), address: GuestVirtualAddress(address))
        }
        interruptRequested = try reader.flag("INTR")
        nmiRequested = try reader.flag("NMI")
        stopRequested = try reader.flag("request to stop")
        standsStill = try reader.flag("standstill")
        exceptionsInPlace = Int(try reader.get("exceptions in place", UInt16.self))
        lastExceptionRetired = try reader.get("instruction of the last exception")
    }
}

extension FieldWriter {
    fileprivate mutating func put(_ segment: Segment) {
        put(segment.base)
        put(segment.limit)
        put(segment.selector)
        put(segment.attributes)
    }
}

extension VectorBlock {
    fileprivate func save(to writer: inout FieldWriter) {
        writer.put(fcw)
        writer.put(fsw)
        writer.put(abridgedTags)
        writer.put(self[Self.opcode, as: UInt16.self])
        writer.put(instructionPointer)
        writer.put(self[Self.operandPointer, as: UInt64.self])
        writer.put(mxcsr)
        for number in UInt8(0)..<8 {
            let (mantissa, exponent) = register(number)
            writer.put(mantissa)
            writer.put(exponent)
        }
        for number in UInt8(0)..<16 {
            writer.put(self[Self.xmm(number), as: UInt64.self])
            writer.put(self[Self.xmm(number) + 8, as: UInt64.self])
            writer.put(self[Self.upper(number), as: UInt64.self])
            writer.put(self[Self.upper(number) + 8, as: UInt64.self])
        }
    }

    fileprivate func restore(from reader: inout FieldReader) throws(FieldError) {
        fcw = try reader.get("FCW", mask: 0x1f7f)
        guard fcw & 0x40 != 0 else { throw .badValue("FCW") }
        let status: UInt16 = try reader.get("FSW")
        setFSW(status)
        guard fsw == status else { throw .badValue("FSW") }
        abridgedTags = try reader.get("FTW")
        self[Self.opcode] = try reader.get("FOP", mask: UInt16(0x7ff))
        instructionPointer = try reader.get("FIP")
        self[Self.operandPointer] = try reader.get("FDP", mask: UInt64.max)
        setMXCSR(try reader.get("MXCSR", mask: Self.mxcsrMask))
        for number in UInt8(0)..<8 {
            setRegister(number, try reader.get("ST"), try reader.get("ST"))
        }
        for number in UInt8(0)..<16 {
            self[Self.xmm(number)] = try reader.get("XMM", UInt64.self)
            self[Self.xmm(number) + 8] = try reader.get("XMM", UInt64.self)
            self[Self.upper(number)] = try reader.get("YMM", UInt64.self)
            self[Self.upper(number) + 8] = try reader.get("YMM", UInt64.self)
        }
    }
}
