import CZydis
import MachineMemory
import X86

/// Instruction fetch: finding the block at RIP, decoding it where it is new.
extension Processor {
    /// The block at CS:RIP; nil after raising a fault or an exit.
    @inline(__always)
    func block(at rip: UInt64) -> BlockRef? {
        let linear =
            core.state.mode == .long64 ? rip : (rip &+ core[.cs].base) & 0xffff_ffff
        let found = blocks.lookup(
            linear, BlockCache.context(core.state.mode, user: core.state.cpl == 3))
        if found != 0 { return BlockRef(found) }
        return fetch(linear)
    }

    @inline(never)
    private func fetch(_ linear: UInt64) -> BlockRef? {
        let mode = core.state.mode
        if mode != .long64, core.state.rip > UInt64(core[.cs].limit) {
            _ = core.generalProtection()
            return nil
        }
        let kind: AccessKind = core.state.cpl == 3 ? [.fetch, .user] : .fetch
        let context = BlockCache.context(mode, user: kind.contains(.user))
        guard let machine = translate(linear, kind) else { return nil }
        let isGlobal = lastIsGlobal
        let former = blocks.formerly(linear, at: machine, mode)
        let known = former != 0 ? former : blocks.find(machine, mode)
        if known != 0 {
            let block = BlockRef(known)
            if block.secondFrame == .max {
                if !observesUses { blocks.remember(linear, context, known, isGlobal: isGlobal) }
                return block
            }
            guard let second = translate(nextPage(linear, mode), kind) else { return nil }
            if second >> 12 == block.secondFrame {
                if !observesUses {
                    blocks.remember(
                        linear, context, known, isGlobal: isGlobal && lastIsGlobal)
                }
                return block
            }
            // The second page is another one now: decode anew.
            blocks.drop(frame: block.secondFrame)
        }
        if !blocks.hasRoom || vector.isFull || blocks.translations?.hasRoom == false {
            blocks.removeAll()
            vector.flush()
            core.state.shadowedOp = 0
        }
        return decode(linear, machine, mode, kind, isGlobal: isGlobal)
    }

    /// The linear address at which the page after the one of `linear` starts.
    private func nextPage(_ linear: UInt64, _ mode: CodeMode) -> UInt64 {
        let next = (linear & ~0xfff) &+ pageSize
        return mode == .long64 ? next : next & 0xffff_ffff
    }

    /// Decodes the block at a linear address that lies at a machine address.
    private func decode(
        _ linear: UInt64, _ machine: UInt64, _ mode: CodeMode, _ kind: AccessKind, isGlobal: Bool
    ) -> BlockRef? {
        guard memory.isMemory(MachineAddress(machine), size: 1) else {
            // Nothing to execute behind this address: the bus floats high, and FF FF is undefined.
            _ = core.invalidOpcode()
            return nil
        }
        var isGlobal = isGlobal
        let start = Int(machine & 0xfff)
        let inPage = Int(pageSize) - start
        guard let page = memory.read(at: MachineAddress(machine), count: inPage) else {
            _ = core.invalidOpcode()
            return nil
        }
        var decoder = InstructionDecoder(mode, model)
        var ops: [Op] = []
        ops.reserveCapacity(BlockCache.maximumOps)
        var offset = 0
        var secondFrame: UInt64?
        var followsSTI = false
        decoding: while ops.count < BlockCache.maximumOps && offset < inPage {
            let end = min(offset + 15, inPage)
            switch decoder.decode(page.span.extracting(offset..<end)) {
            case .instruction(let instruction):
                offset += Int(instruction.length)
                if followsSTI { ops[ops.count - 1].code = FlagInstructions.hasFollower }
                followsSTI = instruction.mnemonic == ZYDIS_MNEMONIC_STI
                ops.append(makeOp(instruction, mode, nextOffset: start + offset))
                if endsBlock(instruction) { break decoding }
            case .tooLong:
                ops.append(undefinedOp(nextOffset: start + offset, Miscellaneous.tooLong))
                offset += 1
                break decoding
            case .invalid:
                // An undefined encoding ends the block. Its length matters to nobody.
                ops.append(undefinedOp(nextOffset: start + offset))
                offset += 1
                break decoding
            case .truncated:
                if end - offset == 15 {
                    ops.append(undefinedOp(nextOffset: start + offset, Miscellaneous.tooLong))
                    offset += 1
                    break decoding
                }
                // The instruction runs into the next page: a block of its own.
                if !ops.isEmpty { break decoding }
                guard let second = translate(nextPage(linear, mode), kind) else { return nil }
                isGlobal = isGlobal && lastIsGlobal
                guard let more = memory.read(at: MachineAddress(second), count: 15) else {
                    _ = core.invalidOpcode()
                    return nil
                }
                let bytes = Array((page + more).prefix(15))
                secondFrame = second >> 12
                switch decoder.decode(bytes.span) {
                case .instruction(let instruction):
                    offset = Int(instruction.length)
                    ops.append(makeOp(instruction, mode, nextOffset: start + offset))
                case .invalid:
                    ops.append(undefinedOp(nextOffset: start))
                    offset = inPage + 1
                case .truncated, .tooLong:
                    ops.append(undefinedOp(nextOffset: start, Miscellaneous.tooLong))
                    offset = inPage + 1
                }
                break decoding
            }
        }
        let block = blocks.insert(
            machine, mode, ops, length: offset, secondFrame: secondFrame)
        if !observesUses {
            blocks.remember(
                linear, BlockCache.context(mode, user: kind.contains(.user)), block,
                isGlobal: isGlobal)
        }
        return BlockRef(block)
    }
}
