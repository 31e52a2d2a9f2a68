import CZydis
import X86

/// XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR and XRSTORS (SDM Vol. 1 ch. 13): x87, SSE and AVX state,
/// and PKRU, in the standard and in the compacted form.
///
/// x87, SSE and AVX state count as always in use, and nothing as unmodified, which the architecture
/// allows: so XSAVEOPT is XSAVE. There is no supervisor state: IA32_XSS is zero.
enum ExtendedSave {
    /// The form of an operation: what `Op.code` holds.
    private enum Form: UInt16 {
        case standard, compacted, supervisor
    }

    /// Sets the op's handler if the instruction is one of these and the model has it.
    static func select(
        _ instruction: Instruction, _ op: inout Op, _ model: ProcessorModel
    ) -> Bool {
        let feature: ProcessorModel.Feature
        var form = Form.standard
        var handler = save
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_XSAVE, ZYDIS_MNEMONIC_XSAVE64: feature = .xsave
        case ZYDIS_MNEMONIC_XSAVEOPT, ZYDIS_MNEMONIC_XSAVEOPT64: feature = .xsaveopt
        case ZYDIS_MNEMONIC_XSAVEC, ZYDIS_MNEMONIC_XSAVEC64:
            feature = .xsavec
            form = .compacted
        case ZYDIS_MNEMONIC_XSAVES, ZYDIS_MNEMONIC_XSAVES64:
            feature = .xsaves
            form = .supervisor
        case ZYDIS_MNEMONIC_XRSTOR, ZYDIS_MNEMONIC_XRSTOR64:
            feature = .xsave
            handler = restore
        case ZYDIS_MNEMONIC_XRSTORS, ZYDIS_MNEMONIC_XRSTORS64:
            feature = .xsaves
            form = .supervisor
            handler = restore
        default: return false
        }
        guard model.has(feature) else { return false }
        op.code = form.rawValue
        op.handler = handler
        return true
    }

    // MARK: The area

    private static let alignment: UInt64 = 64
    /// XSTATE_BV's place in the area; XCOMP_BV follows, then 48 bytes that must be zero.
    private static let header: UInt64 = 512
    private static let compactedBit: UInt64 = 1 << 63

    /// XINUSE: the components that are not in their initial state.
    static func inUse(_ core: Core) -> UInt64 {
        ExtendedState.x87 | ExtendedState.sse | ExtendedState.avx
            | (core.state.keyRights != 0 ? ExtendedState.keyRights : 0)
    }

    /// RFBM: the components that EDX:EAX asks for and XCR0 enables.
    private static func requested(_ core: Core) -> UInt64 {
        (core[.rdx] << 32 | core[.rax] & 0xffff_ffff) & core.state.xcr0
    }

    private static func permits(_ core: Core, _ op: OpRef) -> Bool {
        guard core.permitsState(isDefined: core.state.cr4 & CR4.osXSAVE != 0) else { return false }
        if op.code != Form.supervisor.rawValue || core.state.cpl == 0 { return true }
        _ = core.generalProtection()
        return false
    }

    /// Where PKRU lies: of the compacted form, behind the components that it has.
    private static func keyRightsOffset(_ compacted: UInt64?) -> UInt64 {
        guard let compacted else { return UInt64(ExtendedState.keyRightsOffset) }
        return UInt64(ExtendedState.compactedSize(of: compacted & ExtendedState.avx))
    }

    /// Where the upper half of a YMM register lies.
    private static func place(_ core: Core, _ address: UInt64, _ number: UInt8) -> UInt64 {
        core.advance(address, UInt64(ExtendedState.leastBytes) &+ UInt64(number) &* 16)
    }

    // MARK: Saving

    private static let save: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            let isCompacted = op.code != Form.standard.rawValue
            let mask = requested(core)
            let size =
                isCompacted ? ExtendedState.compactedSize(of: mask) : ExtendedState.size(of: mask)
            guard permits(core, op),
                let address = StateImages.area(core, op, UInt64(size), alignment, write: true),
                let old = core.read(UInt64.self, linear: core.advance(address, header))
            else { return .fault }
            let inUse = mask & inUse(core)
            if mask & ExtendedState.x87 != 0 {
                guard StateImages.writeX87(core, op, block, address) else { return .fault }
            }
            // MXCSR belongs to SSE state, but goes with AVX state too in the standard form.
            let hasMXCSR = ExtendedState.sse | (isCompacted ? 0 : ExtendedState.avx)
            if mask & hasMXCSR != 0, !StateImages.writeMXCSR(core, block, address) {
                return .fault
            }
            if mask & ExtendedState.sse != 0, !StateImages.writeXMM(core, block, address) {
                return .fault
            }
            if mask & ExtendedState.avx != 0 {
                for number in UInt8(0)..<StateImages.xmmCount(core) {
                    let half = VectorBlock.upper(number)
                    guard
                        core.write16(
                            block[half], block[half + 8], linear: place(core, address, number))
                    else { return .fault }
                }
            }
            if inUse & ExtendedState.keyRights != 0 {
                let place = core.advance(address, keyRightsOffset(isCompacted ? mask : nil))
                guard core.write(UInt64(core.state.keyRights), linear: place) else {
                    return .fault
                }
            }
            if isCompacted {
                guard
                    core.write(mask | compactedBit, linear: core.advance(address, header + 8))
                else { return .fault }
            }
            let present = isCompacted ? inUse : old & ~mask | inUse
            return core.write(present, linear: core.advance(address, header)) ? .next : .fault
        }
    }

    // MARK: Restoring

    private static let restore: Handler = {
        plain($0, $1) { core, op in
            guard permits(core, op),
                let address = StateImages.area(
                    core, op, UInt64(ExtendedState.leastBytes), alignment, write: false)
            else { return .fault }
            return restore(core, op, VectorBlock(op.immediate), address)
        }
    }

    /// What the header says must be present, of an area whose header is in order; nil after a fault
    /// (SDM Vol. 1 §13.8.1, §13.12).
    private static func readHeader(
        _ core: Core, _ address: UInt64, _ form: UInt16
    ) -> (present: UInt64, compacted: UInt64?)? {
        guard let present = core.read(UInt64.self, linear: core.advance(address, header)),
            let compaction = core.read(UInt64.self, linear: core.advance(address, header + 8))
        else { return nil }
        let isCompacted = compaction & compactedBit != 0
        let components = compaction & ~compactedBit
        var isValid = present & ~core.state.xcr0 == 0
        if isCompacted {
            isValid =
                isValid && core.processor.model.has(.xsavec)
                && components & ~core.state.xcr0 == 0 && present & ~components == 0
        } else {
            isValid = isValid && compaction == 0 && form != Form.supervisor.rawValue
        }
        // The standard form's rule ends after 8 bytes of these; processors ignore the rest.
        for offset in stride(from: header + 16, to: header + (isCompacted ? 64 : 24), by: 8) {
            guard let reserved = core.read(UInt64.self, linear: core.advance(address, offset))
            else { return nil }
            isValid = isValid && reserved == 0
        }
        if isValid { return (present, isCompacted ? components : nil) }
        _ = core.generalProtection()
        return nil
    }

    private static func restore(
        _ core: Core, _ op: OpRef, _ block: VectorBlock, _ address: UInt64
    ) -> Status {
        guard let (present, compacted) = readHeader(core, address, op.code) else { return .fault }
        let mask = requested(core)
        // All that is read is known to be readable before anything changes.
        if mask & present & ExtendedState.avx != 0 {
            guard
                core.processor.probe(
                    place(core, address, 0), size: Int(ExtendedState.avxBytes), write: false)
            else { return .fault }
        }
        var keyRights: UInt64 = 0
        if mask & present & ExtendedState.keyRights != 0 {
            let place = core.advance(address, keyRightsOffset(compacted))
            guard let value = core.read(UInt64.self, linear: place) else { return .fault }
            keyRights = value
        }
        var mxcsr: UInt32?
        let hasMXCSR = ExtendedState.sse | (compacted == nil ? ExtendedState.avx : 0)
        if mask & hasMXCSR != 0 {
            // The standard form has MXCSR whether or not XSTATE_BV has the component.
            if compacted == nil || present & ExtendedState.sse != 0 {
                guard let value = StateImages.readMXCSR(core, address) else { return .fault }
                mxcsr = value
            } else {
                mxcsr = 0x1f80
            }
        }
        if mask & ExtendedState.sse != 0 {
            if present & ExtendedState.sse == 0 {
                for number in UInt8(0)..<StateImages.xmmCount(core) {
                    block[VectorBlock.xmm(number)] = UInt64(0)
                    block[VectorBlock.xmm(number) + 8] = UInt64(0)
                }
            } else if !StateImages.readXMM(core, block, address) {
                return .fault
            }
        }
        if mask & ExtendedState.avx != 0 {
            for number in UInt8(0)..<StateImages.xmmCount(core) {
                guard present & ExtendedState.avx != 0 else {
                    block.clearUpper(number)
                    continue
                }
                guard let value = core.read16(linear: place(core, address, number)) else {
                    return .fault
                }
                block[VectorBlock.upper(number)] = value.low
                block[VectorBlock.upper(number) + 8] = value.high
            }
        }
        if mask & ExtendedState.x87 != 0 {
            if present & ExtendedState.x87 == 0 {
                block.initializeX87()
                for index in UInt8(0)..<8 { block.setRegister(index, 0, 0) }
                core.signalPendingError(block)
            } else if !StateImages.readX87(core, op, block, address) {
                return .fault
            }
        }
        if let mxcsr { block.setMXCSR(mxcsr) }
        core.masksChanged(block)
        if mask & ExtendedState.keyRights != 0 {
            ProtectionKeys.set(core, UInt32(truncatingIfNeeded: keyRights))
        }
        return .next
    }
}
