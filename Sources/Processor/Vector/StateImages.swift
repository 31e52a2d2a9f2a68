import CZydis
import X86

/// FXSAVE, FXRSTOR, LDMXCSR and STMXCSR, and the parts of XSAVE's area that are laid out as
/// FXSAVE's.
enum StateImages {
    /// Sets the op's handler if the instruction is one of these.
    static func select(
        _ instruction: Instruction, _ op: inout Op, _ model: ProcessorModel
    ) -> Bool {
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXSAVE64: op.handler = fastSave
        case ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64: op.handler = fastRestore
        case ZYDIS_MNEMONIC_LDMXCSR: op.handler = loadMXCSR
        case ZYDIS_MNEMONIC_STMXCSR: op.handler = storeMXCSR
        default: return ExtendedSave.select(instruction, &op, model)
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
                writeX87(core, op, block, address), writeMXCSR(core, block, address),
                writeXMM(core, block, address)
            else { return .fault }
            return .next
        }
    }

    private static let fastRestore: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard permitsFast(core), let address = area(core, op, 512, 16, write: false),
                let mxcsr = readMXCSR(core, address), readX87(core, op, block, address),
                readXMM(core, block, address)
            else { return .fault }
            block.setMXCSR(mxcsr)
            core.masksChanged(block)
            return .next
        }
    }

    private static func permitsFast(_ core: Core) -> Bool {
        core.permitsState(isDefined: core.state.cr0 & CR0.emulation == 0)
    }

    // MARK: Parts of the area. `area` probed it: no access below fails half-way.

    static func area(
        _ core: Core, _ op: OpRef, _ size: UInt64, _ alignment: UInt64, write: Bool
    ) -> UInt64? {
        guard
            let address = core.vectorAddress(op, size: size, alignment: alignment, write: write),
            core.processor.probe(address, size: Int(size), write: write)
        else { return nil }
        return address
    }

    static func xmmCount(_ core: Core) -> UInt8 { core.is64 ? 16 : 8 }

    /// The pointers have 64 bits with REX.W, otherwise 32, with FCS or FDS, which are zero, behind.
    private static func pointerMask(_ op: OpRef) -> UInt64 {
        op.has(OpPrefix.rexW) ? .max : 0xffff_ffff
    }

    static func writeX87(
        _ core: Core, _ op: OpRef, _ block: VectorBlock, _ address: UInt64
    ) -> Bool {
        let words =
            UInt64(block.fcw) | UInt64(block.fsw) << 16 | UInt64(block.abridgedTags) << 32
            | UInt64(block[VectorBlock.opcode, as: UInt16.self]) << 48
        let mask = pointerMask(op)
        guard core.write(words, linear: address),
            core.write(block.instructionPointer & mask, linear: core.advance(address, 8)),
            core.write(
                block[VectorBlock.operandPointer] & mask, linear: core.advance(address, 16))
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

    static func readX87(
        _ core: Core, _ op: OpRef, _ block: VectorBlock, _ address: UInt64
    ) -> Bool {
        guard let words = core.read(UInt64.self, linear: address),
            let instruction = core.read(UInt64.self, linear: core.advance(address, 8)),
            let operand = core.read(UInt64.self, linear: core.advance(address, 16))
        else { return false }
        for index in UInt8(0)..<8 {
            let place = core.advance(address, 32 + UInt64(index) * 16)
            guard let value = core.read16(linear: place) else { return false }
            block.setRegister(index, value.low, UInt16(truncatingIfNeeded: value.high))
        }
        block.fcw = UInt16(truncatingIfNeeded: words) & 0x1f3f | 0x40
        block.setFSW(UInt16(truncatingIfNeeded: words >> 16))
        block.abridgedTags = UInt8(truncatingIfNeeded: words >> 32)
        block[VectorBlock.opcode] = UInt16(truncatingIfNeeded: words >> 48) & 0x7ff
        block.instructionPointer = instruction & pointerMask(op)
        block[VectorBlock.operandPointer] = operand & pointerMask(op)
        core.signalPendingError(block)
        return true
    }

    static func writeMXCSR(_ core: Core, _ block: VectorBlock, _ address: UInt64) -> Bool {
        core.write(
            UInt64(block.mxcsr) | UInt64(VectorBlock.mxcsrMask) << 32,
            linear: core.advance(address, 24))
    }

    /// MXCSR from the area; nil after a fault, #GP(0) for reserved bits among them.
    static func readMXCSR(_ core: Core, _ address: UInt64) -> UInt32? {
        guard let value = core.read(UInt32.self, linear: core.advance(address, 24)) else {
            return nil
        }
        guard value & ~VectorBlock.mxcsrMask == 0 else {
            _ = core.generalProtection()
            return nil
        }
        return value
    }

    static func writeXMM(_ core: Core, _ block: VectorBlock, _ address: UInt64) -> Bool {
        for number in UInt8(0)..<xmmCount(core) {
            let offset = VectorBlock.xmm(number)
            let place = core.advance(address, 160 + UInt64(number) * 16)
            guard core.write16(block[offset], block[offset + 8], linear: place) else {
                return false
            }
        }
        return true
    }

    static func readXMM(_ core: Core, _ block: VectorBlock, _ address: UInt64) -> Bool {
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
