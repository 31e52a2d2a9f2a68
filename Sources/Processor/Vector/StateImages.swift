import CZydis
import X86

/// FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XRSTOR, LDMXCSR and STMXCSR.
///
/// XSAVE knows x87 and SSE state in the standard form (SDM Vol. 1 ch. 13). Both components count
/// as always in use, which the architecture allows, so XSAVEOPT is XSAVE.
enum StateImages {
    /// Sets the op's handler if the instruction is one of these.
    static func select(_ instruction: Instruction, _ op: inout Op, _ mode: CodeMode) -> Bool {
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXSAVE64: op.handler = fastSave
        case ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64: op.handler = fastRestore
        case ZYDIS_MNEMONIC_XSAVE, ZYDIS_MNEMONIC_XSAVE64, ZYDIS_MNEMONIC_XSAVEOPT,
            ZYDIS_MNEMONIC_XSAVEOPT64:
            op.handler = extendedSave
        case ZYDIS_MNEMONIC_XRSTOR, ZYDIS_MNEMONIC_XRSTOR64: op.handler = extendedRestore
        case ZYDIS_MNEMONIC_LDMXCSR: op.handler = loadMXCSR
        case ZYDIS_MNEMONIC_STMXCSR: op.handler = storeMXCSR
        default: return false
        }
        return true
    }

    // MARK: MXCSR

    private static let loadMXCSR: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(VectorCode.sse, block),
                let value = core.readMemory(UInt32.self, op)
            else { return .fault }
            guard value & ~VectorBlock.mxcsrMask == 0 else { return core.generalProtection() }
            block.setMXCSR(value)
            core.masksChanged(block)
            return .next
        }
    }

    private static let storeMXCSR: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(VectorCode.sse, block), core.writeMemory(block.mxcsr, op)
            else { return .fault }
            return .next
        }
    }

    // MARK: FXSAVE and FXRSTOR

    private static let fastSave: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard permitsFast(core), let address = area(core, op, 512, 16, write: true),
                writeX87(core, block, address), writeMXCSR(core, block, address),
                writeXMM(core, block, address)
            else { return .fault }
            return .next
        }
    }

    private static let fastRestore: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard permitsFast(core), let address = area(core, op, 512, 16, write: false),
                let mxcsr = readMXCSR(core, address), readX87(core, block, address),
                readXMM(core, block, address)
            else { return .fault }
            block.setMXCSR(mxcsr)
            core.masksChanged(block)
            return .next
        }
    }

    private static func permitsFast(_ core: Core) -> Bool {
        if core.state.cr0 & CR0.emulation != 0 {
            _ = core.invalidOpcode()
        } else if core.state.cr0 & CR0.taskSwitched != 0 {
            _ = core.raise(.deviceNotAvailable)
        } else {
            return true
        }
        return false
    }

    // MARK: XSAVE and XRSTOR

    private static let x87Component: UInt64 = 1 << 0
    private static let sseComponent: UInt64 = 1 << 1
    /// XSTATE_BV's place in the area; XCOMP_BV follows, then 48 bytes.
    private static let header: UInt64 = 512
    private static let areaBytes: UInt64 = 576

    private static let extendedSave: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard permitsExtended(core),
                let address = area(core, op, areaBytes, 64, write: true),
                let old = core.read(UInt64.self, linear: core.advance(address, header))
            else { return .fault }
            let mask = requested(core)
            if mask & x87Component != 0 {
                guard writeX87(core, block, address) else { return .fault }
            }
            if mask & sseComponent != 0 {
                guard writeMXCSR(core, block, address), writeXMM(core, block, address) else {
                    return .fault
                }
            }
            return core.write(old | mask, linear: core.advance(address, header)) ? .next : .fault
        }
    }

    private static let extendedRestore: Handler = {
        plain($0, $1) { core, op in
            guard permitsExtended(core),
                let address = area(core, op, areaBytes, 64, write: false)
            else { return .fault }
            return restoreExtended(core, VectorBlock(op.immediate), address)
        }
    }

    /// SDM Vol. 1 §13.8.1: the standard form; the compacted one is not there, and faults.
    private static func restoreExtended(
        _ core: Core, _ block: VectorBlock, _ address: UInt64
    ) -> Status {
        guard let present = core.read(UInt64.self, linear: core.advance(address, header)),
            let compaction = core.read(UInt64.self, linear: core.advance(address, header + 8)),
            let reserved = core.read(UInt64.self, linear: core.advance(address, header + 16))
        else { return .fault }
        guard compaction == 0, reserved == 0, present & ~core.state.xcr0 == 0 else {
            return core.generalProtection()
        }
        let mask = requested(core)
        if mask & sseComponent != 0 {
            // MXCSR is loaded whether or not XSTATE_BV has the component.
            guard let mxcsr = readMXCSR(core, address) else { return .fault }
            block.setMXCSR(mxcsr)
            if present & sseComponent == 0 {
                for number in UInt8(0)..<xmmCount(core) {
                    block[VectorBlock.xmm(number)] = UInt64(0)
                    block[VectorBlock.xmm(number) + 8] = UInt64(0)
                }
            } else if !readXMM(core, block, address) {
                return .fault
            }
        }
        if mask & x87Component != 0 {
            if present & x87Component == 0 {
                block.initializeX87()
                for index in UInt8(0)..<8 { block.setRegister(index, 0, 0) }
            } else if !readX87(core, block, address) {
                return .fault
            }
        }
        core.masksChanged(block)
        return .next
    }

    private static func permitsExtended(_ core: Core) -> Bool {
        if core.state.cr4 & CR4.osXSAVE == 0 {
            _ = core.invalidOpcode()
        } else if core.state.cr0 & CR0.taskSwitched != 0 {
            _ = core.raise(.deviceNotAvailable)
        } else {
            return true
        }
        return false
    }

    /// RFBM: the components that EDX:EAX asks for and XCR0 enables.
    private static func requested(_ core: Core) -> UInt64 {
        (core[.rdx] << 32 | core[.rax] & 0xffff_ffff) & core.state.xcr0
            & (x87Component | sseComponent)
    }

    // MARK: Parts of the area. `area` probed it: no access below fails half-way.

    private static func area(
        _ core: Core, _ op: OpRef, _ size: UInt64, _ alignment: UInt64, write: Bool
    ) -> UInt64? {
        guard
            let address = core.vectorAddress(op, size: size, alignment: alignment, write: write),
            core.processor.probe(address, size: Int(size), write: write)
        else { return nil }
        return address
    }

    private static func xmmCount(_ core: Core) -> UInt8 { core.is64 ? 16 : 8 }

    private static func writeX87(_ core: Core, _ block: VectorBlock, _ address: UInt64) -> Bool {
        let words =
            UInt64(block.fcw) | UInt64(block.fsw) << 16 | UInt64(block.abridgedTags) << 32
        guard core.write(words, linear: address),
            core.write(UInt64(0), linear: core.advance(address, 8)),
            core.write(UInt64(0), linear: core.advance(address, 16))
        else { return false }
        for index in UInt8(0)..<8 {
            let value = block.register(index)
            let place = core.advance(address, 32 + UInt64(index) * 16)
            guard core.write16(value.mantissa, UInt64(value.exponent), linear: place) else {
                return false
            }
        }
        return true
    }

    private static func readX87(_ core: Core, _ block: VectorBlock, _ address: UInt64) -> Bool {
        guard let words = core.read(UInt64.self, linear: address) else { return false }
        for index in UInt8(0)..<8 {
            let place = core.advance(address, 32 + UInt64(index) * 16)
            guard let value = core.read16(linear: place) else { return false }
            block.setRegister(index, value.low, UInt16(truncatingIfNeeded: value.high))
        }
        block.fcw = UInt16(truncatingIfNeeded: words) & 0x1f3f | 0x40
        block.setFSW(UInt16(truncatingIfNeeded: words >> 16))
        block.abridgedTags = UInt8(truncatingIfNeeded: words >> 32)
        return true
    }

    private static func writeMXCSR(_ core: Core, _ block: VectorBlock, _ address: UInt64) -> Bool {
        core.write(
            UInt64(block.mxcsr) | UInt64(VectorBlock.mxcsrMask) << 32,
            linear: core.advance(address, 24))
    }

    /// MXCSR from the area; nil after a fault, #GP(0) for reserved bits among them.
    private static func readMXCSR(_ core: Core, _ address: UInt64) -> UInt32? {
        guard let value = core.read(UInt32.self, linear: core.advance(address, 24)) else {
            return nil
        }
        guard value & ~VectorBlock.mxcsrMask == 0 else {
            _ = core.generalProtection()
            return nil
        }
        return value
    }

    private static func writeXMM(_ core: Core, _ block: VectorBlock, _ address: UInt64) -> Bool {
        for number in UInt8(0)..<xmmCount(core) {
            let offset = VectorBlock.xmm(number)
            let place = core.advance(address, 160 + UInt64(number) * 16)
            guard core.write16(block[offset], block[offset + 8], linear: place) else {
                return false
            }
        }
        return true
    }

    private static func readXMM(_ core: Core, _ block: VectorBlock, _ address: UInt64) -> Bool {
        for number in UInt8(0)..<xmmCount(core) {
            let offset = VectorBlock.xmm(number)
            let place = core.advance(address, 160 + UInt64(number) * 16)
            guard let value = core.read16(linear: place) else { return false }
            block[offset] = value.low
            block[offset + 8] = value.high
        }
        return true
    }
}
