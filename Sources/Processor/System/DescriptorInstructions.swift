import X86

/// Instructions on descriptor tables and descriptors (SDM Vol. 2A/2B).
enum DescriptorInstructions {
    // MARK: GDTR and IDTR. `Op.code`: 0 GDTR, 1 IDTR.

    static let loadTable: Handler = {
        plain($0, $1) { core, op in
            guard core.state.cpl == 0 else { return core.generalProtection() }
            guard let address = core.linearAddress(op, size: core.is64 ? 10 : 6, write: false),
                let limit = core.read(UInt16.self, linear: address)
            else { return .fault }
            let base: UInt64
            if core.is64 {
                guard let wide = core.read(UInt64.self, linear: address &+ 2) else {
                    return .fault
                }
                guard core.isStorable(wide) else {
                    return core.generalProtection()
                }
                base = wide
            } else {
                guard let narrow = core.read(UInt32.self, linear: address &+ 2) else {
                    return .fault
                }
                base = UInt64(op.width == 2 ? narrow & 0xff_ffff : narrow)
            }
            let table = DescriptorTable(base: base, limit: limit)
            if op.code == 0 { core.state.gdtr = table } else { core.state.idtr = table }
            return .next
        }
    }

    static let storeTable: Handler = {
        plain($0, $1) { core, op in
            guard ControlRegisters.permitsStore(core) else { return core.generalProtection() }
            let table = op.code == 0 ? core.state.gdtr : core.state.idtr
            guard let address = core.linearAddress(op, size: core.is64 ? 10 : 6, write: true),
                core.processor.probe(address, size: core.is64 ? 10 : 6, write: true),
                core.write(table.limit, linear: address)
            else { return .fault }
            let done =
                core.is64
                ? core.write(table.base, linear: address &+ 2)
                : core.write(UInt32(truncatingIfNeeded: table.base), linear: address &+ 2)
            return done ? .next : .fault
        }
    }

    // MARK: LDTR and TR. `Op.code`: 0 LDTR, 1 TR.

    static let storeSelector: Handler = {
        plain($0, $1) { core, op in
            guard !core.usesParagraphs else { return core.invalidOpcode() }
            guard ControlRegisters.permitsStore(core) else { return core.generalProtection() }
            let selector =
                op.code == 0 ? core.state.ldtr.selector : core.state.taskRegister.selector
            if op.destination == .memory { return core.writeMemory(selector, op) ? .next : .fault }
            if op.width == 2 {
                core[op.a] = selector
            } else {
                core[op.a] = UInt64(selector)
            }
            return .next
        }
    }

    static let loadLocalTable: Handler = {
        plain($0, $1) { core, op in
            guard let selector = systemSelector(core, op) else { return .fault }
            if selector & 0xfffc == 0 {
                core.state.ldtr = .null(selector)
                return .next
            }
            guard let table = systemDescriptor(core, selector) else { return .fault }
            guard table.systemType == 2 else { return core.fault(.generalProtection, selector) }
            guard table.isPresent else { return core.fault(.segmentNotPresent, selector) }
            core.state.ldtr = systemSegment(table, selector)
            return .next
        }
    }

    static let loadTask: Handler = {
        plain($0, $1) { core, op in
            guard let selector = systemSelector(core, op) else { return .fault }
            guard selector & 0xfffc != 0 else { return core.generalProtection() }
            guard let task = systemDescriptor(core, selector) else { return .fault }
            // An available TSS; IA-32e mode has no 16-bit ones.
            guard task.systemType == 9 || (task.systemType == 1 && !core.isLongModeActive) else {
                return core.fault(.generalProtection, selector)
            }
            guard task.isPresent else { return core.fault(.segmentNotPresent, selector) }
            guard core.setTypeBits(selector, task, 2) else { return .fault }
            core.state.taskRegister = systemSegment(task, selector)
            core.state.taskRegister.attributes |= 2
            return .next
        }
    }

    private static func systemSelector(_ core: Core, _ op: OpRef) -> UInt16? {
        guard !core.usesParagraphs else {
            _ = core.invalidOpcode()
            return nil
        }
        guard core.state.cpl == 0 else {
            _ = core.generalProtection()
            return nil
        }
        return core.readDestination(UInt16.self, op)
    }

    /// The GDT's system descriptor that a selector names; nil after raising a fault.
    private static func systemDescriptor(_ core: Core, _ selector: UInt16) -> Descriptor? {
        guard selector & 4 == 0 else {
            _ = core.fault(.generalProtection, selector)
            return nil
        }
        guard let narrow = core.readDescriptor(selector) else { return nil }
        guard narrow.isSystem else {
            _ = core.fault(.generalProtection, selector)
            return nil
        }
        guard let wide = core.widened(narrow, selector) else { return nil }
        guard core.isStorable(wide.base) else {
            _ = core.fault(.generalProtection, selector)
            return nil
        }
        return wide
    }

    private static func systemSegment(_ descriptor: Descriptor, _ selector: UInt16) -> Segment {
        Segment(
            base: descriptor.base, limit: descriptor.limit, selector: selector,
            attributes: descriptor.attributes)
    }

    // MARK: VERR, VERW, LAR, LSL, ARPL

    /// VERR and VERW (code 0, 1): ZF tells whether the segment may be read or written.
    static let verify: Handler = {
        plain($0, $1) { core, op in
            guard !core.usesParagraphs else { return core.invalidOpcode() }
            guard let selector = core.readDestination(UInt16.self, op) else { return .fault }
            var isGood = false
            if let descriptor = visible(core, selector) {
                let isConforming = descriptor.isCode && descriptor.isConforming
                isGood =
                    (op.code == 1 ? descriptor.isWritableData : descriptor.isReadable)
                    && (isConforming || isPermitted(core, selector, descriptor))
            }
            if core.state.pending != .none { return .fault }
            core.setZeroFlag(isGood)
            return .next
        }
    }

    /// LAR and LSL (code 0, 1): the access rights or the limit, where the descriptor is visible.
    static let inspect: Handler = {
        plain($0, $1) { core, op in
            guard !core.usesParagraphs else { return core.invalidOpcode() }
            guard let selector = core.readSource(UInt16.self, op) else { return .fault }
            var value: UInt64?
            if let descriptor = visible(core, selector) {
                let isConforming = descriptor.isCode && descriptor.isConforming
                let isKnown =
                    !descriptor.isSystem
                    || hasRights(core, descriptor.systemType, limitOnly: op.code == 1)
                if isKnown && (isConforming || isPermitted(core, selector, descriptor)) {
                    value =
                        op.code == 1
                        ? UInt64(descriptor.limit) : descriptor.low >> 32 & 0x00ff_ff00
                }
            }
            if core.state.pending != .none { return .fault }
            core.setZeroFlag(value != nil)
            guard let value else { return .next }
            if op.width == 2 {
                core[op.a] = UInt16(truncatingIfNeeded: value)
            } else {
                core[op.a] = value
            }
            return .next
        }
    }

    /// The descriptor of a selector, without raising a fault where there is none.
    private static func visible(_ core: Core, _ selector: UInt16) -> Descriptor? {
        guard selector & 0xfffc != 0, let address = core.descriptorAddress(selector),
            let low = core.readSystem(UInt64.self, linear: address)
        else { return nil }
        return Descriptor(low: low)
    }

    private static func isPermitted(
        _ core: Core, _ selector: UInt16, _ descriptor: Descriptor
    ) -> Bool {
        max(UInt8(truncatingIfNeeded: selector) & 3, core.state.cpl) <= descriptor.dpl
    }

    /// The system types that LAR and LSL accept (SDM Vol. 2A, LAR and LSL, Tables 3-53, 3-60).
    private static func hasRights(_ core: Core, _ type: UInt8, limitOnly: Bool) -> Bool {
        switch type {
        case 2, 9, 11: true
        case 1, 3: !core.isLongModeActive
        case 4, 5: !limitOnly && !core.isLongModeActive
        case 12: !limitOnly
        default: false
        }
    }

    /// ARPL: raises the destination's RPL to the source's.
    static let adjustLevel: Handler = {
        plain($0, $1) { core, op in
            guard !core.usesParagraphs else { return core.invalidOpcode() }
            let source: UInt16 = core[op.b]
            var adjusts = false
            guard
                core.updateDestination(
                    op,
                    { (value: UInt16) in
                        adjusts = value & 3 < source & 3
                        return adjusts ? value & ~3 | source & 3 : value
                    })
            else { return .fault }
            core.setZeroFlag(adjusts)
            return .next
        }
    }
}
