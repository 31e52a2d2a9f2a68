import MachineMemory
import X86

/// How the run loop uses translations.
extension Processor {
    /// Where to enter the translation of a block for the present rights; nil where it is to be
    /// interpreted.
    @inline(__always)
    func translated(_ block: BlockRef, _ memory: TranslationMemory) -> UInt? {
        guard core.state.mode == .long64, !observesUses, block.secondFrame == .max else {
            return nil
        }
        let bank = Int((core.state.bank &- core.state.supervisorBank) / UInt(SoftwareTLB.bankBytes))
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
        blocks.jumps.remember(
            core.state.rip, bank: bank, host: far, frame: block.machine >> 12)
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
        var decoder = InstructionDecoder(.long64, model)
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
        let assemblers = translationAssemblers
        translationAssemblers = (Assembler(), Assembler())
        var translator = BlockTranslator(
            memory, assemblers.0, cold: assemblers.1, block, bank: bank,
            hasSMAP: model.has(.smap), keepsStarts: translationObserver != nil, instructions)
        let near = translator.translate()
        translationAssemblers = (translator.assembler, translator.cold)
        let name = memory.append(
            translator.assembler.code, cold: translator.cold.code, near: near)
        block[translation: bank] = name
        guard name != 0 else { return 0 }
        memory.succeed(name, block.machine, bank: bank)
        tellTranslation(
            block, bank, bytes, translator, host: memory.base &+ UInt(name) &- UInt(near))
        return name
    }

    private func tellTranslation(
        _ block: BlockRef, _ bank: Int, _ guestCode: [UInt8], _ translator: BlockTranslator,
        host: UInt
    ) {
        guard let translationObserver else { return }
        var offset = 0
        let parts = zip(translator.instructions, translator.starts).map { instruction, start in
            defer { offset += Int(instruction.length) }
            return TranslatedBlock.Part(guestOffset: offset, hostOffset: start)
        }
        translationObserver(
            TranslatedBlock(
                processor: index, address: GuestVirtualAddress(core.state.rip),
                machine: MachineAddress(block.machine), isUser: bank == SoftwareTLB.user,
                guestCode: guestCode, hostAddress: host, hostCode: translator.assembler.code,
                parts: parts, coldAddress: translator.cold.origin,
                coldCode: translator.cold.code))
    }

    /// Runs translated code from RIP on, and goes on wherever it leaves with nothing to be done,
    /// until something is, or the instructions up to `limit` are used up.
    func runTranslated(_ far: UInt, limit: UInt64, _ memory: TranslationMemory) -> Status {
        // What remains is compared as a signed number.
        let limit = min(limit, core.state.retired &+ 1 << 62)
        core.state.runLimit = limit
        var far = far
        while true {
            core.state.remaining = limit &- core.state.retired
            core.state.blockEnd = .max
            core.state.chainSite = 0
            core.state.xmmAbsent = 1
            core.state.x87Absent = 1
            let status = left(memory.enter(core, far), limit, memory)
            guard status == .next || status == .jump, let next = successor(limit, memory) else {
                return status
            }
            far = next
        }
    }

    /// Brings RIP and the retired count up to date after translated code was left.
    @inline(__always)
    private func left(_ status: Status, _ limit: UInt64, _ memory: TranslationMemory) -> Status {
        if status == .between {
            core.state.retired = limit &- core.state.remaining
            if core.state.chainSite != 0 {
                let bank = (core.state.bank &- core.state.supervisorBank)
                memory.pending = .init(
                    site: core.state.chainSite, target: core.state.chainTarget,
                    bank: Int(bank / UInt(SoftwareTLB.bankBytes)))
            }
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
            core.restoreShadow()
            if core.state.pendingNonCanonical { refineNonCanonical(last) }
        }
        return status
    }

    /// Where to go on at RIP, if the run loop would do nothing but that and find it at once.
    @inline(__always)
    private func successor(_ limit: UInt64, _ memory: TranslationMemory) -> UInt? {
        guard core.state.pending == .none, core.state.mode == .long64, isUndisturbed(limit),
            !isSurrounded, let block = known(core.state.rip),
            block.count <= limit &- core.state.retired
        else { return nil }
        return translated(block, memory)
    }
}
