import CZydis
import X86

/// The x87 instructions that handle control, status and environment rather than numbers.
enum X87Control {
    /// Sets the op's handler if the instruction is one of these.
    static func select(_ instruction: Instruction, _ op: inout Op) -> Bool {
        let handler: Handler
        switch instruction.mnemonic {
        case ZYDIS_MNEMONIC_FWAIT: handler = wait
        case ZYDIS_MNEMONIC_FNSTCW: handler = storeControl
        case ZYDIS_MNEMONIC_FLDCW: handler = loadControl
        case ZYDIS_MNEMONIC_FNSTSW: handler = storeStatus
        case ZYDIS_MNEMONIC_FNCLEX: handler = clearExceptions
        case ZYDIS_MNEMONIC_FNINIT: handler = initialize
        case ZYDIS_MNEMONIC_FENI8087_NOP, ZYDIS_MNEMONIC_FDISI8087_NOP,
            ZYDIS_MNEMONIC_FSETPM287_NOP:
            handler = nothing
        case ZYDIS_MNEMONIC_FNSTENV: handler = storeEnvironment
        case ZYDIS_MNEMONIC_FLDENV: handler = loadEnvironment
        case ZYDIS_MNEMONIC_FNSAVE: handler = save
        case ZYDIS_MNEMONIC_FRSTOR: handler = restore
        default: return false
        }
        op.handler = handler
        if case .memory(let memory) = instruction[0] {
            // 14, 28, 94 or 108 bytes where there is an environment.
            op.width = UInt8(truncatingIfNeeded: memory.bytes)
        }
        return true
    }

    /// Whether CR0 allows an x87 instruction that ignores pending exceptions; raises #NM if not.
    private static func permitsUnwaiting(_ core: Core) -> Bool {
        if core.state.cr0 & (CR0.emulation | CR0.taskSwitched) == 0 { return true }
        _ = core.raise(.deviceNotAvailable)
        return false
    }

    private static let wait: Handler = {
        plain($0, $1) { core, op in
            let both = CR0.monitorCoprocessor | CR0.taskSwitched
            if core.state.cr0 & both == both { return core.raise(.deviceNotAvailable) }
            let block = VectorBlock(op.immediate)
            if block.fsw & X87Status.errorSummary == 0 { return .next }
            return core.passesPendingError(block) ? .next : .fault
        }
    }

    private static let nothing: Handler = {
        plain($0, $1) { core, _ in permitsUnwaiting(core) ? .next : .fault }
    }

    private static let storeControl: Handler = {
        plain($0, $1) { core, op in
            guard permitsUnwaiting(core),
                core.writeMemory(VectorBlock(op.immediate).fcw, op)
            else { return .fault }
            return .next
        }
    }

    private static let loadControl: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(VectorCode.x87, block),
                let value = core.readMemory(UInt16.self, op)
            else { return .fault }
            block.setFCW(value)
            core.signalPendingError(block)
            core.masksChanged(block)
            return .next
        }
    }

    private static let storeStatus: Handler = {
        plain($0, $1) { core, op in
            guard permitsUnwaiting(core) else { return .fault }
            let value = VectorBlock(op.immediate).fsw
            if op.destination == .memory { return core.writeMemory(value, op) ? .next : .fault }
            core.setRegister(0, value)
            return .next
        }
    }

    private static let clearExceptions: Handler = {
        plain($0, $1) { core, op in
            guard permitsUnwaiting(core) else { return .fault }
            let block = VectorBlock(op.immediate)
            block.fsw &= 0x7f00
            core.signalPendingError(block)
            return .next
        }
    }

    private static let initialize: Handler = {
        plain($0, $1) { core, op in
            guard permitsUnwaiting(core) else { return .fault }
            let block = VectorBlock(op.immediate)
            block.initializeX87()
            core.signalPendingError(block)
            return .next
        }
    }

    // MARK: The environment (SDM Vol. 1 §8.1.10)

    private static let storeEnvironment: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard permitsUnwaiting(core), let address = address(core, op, write: true),
                writeEnvironment(core, block, address, isLong: op.width == 28)
            else { return .fault }
            block.setFCW(block.fcw | X87Status.exceptions)
            core.signalPendingError(block)
            return .next
        }
    }

    private static let loadEnvironment: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard core.permitsVector(VectorCode.x87, block),
                let address = address(core, op, write: false),
                let environment = readEnvironment(core, address, isLong: op.width == 28)
            else { return .fault }
            block.fcw = environment.control & 0x1f3f | 0x40
            block.setFSWTurning(environment.status)
            block.fullTags = environment.tags
            environment.setPointers(block)
            core.signalPendingError(block)
            core.masksChanged(block)
            return .next
        }
    }

    private static let save: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            guard permitsUnwaiting(core), let address = address(core, op, write: true),
                writeEnvironment(core, block, address, isLong: op.width == 108)
            else { return .fault }
            let first: UInt64 = op.width == 108 ? 28 : 14
            for index in UInt8(0)..<8 {
                let value = block.register(index)
                let place = core.advance(address, first + UInt64(index) * 10)
                guard core.write(value.mantissa, linear: place),
                    core.write(value.exponent, linear: core.advance(place, 8))
                else { return .fault }
            }
            block.initializeX87()
            core.signalPendingError(block)
            return .next
        }
    }

    private static let restore: Handler = {
        plain($0, $1) { core, op in
            let block = VectorBlock(op.immediate)
            let first: UInt64 = op.width == 108 ? 28 : 14
            guard core.permitsVector(VectorCode.x87, block),
                let address = address(core, op, write: false),
                let environment = readEnvironment(core, address, isLong: op.width == 108)
            else { return .fault }
            // The whole area was probed: no read below fails.
            for index in UInt8(0)..<8 {
                let place = core.advance(address, first + UInt64(index) * 10)
                guard let mantissa = core.read(UInt64.self, linear: place),
                    let exponent = core.read(UInt16.self, linear: core.advance(place, 8))
                else { return .fault }
                block.setRegister(index, mantissa, exponent)
            }
            block.fcw = environment.control & 0x1f3f | 0x40
            block.setFSW(environment.status)
            block.fullTags = environment.tags
            environment.setPointers(block)
            core.signalPendingError(block)
            core.masksChanged(block)
            return .next
        }
    }

    /// The operand's linear address, the whole of it known to be accessible.
    private static func address(_ core: Core, _ op: OpRef, write: Bool) -> UInt64? {
        guard let address = core.linearAddress(op, size: UInt64(op.width), write: write),
            core.processor.probe(address, size: Int(op.width), write: write)
        else { return nil }
        return address
    }

    /// Seven fields of 4 or 2 bytes: FCW, FSW, FTW, then FIP, FCS with FOP, FDP and FDS. Real-address
    /// and virtual-8086 mode have linear addresses and FOP in the last four (SDM Vol. 1 Figures 8-9
    /// to 8-12). FCS and FDS are zero. The upper halves that hold nothing are ones.
    private static func writeEnvironment(
        _ core: Core, _ block: VectorBlock, _ address: UInt64, isLong: Bool
    ) -> Bool {
        let instruction = UInt32(truncatingIfNeeded: block.instructionPointer)
        let operand: UInt32 = block[VectorBlock.operandPointer]
        let opcode = UInt32(block[VectorBlock.opcode, as: UInt16.self])
        var fields: InlineArray<7, UInt32> = [
            UInt32(block.fcw), UInt32(block.fsw), UInt32(block.fullTags), instruction, 0, operand,
            0,
        ]
        if core.usesParagraphs {
            fields[3] &= 0xffff
            fields[4] = (instruction >> 16) << 12 | opcode
            fields[5] &= 0xffff
            fields[6] = (operand >> 16) << 12
        } else if isLong {
            fields[4] = opcode << 16
        }
        for index in 0..<7 {
            let done: Bool
            if isLong {
                let upper: UInt32 = index < 3 || index == 6 ? 0xffff_0000 : 0
                done = core.write(
                    upper | fields[index], linear: core.advance(address, UInt64(index) * 4))
            } else {
                done = core.write(
                    UInt16(truncatingIfNeeded: fields[index]),
                    linear: core.advance(address, UInt64(index) * 2))
            }
            guard done else { return false }
        }
        return true
    }

    private struct Environment {
        var control: UInt16 = 0
        var status: UInt16 = 0
        var tags: UInt16 = 0
        var instruction: UInt32 = 0
        var opcode: UInt16 = 0
        var operand: UInt32 = 0

        /// What is loaded last: the pointers.
        func setPointers(_ block: VectorBlock) {
            block.instructionPointer = UInt64(instruction)
            block[VectorBlock.operandPointer] = UInt64(operand)
            block[VectorBlock.opcode] = opcode & 0x7ff
        }
    }

    private static func readEnvironment(_ core: Core, _ address: UInt64, isLong: Bool)
        -> Environment?
    {
        var fields = InlineArray<7, UInt32>(repeating: 0)
        for index in 0..<7 {
            let value =
                isLong
                ? core.read(UInt32.self, linear: core.advance(address, UInt64(index) * 4))
                : core.read(UInt16.self, linear: core.advance(address, UInt64(index) * 2))
                    .map { UInt32($0) }
            guard let value else { return nil }
            fields[index] = value
        }
        var environment = Environment()
        environment.control = UInt16(truncatingIfNeeded: fields[0])
        environment.status = UInt16(truncatingIfNeeded: fields[1])
        environment.tags = UInt16(truncatingIfNeeded: fields[2])
        if core.usesParagraphs {
            environment.instruction = fields[3] & 0xffff | (fields[4] >> 12) << 16
            environment.operand = fields[5] & 0xffff | (fields[6] >> 12) << 16
            environment.opcode = UInt16(truncatingIfNeeded: fields[4])
        } else {
            environment.instruction = fields[3]
            environment.operand = fields[5]
            // The 16-bit form has no room for it.
            environment.opcode = isLong ? UInt16(truncatingIfNeeded: fields[4] >> 16) : 0
        }
        return environment
    }

    /// Whether an instruction is about control: it leaves FIP, FDP and FOP as they are. Of those
    /// that translated code has in line.
    static func keepsPointers(_ mnemonic: ZydisMnemonic) -> Bool {
        switch mnemonic {
        case ZYDIS_MNEMONIC_FWAIT, ZYDIS_MNEMONIC_FLDCW, ZYDIS_MNEMONIC_FNSTCW,
            ZYDIS_MNEMONIC_FNSTSW:
            true
        default: false
        }
    }
}
