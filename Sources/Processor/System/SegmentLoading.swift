import X86

/// Loads of the data-segment registers with all their checks (SDM Vol. 2B, MOV; Vol. 3A §5.5-5.7).
enum SegmentLoading {
    /// Loads a segment register other than CS.
    /// - Returns: false after raising a fault, with nothing changed.
    static func load(_ core: Core, _ register: SegmentRegister, _ selector: UInt16) -> Bool {
        if core.usesParagraphs {
            core.loadParagraph(register, selector)
            return true
        }
        guard let segment = segment(core, register, selector) else { return false }
        core[register] = segment
        if register == .ss && !core.is64 { core.leaveBlock() }
        return true
    }

    /// What a segment register would hold; nil after raising a fault.
    private static func segment(
        _ core: Core, _ register: SegmentRegister, _ selector: UInt16
    ) -> Segment? {
        if register == .ss { return stack(core, selector, level: core.state.cpl) }
        if selector & 0xfffc == 0 { return .null(selector) }
        guard let descriptor = core.readDescriptor(selector) else { return nil }
        let requested = UInt8(truncatingIfNeeded: selector) & 3
        let isPrivileged =
            descriptor.isCode && descriptor.isConforming
            || max(requested, core.state.cpl) <= descriptor.dpl
        guard descriptor.isReadable, isPrivileged else {
            _ = core.fault(.generalProtection, selector)
            return nil
        }
        guard descriptor.isPresent else {
            _ = core.fault(.segmentNotPresent, selector)
            return nil
        }
        guard core.markAccessed(selector, descriptor) else { return nil }
        return descriptor.segment(selector)
    }

    /// What SS would hold at privilege `level`; nil after raising a fault.
    /// - Parameter toLong: the code that is to use it is 64-bit code; default: the current code.
    /// - Parameter vector: what a wrong selector raises (#TS in a task switch).
    static func stack(
        _ core: Core, _ selector: UInt16, level: UInt8, toLong: Bool? = nil,
        vector: ExceptionVector = .generalProtection, external: UInt32 = 0
    ) -> Segment? {
        if selector & 0xfffc == 0 {
            // 64-bit code below level 3 does without a stack segment (SDM Vol. 2B, MOV).
            if toLong ?? core.is64, level < 3, selector & 3 == UInt16(level) {
                return .null(selector)
            }
            _ = core.raise(vector, error: external)
            return nil
        }
        guard let descriptor = core.readDescriptor(selector, vector, external: external) else {
            return nil
        }
        guard selector & 3 == UInt16(level), descriptor.dpl == level, descriptor.isWritableData
        else {
            _ = core.fault(vector, selector, external)
            return nil
        }
        guard descriptor.isPresent else {
            _ = core.fault(.stackFault, selector, external)
            return nil
        }
        guard core.markAccessed(selector, descriptor) else { return nil }
        return descriptor.segment(selector)
    }

    /// A return to an outer level empties the registers whose segments that level may not use
    /// (SDM Vol. 3A §5.8.6).
    static func dropPrivileged(_ core: Core) {
        for register in [SegmentRegister.es, .ds, .fs, .gs] {
            let segment = core[register]
            let isConforming =
                segment.has(Segment.code) && segment.has(Segment.conforming)
            if segment.has(Segment.codeOrData), !isConforming, segment.dpl < core.state.cpl {
                core[register] = .null(0)
            }
        }
    }

    // MARK: Instructions. `Op.code` is the segment register's number.

    private static func register(_ op: OpRef) -> SegmentRegister {
        SegmentRegister(rawValue: UInt8(truncatingIfNeeded: op.code)) ?? .ds
    }

    /// A load of SS holds back interrupts and debug exceptions for one instruction
    /// (SDM Vol. 3A §6.8.3).
    private static func shadow(_ core: Core, _ register: SegmentRegister) {
        guard register == .ss else { return }
        core.state.interruptShadow = true
        core.state.stepRule = .heldBack
        core.leaveBlock()
    }

    /// MOV Sreg, r/m16.
    static let moveTo: Handler = {
        plain($0, $1) { core, op in
            guard let selector = core.readSource(UInt16.self, op),
                load(core, register(op), selector)
            else { return .fault }
            shadow(core, register(op))
            return .next
        }
    }

    /// MOV r/m, Sreg: memory is written with 16 bits, a register as wide as the operand.
    static let moveFrom: Handler = {
        plain($0, $1) { core, op in
            let selector = core[register(op)].selector
            if op.destination == .memory { return core.writeMemory(selector, op) ? .next : .fault }
            if op.width == 2 {
                core[op.a] = selector
            } else {
                core[op.a] = UInt64(selector)
            }
            return .next
        }
    }

    static let push: Handler = {
        plain($0, $1) { core, op in
            var stack = StackView(core)
            guard stack.push(UInt64(core[register(op)].selector), op.width) else { return .fault }
            core.setStackPointer(stack.pointer)
            return .next
        }
    }

    static let pop: Handler = {
        plain($0, $1) { core, op in
            var stack = StackView(core)
            guard let value = stack.pop(op.width) else { return .fault }
            // The pointer moves in the width of the old stack.
            let old = core[.rsp]
            core.setStackPointer(stack.pointer)
            guard load(core, register(op), UInt16(truncatingIfNeeded: value)) else {
                core[.rsp] = old
                return .fault
            }
            shadow(core, register(op))
            return .next
        }
    }

    /// LDS, LES, LFS, LGS, LSS: an offset of the operand size, then a selector.
    static let loadFarPointer: Handler = {
        plain($0, $1) { core, op in
            guard let (offset, selector) = farPointer(core, op),
                load(core, register(op), selector)
            else { return .fault }
            switch op.width {
            case 2: core[op.a] = UInt16(truncatingIfNeeded: offset)
            default: core[op.a] = offset
            }
            return .next
        }
    }

    /// The far pointer that the memory operand holds; nil after raising a fault.
    static func farPointer(_ core: Core, _ op: OpRef) -> (offset: UInt64, selector: UInt16)? {
        let width = UInt64(op.width)
        guard let address = core.linearAddress(op, size: width &+ 2, write: false) else {
            return nil
        }
        let offset: UInt64?
        switch op.width {
        case 2: offset = core.read(UInt16.self, linear: address).map { UInt64($0) }
        case 4: offset = core.read(UInt32.self, linear: address).map { UInt64($0) }
        default: offset = core.read(UInt64.self, linear: address)
        }
        guard let offset, let selector = core.read(UInt16.self, linear: address &+ width) else {
            return nil
        }
        return (offset, selector)
    }
}
