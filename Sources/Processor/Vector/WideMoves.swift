import CZydis
import X86

/// The handlers of AVX instructions: of those that a stub executes, and of those that touch memory
/// by elements, or state alone.
enum WideMoves {
    /// Sets the op's handler if the instruction is none for a stub.
    static func select(_ instruction: Instruction, _ op: inout Op) -> Bool {
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_VZEROUPPER: op.handler = zeroUpper
        case ZYDIS_MNEMONIC_VZEROALL: op.handler = zeroAll
        case ZYDIS_MNEMONIC_VLDMXCSR: op.handler = loadMXCSR
        case ZYDIS_MNEMONIC_VSTMXCSR: op.handler = storeMXCSR
        case ZYDIS_MNEMONIC_VMASKMOVPS, ZYDIS_MNEMONIC_VPMASKMOVD:
            selectMasked(instruction, &op, element: 4)
        case ZYDIS_MNEMONIC_VMASKMOVPD, ZYDIS_MNEMONIC_VPMASKMOVQ:
            selectMasked(instruction, &op, element: 8)
        case ZYDIS_MNEMONIC_VMASKMOVDQU:
            op.a = number(instruction[0])
            op.b = number(instruction[1])
            op.segment = instruction.implicitSegment
            op.handler = storeBytes
        default: return WideGather.select(instruction, &op)
        }
        return true
    }

    private static func number(_ operand: Operand) -> UInt16 {
        UInt16(WideSelection.vector(operand.register) ?? 0)
    }

    /// Whether XCR0, CR4 and CR0 allow the instruction; raises #UD or #NM if not
    /// (SDM Vol. 2A §2.4).
    static func permits(_ core: Core) -> Bool {
        let components = ExtendedState.sse | ExtendedState.avx
        return core.permitsState(
            isDefined: core.state.cr4 & CR4.osXSAVE != 0
                && core.state.xcr0 & components == components)
    }

    // MARK: Stubs

    static let execute: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard permits(core) else { return .fault }
            var address: UInt64 = 0
            let size = UInt64(op.width)
            let writes = op.code & VectorCode.writes != 0
            if writes || op.code & VectorCode.reads != 0 {
                guard
                    let linear = core.vectorAddress(
                        op, size: size,
                        alignment: op.code & VectorCode.aligned != 0 ? size : 1, write: writes)
                else { return .fault }
                address = linear
                guard
                    writes
                        ? core.processor.probe(address, size: Int(size), write: true)
                        : fill(core, block, address, op.width)
                else { return .fault }
            }
            let exceptions = block.run(UInt32(op.a) | UInt32(op.b) << 16, core)
            if exceptions != 0 { return core.raiseSIMD(exceptions, block) }
            if writes, !store(core, block, address, op.width) { return .fault }
            if op.code & VectorCode.writesFlags != 0 {
                core.setArithmeticFlags(block[VectorBlock.flags])
            }
            return .next
        }
    }

    private static func fill(
        _ core: Core, _ block: VectorBlock, _ address: UInt64, _ size: UInt8
    ) -> Bool {
        guard size == 32 else { return core.fillOperand(block, linear: address, size: size) }
        // In this order: of two missing pages a fault names the first.
        guard let low = core.read16(linear: address),
            let high = core.read16(linear: core.advance(address, 16))
        else { return false }
        block[0] = low.low
        block[8] = low.high
        block[16] = high.low
        block[24] = high.high
        return true
    }

    private static func store(
        _ core: Core, _ block: VectorBlock, _ address: UInt64, _ size: UInt8
    ) -> Bool {
        guard size == 32 else { return core.storeOperand(block, linear: address, size: size) }
        return core.write16(block[0], block[8], linear: address)
            && core.write16(block[16], block[24], linear: core.advance(address, 16))
    }

    // MARK: State

    private static let zeroUpper: Handler = {
        plain($0, $1) { core, op in
            guard permits(core) else { return .fault }
            let block = VectorBlock(op.immediate)
            for number in UInt8(0)..<StateImages.xmmCount(core) { block.clearUpper(number) }
            return .next
        }
    }

    private static let zeroAll: Handler = {
        plain($0, $1) { core, op in
            guard permits(core) else { return .fault }
            let block = VectorBlock(op.immediate)
            for number in UInt8(0)..<StateImages.xmmCount(core) {
                block[VectorBlock.xmm(number)] = UInt64(0)
                block[VectorBlock.xmm(number) + 8] = UInt64(0)
                block.clearUpper(number)
            }
            return .next
        }
    }

    private static let loadMXCSR: Handler = {
        plain($0, $1) { core, op in
            guard permits(core), let value = core.readMemory(UInt32.self, op) else {
                return .fault
            }
            guard value & ~VectorBlock.mxcsrMask == 0 else { return core.generalProtection() }
            let block = VectorBlock(op.immediate)
            block.setMXCSR(value)
            core.masksChanged(block)
            return .next
        }
    }

    private static let storeMXCSR: Handler = {
        plain($0, $1) { core, op in
            guard permits(core), core.writeMemory(VectorBlock(op.immediate).mxcsr, op) else {
                return .fault
            }
            return .next
        }
    }

    // MARK: Masked moves. `a`: the register; `b`: the mask; `width`: bytes; `code`: an element's.

    private static func selectMasked(
        _ instruction: Instruction, _ op: inout Op, element: UInt16
    ) {
        let writes = instruction[0].isMemory
        op.a = number(instruction[writes ? 2 : 0])
        op.b = number(instruction[1])
        op.code = element
        let wide =
            UInt32(instruction[1].register.rawValue) &- UInt32(ZYDIS_REGISTER_YMM0.rawValue) < 16
        op.width = wide ? 32 : 16
        op.handler = writes ? storeMasked : loadMasked
    }

    /// Elements whose mask has its sign bit clear are not accessed, and become zero.
    private static let loadMasked: Handler = {
        plain($0, $1) { core, op in
            guard permits(core) else { return .fault }
            let block = VectorBlock(op.immediate)
            var result = InlineArray<4, UInt64>(repeating: 0)
            for offset in stride(from: UInt16(0), to: UInt16(op.width), by: Int(op.code))
            where isSelected(block, op, offset) {
                guard let address = elementAddress(core, op, offset, write: false) else {
                    return .fault
                }
                if op.code == 8 {
                    guard let value = core.read(UInt64.self, linear: address) else {
                        return .fault
                    }
                    result[Int(offset >> 3) & 3] = value
                } else {
                    guard let value = core.read(UInt32.self, linear: address) else {
                        return .fault
                    }
                    result[Int(offset >> 3) & 3] |= UInt64(value) << UInt64((offset & 4) << 3)
                }
            }
            for index in UInt16(0)..<4 {
                block[VectorBlock.wide(op.a, index &* 8)] = result[Int(index)]
            }
            return .next
        }
    }

    private static let storeMasked: Handler = {
        plain($0, $1) { core, op in
            guard permits(core) else { return .fault }
            let block = VectorBlock(op.immediate)
            let elements = stride(from: UInt16(0), to: UInt16(op.width), by: Int(op.code))
            for offset in elements where isSelected(block, op, offset) {
                guard let address = elementAddress(core, op, offset, write: true),
                    core.processor.probe(address, size: Int(op.code), write: true)
                else { return .fault }
            }
            for offset in elements where isSelected(block, op, offset) {
                guard let address = elementAddress(core, op, offset, write: true) else {
                    return .fault
                }
                let place = VectorBlock.wide(op.a, offset)
                let done =
                    op.code == 8
                    ? core.write(block[place, as: UInt64.self], linear: address)
                    : core.write(block[place, as: UInt32.self], linear: address)
                guard done else { return .fault }
            }
            return .next
        }
    }

    private static func isSelected(_ block: VectorBlock, _ op: OpRef, _ offset: UInt16) -> Bool {
        block[VectorBlock.wide(op.b, offset &+ op.code &- 1), as: UInt8.self] >> 7 != 0
    }

    private static func elementAddress(
        _ core: Core, _ op: OpRef, _ offset: UInt16, write: Bool
    ) -> UInt64? {
        core.linearAddress(
            op.segment, core.effectiveAddress(op) &+ UInt64(offset), size: UInt64(op.code),
            write: write)
    }

    /// VMASKMOVDQU: bytes at DS:rDI.
    private static let storeBytes: Handler = {
        plain($0, $1) { core, op in
            guard permits(core) else { return .fault }
            return MaskedMoves.storeSelected(
                core, op, value: VectorBlock.xmm(UInt8(truncatingIfNeeded: op.a)),
                mask: VectorBlock.xmm(UInt8(truncatingIfNeeded: op.b)), bytes: 16)
                ? .next : .fault
        }
    }
}

/// The gathers of AVX2: elements at addresses that a vector of indices makes.
///
/// `a` is the destination, `b` the mask, `code` the index register (3…0), whether elements and
/// indices have 8 bytes (4, 5), and how many elements there are (11…8).
enum WideGather {
    static func select(_ instruction: Instruction, _ op: inout Op) -> Bool {
        let isWide: Bool
        let hasWideIndex: Bool
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_VPGATHERDD, ZYDIS_MNEMONIC_VGATHERDPS:
            (isWide, hasWideIndex) = (false, false)
        case ZYDIS_MNEMONIC_VPGATHERQD, ZYDIS_MNEMONIC_VGATHERQPS:
            (isWide, hasWideIndex) = (false, true)
        case ZYDIS_MNEMONIC_VPGATHERDQ, ZYDIS_MNEMONIC_VGATHERDPD:
            (isWide, hasWideIndex) = (true, false)
        case ZYDIS_MNEMONIC_VPGATHERQQ, ZYDIS_MNEMONIC_VGATHERQPD:
            (isWide, hasWideIndex) = (true, true)
        default: return false
        }
        guard case .memory(let memory) = instruction[1],
            let index = WideSelection.vector(memory.index),
            let target = WideSelection.vector(instruction[0].register),
            let mask = WideSelection.vector(instruction[2].register),
            index != target, index != mask, mask != target, let prefix = VEX(instruction)
        else { return false }
        // As many as the wider of elements and indices has in the vector's length.
        let length: UInt16 = prefix.last & 4 != 0 ? 32 : 16
        let count = length / (isWide || hasWideIndex ? 8 : 4)
        op.a = UInt16(target)
        op.b = UInt16(mask)
        op.code = UInt16(index) | (isWide ? 16 : 0) | (hasWideIndex ? 32 : 0) | count << 8
        op.handler = gather
        return true
    }

    /// Elements are loaded in order, each with its mask cleared: where one faults, those before it
    /// are done (SDM Vol. 2B, VPGATHERDD).
    private static let gather: Handler = {
        plain($0, $1) { core, op in
            guard WideMoves.permits(core) else { return .fault }
            let block = VectorBlock(op.immediate)
            let index = op.code & 15
            let isWide = op.code & 16 != 0
            let bytes: UInt16 = isWide ? 8 : 4
            let count = op.code >> 8
            for element in 0..<count {
                let place = element &* bytes
                let mask = VectorBlock.wide(op.b, place)
                guard block[mask + bytes - 1, as: UInt8.self] >> 7 != 0 else { continue }
                let distance: UInt64
                if op.code & 32 != 0 {
                    distance = block[VectorBlock.wide(index, element &* 8)]
                } else {
                    let narrow: Int32 = block[VectorBlock.wide(index, element &* 4)]
                    distance = UInt64(bitPattern: Int64(narrow))
                }
                guard load(core, op, distance, to: VectorBlock.wide(op.a, place), isWide, block)
                else { return .fault }
                if isWide { block[mask] = UInt64(0) } else { block[mask] = UInt32(0) }
            }
            // The mask becomes zero, and what lies above the elements.
            for offset in stride(from: UInt16(0), to: 32, by: 4) {
                block[VectorBlock.wide(op.b, offset)] = UInt32(0)
                if offset >= count &* bytes { block[VectorBlock.wide(op.a, offset)] = UInt32(0) }
            }
            return .next
        }
    }

    private static func load(
        _ core: Core, _ op: OpRef, _ distance: UInt64, to place: UInt16, _ isWide: Bool,
        _ block: VectorBlock
    ) -> Bool {
        var offset = core.effectiveAddress(op) &+ distance &<< UInt64(op.scale)
        if op.addressing & OpAddressing.address32 != 0 { offset &= 0xffff_ffff }
        guard
            let address = core.linearAddress(
                op.segment, offset, size: isWide ? 8 : 4, write: false)
        else { return false }
        if isWide {
            guard let value = core.read(UInt64.self, linear: address) else { return false }
            block[place] = value
        } else {
            guard let value = core.read(UInt32.self, linear: address) else { return false }
            block[place] = value
        }
        return true
    }
}
