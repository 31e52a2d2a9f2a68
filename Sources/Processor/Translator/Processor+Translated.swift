import MachineMemory
import X86

/// How the run loop uses translations.
extension Processor {
    /// Where to enter the translation of a block for the present rights; nil where it is to be
    /// interpreted.
    @inline(__always)
    func translated(_ block: BlockRef, _ memory: TranslationMemory) -> UInt? {
        guard core.state.mode == .long64, !observesUses, block.secondFrame == .max
        else { return nil }
        let bank = core.bankNumber
        guard bank < JumpTable.tableCount else { return nil }
        var name = block[translation: bank]
        if name == 0 {
            block.uses &+= 1
            guard block.uses >= usesBeforeTranslation else { return nil }
            name = translate(block, bank, memory)
            if name == 0 { return nil }
        }
        guard core.permits(block.vectors) else { return nil }
        if let pending = memory.pending {
            // Both ends lie in one page, and code of one page needs no look-up on its way to more.
            if pending.target == block.machine, pending.bank == bank {
                memory.chain(pending.site, to: name)
            }
            memory.pending = nil
        }
        let far = memory.far(name)
        let rip = core.state.rip
        blocks.jumps.remember(rip, bank: bank, host: far, isGlobal: blocks.isGlobal(rip))
        return far
    }

    /// Translates a block.
    /// - Returns: the translation's name; 0 where there is no room or the code cannot be read.
    @inline(never)
    private func translate(_ block: BlockRef, _ bank: Int, _ memory: TranslationMemory) -> UInt32 {
        guard memory.hasRoom,
            let bytes = self.memory.read(
                at: MachineAddress(block.machine), count: Int(block.length))
        else { return 0 }
        var decoder = InstructionDecoder(.long64)
        var instructions: [Instruction] = []
        instructions.reserveCapacity(Int(block.count))
        var offset = 0
        while instructions.count < Int(block.count), offset < bytes.count {
            let end = min(offset + 15, bytes.count)
            guard
                case .instruction(let instruction) = decoder.decode(
                    bytes.span.extracting(offset..<end))
            else { return 0 }
            instructions.append(instruction)
            offset += Int(instruction.length)
        }
        guard instructions.count == Int(block.count) else { return 0 }
        let assembler = translationAssembler
        translationAssembler = Assembler()
        var translator = BlockTranslator(memory, assembler, block, bank: bank, instructions)
        let near = translator.translate()
        translationAssembler = translator.assembler
        let name = memory.append(translator.assembler.code, near: near)
        block[translation: bank] = name
        if name != 0 { memory.succeed(name, block.machine, bank: bank) }
        return name
    }

    /// Runs translated code from RIP on, until something is left to be done or the instructions up
    /// to `limit` are used up.
    func runTranslated(_ far: UInt, limit: UInt64, _ memory: TranslationMemory) -> Status {
        // What remains is compared as a signed number.
        let limit = min(limit, core.state.retired &+ 1 << 62)
        core.state.runLimit = limit
        core.state.remaining = limit &- core.state.retired
        core.state.blockEnd = .max
        core.state.chainSite = 0
        core.state.shadowStart = .max
        core.state.xmmAbsent = 1
        core.state.x87Absent = 1
        let status = memory.enter(core, far)
        if status == .between {
            core.state.retired = limit &- core.state.remaining
            if core.state.chainSite != 0 {
                memory.pending = .init(
                    site: core.state.chainSite, target: core.state.chainTarget,
                    bank: core.bankNumber)
            }
            endShadow()
            return .jump
        }
        // A handler left: the retired count is that before its instruction.
        core.state.blockStart = 0
        let last = OpRef(core.state.currentOp)
        switch status {
        case .next:
            core.state.rip = core.nextRIP(last)
            core.state.retired &+= 1
        case .jump: core.state.retired &+= 1
        default:
            core.state.rip = core.currentRIP(last)
            if core.state.pendingNonCanonical { refineNonCanonical(last) }
        }
        endShadow()
        return status
    }

    /// An interrupt shadow that translated code went on in is over after one instruction.
    @inline(__always)
    private func endShadow() {
        if core.state.retired > core.state.shadowStart { core.state.interruptShadow = false }
    }

    /// Where translated code goes on after a handler that left the block for other rights, if
    /// nothing has to be looked at before; 0 if something has.
    /// - Parameter undone: of the instructions that were charged, those that the handler found not
    ///   retired.
    func redirected(_ status: Status, undone: UInt64) -> UInt {
        let core = core
        guard core.state.blockEnd == Core.otherRights, status == .next || status == .jump,
            core.state.pending == .none, core.state.mode == .long64, !core.debugActive,
            !core.state.isObserved, !stopRequested, !interruptRequested, !nmiRequested
        else { return 0 }
        let bank = core.bankNumber
        let rip = status == .next ? core.nextRIP(OpRef(core.state.currentOp)) : core.state.rip
        guard bank < JumpTable.tableCount else { return 0 }
        let far = blocks.jumps.find(rip, bank: bank)
        guard far != 0 else { return 0 }
        if core.state.interruptShadow {
            if core.state.shadowStart == .max {
                core.state.shadowStart = core.state.retired &+ 1
            } else {
                core.state.interruptShadow = false
                core.state.shadowStart = .max
            }
        }
        core.state.rip = rip
        core.state.remaining &+= undone &- 1
        core.state.blockStart = 0
        core.state.blockEnd = .max
        core.state.xmmAbsent = 1
        core.state.x87Absent = 1
        return far
    }
}

extension Core {
    /// The number of the software TLB's bank for explicit accesses.
    @inline(__always) var bankNumber: Int {
        Int((state.bank &- state.supervisorBank) / UInt(SoftwareTLB.bankBytes))
    }
}
