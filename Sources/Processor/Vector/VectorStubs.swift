import X86

/// The handlers of instructions that a stub executes.
///
/// Their ops hold the block's address in `immediate`, the stub's distance in `a` and `b`, the size
/// in bytes of the memory operand in `width`, and `VectorCode` bits.
enum VectorStubs {
    /// Registers only, no flags: most of SSE.
    static let registers: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block) else { return .fault }
            let exceptions = block.run(stub(op), core)
            core.notePointers(op, block)
            return exceptions == 0 ? .next : core.raiseSIMD(exceptions, block)
        }
    }

    /// A source in memory, no flags.
    static let load: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(op.code, block),
                let address = core.vectorAddress(
                    op, size: UInt64(op.width), alignment: alignment(op), write: false),
                core.fillOperand(block, linear: address, size: op.width)
            else { return .fault }
            let exceptions = block.run(stub(op), core)
            core.notePointers(op, block)
            return exceptions == 0 ? .next : core.raiseSIMD(exceptions, block)
        }
    }

    /// Everything else: stores, and whatever reads or writes EFLAGS.
    static let general: Handler = {
        plain($0, $1) { core, op in execute(core, op) }
    }

    /// The memory for stubs was full when this was decoded: all decoded code goes, stubs with it,
    /// and the instruction is decoded again. The ops of the block that ends here stay readable
    /// until the next one is decoded.
    static let missing: Handler = {
        plain($0, $1) { core, _ in
            core.processor.blocks.removeAll()
            core.processor.vector.flush()
            return .again
        }
    }

    private static func execute(_ core: Core, _ op: OpRef) -> Status {
        let block = VectorBlock(op.immediate)
        let code = op.code
        guard core.permitsVector(code, block) else { return .fault }
        var address: UInt64 = 0
        if code & (VectorCode.reads | VectorCode.writes) != 0 {
            let write = code & VectorCode.writes != 0
            guard
                let linear = core.vectorAddress(
                    op, size: UInt64(op.width), alignment: alignment(op), write: write)
            else { return .fault }
            address = linear
            if code & VectorCode.reads != 0,
                !core.fillOperand(block, linear: address, size: op.width)
            {
                return .fault
            }
            if code & VectorCode.probes != 0,
                !core.processor.probe(address, size: Int(op.width), write: true)
            {
                return .fault
            }
        }
        if code & VectorCode.readsFlags != 0 { block[VectorBlock.flags] = core.flagsForHost }
        let exceptions = block.run(stub(op), core)
        if exceptions != 0 { return core.raiseSIMD(exceptions, block) }
        core.notePointers(op, block)
        if code & VectorCode.x87 != 0, block.x87Suppressed {
            // The exception is pending now; neither memory nor EFLAGS get a result.
            return .next
        }
        if code & VectorCode.writes != 0,
            !core.storeOperand(block, linear: address, size: op.width)
        {
            return .fault
        }
        if code & VectorCode.writesFlags != 0 {
            core.setArithmeticFlags(block[VectorBlock.flags])
        }
        return .next
    }

    @inline(__always)
    private static func stub(_ op: OpRef) -> UInt32 { UInt32(op.a) | UInt32(op.b) << 16 }

    @inline(__always)
    private static func alignment(_ op: OpRef) -> UInt64 {
        op.code & VectorCode.aligned != 0 ? 16 : 1
    }
}

extension Core {
    /// The guest's arithmetic flags as an RFLAGS that the host may load.
    var flagsForHost: UInt64 { arithmeticFlags | RFLAGS.interruptEnable | RFLAGS.alwaysOne }

    /// Records FIP of an x87 instruction that a stub has executed and, where it has left an
    /// unmasked exception, FOP and FDP.
    @inline(__always)
    fileprivate func notePointers(_ op: OpRef, _ block: VectorBlock) {
        guard op.code & VectorCode.x87 != 0 else { return }
        let offset = UInt32(op.nextOffset) &- UInt32(op.length)
        block.setInstructionPointer(state.registers[17], offset: offset)
        // None was pending before, or it would not have run.
        guard block.fsw & X87Status.errorSummary != 0 else { return }
        block[VectorBlock.opcode] =
            UInt16(op.sourceWidth) | (op.code >> VectorCode.variantShift & 7) << 8
        if op.code & (VectorCode.reads | VectorCode.writes) != 0 {
            block[VectorBlock.operandPointer] = effectiveAddress(op)
        }
    }
}

extension VectorBlock {
    /// Whether the x87 instruction that ran just now raised an unmasked exception that keeps its
    /// result from being stored: any but an inexact result (SDM Vol. 1 §8.5). None was pending
    /// before, or it would not have run.
    @inline(__always) var x87Suppressed: Bool {
        fsw & X87Status.errorSummary != 0 && fsw & ~fcw & 0x1f != 0
    }
}
