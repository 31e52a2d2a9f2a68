// A table: one row an instruction.
import CZydis
import X86

/// Chooses the handlers of the system instructions. What is not here and in no other selection is
/// undefined: UD0, UD1, UD2, RSM, the virtualization extensions and the like.
enum SystemSelection {
    /// Instructions after which the next one is never, or hardly ever, the sequentially following
    /// one. Others that change the mode leave their block by `Core.leaveBlock`.
    static func endsBlock(_ mnemonic: ZydisMnemonic) -> Bool {
        switch mnemonic {
        case ZYDIS_MNEMONIC_IRET, ZYDIS_MNEMONIC_IRETD, ZYDIS_MNEMONIC_IRETQ,
            ZYDIS_MNEMONIC_SYSCALL, ZYDIS_MNEMONIC_SYSRET, ZYDIS_MNEMONIC_SYSENTER,
            ZYDIS_MNEMONIC_SYSEXIT, ZYDIS_MNEMONIC_INT, ZYDIS_MNEMONIC_INT1, ZYDIS_MNEMONIC_INT3,
            ZYDIS_MNEMONIC_HLT, ZYDIS_MNEMONIC_UD0, ZYDIS_MNEMONIC_UD1, ZYDIS_MNEMONIC_UD2:
            true
        default: false
        }
    }

    /// Sets the op's handler and operands if the instruction is a system instruction.
    static func select(
        _ i: Instruction, _ op: inout Op, _ mode: CodeMode, _ processor: Processor
    ) -> Bool {
        guard
            let handler = moves(i, &op) ?? transfers(i, &op) ?? tables(i, &op)
                ?? ports(i, &op) ?? features(i, &op, processor.model) ?? others(i, &op)
        else { return false }
        op.handler = handler
        return true
    }

    private static func bytes(_ operand: Operand) -> UInt8 {
        UInt8(truncatingIfNeeded: operand.bytes)
    }

    // MARK: Segment, control and debug registers

    private static func number(_ operand: Operand, _ first: ZydisRegister, _ count: UInt32)
        -> UInt16?
    {
        let distance = operand.register.rawValue &- first.rawValue
        return distance < count ? UInt16(distance) : nil
    }

    /// The number of a segment register as instructions encode it; Zydis has the same order.
    private static func segment(_ operand: Operand) -> UInt16? {
        number(operand, ZYDIS_REGISTER_ES, 6)
    }

    private static func moves(_ i: Instruction, _ op: inout Op) -> Handler? {
        switch i.mnemonic {
        case ZYDIS_MNEMONIC_MOV:
            if let number = segment(i[0]) {
                // CS cannot be a destination.
                guard number != UInt16(SegmentRegister.cs.rawValue) else { return nil }
                op.code = number
                return SegmentLoading.moveTo
            }
            if let number = segment(i[1]) {
                op.code = number
                op.width = bytes(i[0])
                return SegmentLoading.moveFrom
            }
            return controlMove(i, &op)
        case ZYDIS_MNEMONIC_PUSH:
            guard let number = segment(i[0]) else { return nil }
            op.code = number
            return SegmentLoading.push
        case ZYDIS_MNEMONIC_POP:
            guard let number = segment(i[0]) else { return nil }
            op.code = number
            return SegmentLoading.pop
        case ZYDIS_MNEMONIC_LES: return farPointer(.es, i, &op)
        case ZYDIS_MNEMONIC_LDS: return farPointer(.ds, i, &op)
        case ZYDIS_MNEMONIC_LSS: return farPointer(.ss, i, &op)
        case ZYDIS_MNEMONIC_LFS: return farPointer(.fs, i, &op)
        case ZYDIS_MNEMONIC_LGS: return farPointer(.gs, i, &op)
        default: return nil
        }
    }

    private static func controlMove(_ i: Instruction, _ op: inout Op) -> Handler? {
        if let number = number(i[0], ZYDIS_REGISTER_CR0, 16) {
            guard isControl(number) else { return nil }
            op.code = number
            op.a = op.b
            return ControlRegisters.moveTo
        }
        if let number = number(i[1], ZYDIS_REGISTER_CR0, 16) {
            guard isControl(number) else { return nil }
            op.code = number
            return ControlRegisters.moveFrom
        }
        if let number = number(i[0], ZYDIS_REGISTER_DR0, 8) {
            op.code = number
            op.a = op.b
            return DebugRegisters.moveTo
        }
        if let number = number(i[1], ZYDIS_REGISTER_DR0, 8) {
            op.code = number
            return DebugRegisters.moveFrom
        }
        return nil
    }

    private static func isControl(_ number: UInt16) -> Bool {
        switch number {
        case 0, 2, 3, 4, 8: true
        default: false
        }
    }

    private static func farPointer(
        _ register: SegmentRegister, _ i: Instruction, _ op: inout Op
    ) -> Handler {
        op.code = UInt16(register.rawValue)
        op.width = bytes(i[0])
        return SegmentLoading.loadFarPointer
    }

    // MARK: Far transfers and interrupts

    private static func transfers(_ i: Instruction, _ op: inout Op) -> Handler? {
        switch i.mnemonic {
        case ZYDIS_MNEMONIC_JMP, ZYDIS_MNEMONIC_CALL:
            let isCall = i.mnemonic == ZYDIS_MNEMONIC_CALL
            op.width = i.operandBytes
            if case .pointer(let segment, let offset) = i[0] {
                op.code = segment
                op.immediate = UInt64(offset)
                return isCall ? FarTransfer.callDirect : FarTransfer.jumpDirect
            }
            guard i[0].isMemory else { return nil }
            return isCall ? FarTransfer.callIndirect : FarTransfer.jumpIndirect
        case ZYDIS_MNEMONIC_RET:
            op.width = i.operandBytes
            op.immediate = i.operandCount == 0 ? 0 : op.immediate & 0xffff
            return FarTransfer.returnFar
        case ZYDIS_MNEMONIC_IRET, ZYDIS_MNEMONIC_IRETD, ZYDIS_MNEMONIC_IRETQ:
            op.width =
                i.mnemonic == ZYDIS_MNEMONIC_IRET
                ? 2 : i.mnemonic == ZYDIS_MNEMONIC_IRETD ? 4 : 8
            return InterruptReturn.handler
        case ZYDIS_MNEMONIC_INT: return SoftwareInterrupts.interrupt
        case ZYDIS_MNEMONIC_INT1: return SoftwareInterrupts.debugTrap
        case ZYDIS_MNEMONIC_INT3: return SoftwareInterrupts.breakpoint
        case ZYDIS_MNEMONIC_INTO: return SoftwareInterrupts.overflow
        case ZYDIS_MNEMONIC_BOUND:
            op.width = bytes(i[0])
            return SoftwareInterrupts.bound
        case ZYDIS_MNEMONIC_SYSCALL: return SystemCalls.systemCall
        case ZYDIS_MNEMONIC_SYSRET: return SystemCalls.systemReturn
        default: return nil
        }
    }

    // MARK: Descriptor tables

    private static func tables(_ i: Instruction, _ op: inout Op) -> Handler? {
        func coded(_ code: UInt16, _ handler: Handler) -> Handler {
            op.code = code
            return handler
        }
        func sized(_ code: UInt16, _ handler: Handler) -> Handler {
            op.width = bytes(i[0])
            return coded(code, handler)
        }
        switch i.mnemonic {
        case ZYDIS_MNEMONIC_LGDT: return coded(0, DescriptorInstructions.loadTable)
        case ZYDIS_MNEMONIC_LIDT: return coded(1, DescriptorInstructions.loadTable)
        case ZYDIS_MNEMONIC_SGDT: return coded(0, DescriptorInstructions.storeTable)
        case ZYDIS_MNEMONIC_SIDT: return coded(1, DescriptorInstructions.storeTable)
        case ZYDIS_MNEMONIC_LLDT: return DescriptorInstructions.loadLocalTable
        case ZYDIS_MNEMONIC_LTR: return DescriptorInstructions.loadTask
        case ZYDIS_MNEMONIC_SLDT: return sized(0, DescriptorInstructions.storeSelector)
        case ZYDIS_MNEMONIC_STR: return sized(1, DescriptorInstructions.storeSelector)
        case ZYDIS_MNEMONIC_VERR: return coded(0, DescriptorInstructions.verify)
        case ZYDIS_MNEMONIC_VERW: return coded(1, DescriptorInstructions.verify)
        case ZYDIS_MNEMONIC_LAR: return sized(0, DescriptorInstructions.inspect)
        case ZYDIS_MNEMONIC_LSL: return sized(1, DescriptorInstructions.inspect)
        case ZYDIS_MNEMONIC_ARPL: return DescriptorInstructions.adjustLevel
        default: return nil
        }
    }

    // MARK: Ports

    private static func ports(_ i: Instruction, _ op: inout Op) -> Handler? {
        switch i.mnemonic {
        case ZYDIS_MNEMONIC_IN:
            op.width = bytes(i[0])
            op.code = i[1].isRegister ? 1 : 0
            return PortInstructions.input
        case ZYDIS_MNEMONIC_OUT:
            op.width = bytes(i[1])
            op.code = i[0].isRegister ? 1 : 0
            return PortInstructions.output
        case ZYDIS_MNEMONIC_INSB, ZYDIS_MNEMONIC_INSW, ZYDIS_MNEMONIC_INSD:
            op.width = stringWidth(i)
            return PortInstructions.inputString
        case ZYDIS_MNEMONIC_OUTSB, ZYDIS_MNEMONIC_OUTSW, ZYDIS_MNEMONIC_OUTSD:
            op.width = stringWidth(i)
            op.segment = segmentOverride(i)
            return PortInstructions.outputString
        default: return nil
        }
    }

    private static func stringWidth(_ i: Instruction) -> UInt8 {
        i.encoding.opcode & 1 == 0 ? 1 : min(i.operandBytes, 4)
    }

    /// The segment that prefixes name for a string's source; DS without one.
    private static func segmentOverride(_ i: Instruction) -> UInt8 {
        var segment: UInt8 = 3
        for index in 0..<Int(i.length) {
            switch i.bytes[index] {
            case 0x26: segment = 0
            case 0x2e: segment = 1
            case 0x36: segment = 2
            case 0x3e: segment = 3
            case 0x64: segment = 4
            case 0x65: segment = 5
            case 0x66, 0x67, 0xf2, 0xf3: continue
            default: return segment
            }
        }
        return segment
    }

    // MARK: What only some models have

    private static func features(
        _ i: Instruction, _ op: inout Op, _ model: ProcessorModel
    ) -> Handler? {
        func base(_ register: UInt16, _ handler: Handler) -> Handler? {
            guard model.has(.fsgsbase) else { return nil }
            op.code = register
            op.width = bytes(i[0])
            return handler
        }
        switch i.mnemonic {
        case ZYDIS_MNEMONIC_RDFSBASE: return base(4, SystemCalls.readBase)
        case ZYDIS_MNEMONIC_RDGSBASE: return base(5, SystemCalls.readBase)
        case ZYDIS_MNEMONIC_WRFSBASE: return base(4, SystemCalls.writeBase)
        case ZYDIS_MNEMONIC_WRGSBASE: return base(5, SystemCalls.writeBase)
        case ZYDIS_MNEMONIC_SYSENTER: return model.has(.sep) ? SystemCalls.systemEnter : nil
        case ZYDIS_MNEMONIC_SYSEXIT: return model.has(.sep) ? SystemCalls.systemExit : nil
        case ZYDIS_MNEMONIC_INVPCID:
            return model.has(.invpcid) ? TranslationInstructions.invalidatePCID : nil
        case ZYDIS_MNEMONIC_RDTSCP:
            op.code = 1
            return model.has(.rdtscp) ? Identification.readTimeStamp : nil
        case ZYDIS_MNEMONIC_RDPID:
            return model.has(.rdpid) ? Identification.readProcessorID : nil
        case ZYDIS_MNEMONIC_RDRAND:
            op.width = bytes(i[0])
            return model.has(.rdrand) ? Identification.random : nil
        case ZYDIS_MNEMONIC_RDSEED:
            op.width = bytes(i[0])
            return model.has(.rdseed) ? Identification.random : nil
        case ZYDIS_MNEMONIC_XGETBV: return model.has(.xsave) ? ControlRegisters.getExtended : nil
        case ZYDIS_MNEMONIC_XSETBV: return model.has(.xsave) ? ControlRegisters.setExtended : nil
        case ZYDIS_MNEMONIC_RDPKRU: return model.has(.pku) ? ProtectionKeys.read : nil
        case ZYDIS_MNEMONIC_WRPKRU: return model.has(.pku) ? ProtectionKeys.write : nil
        case ZYDIS_MNEMONIC_MONITOR:
            op.segment = segmentOverride(i)
            return model.has(.monitor) ? MonitorWait.monitor : nil
        case ZYDIS_MNEMONIC_MWAIT: return model.has(.monitor) ? MonitorWait.wait : nil
        case ZYDIS_MNEMONIC_CLAC:
            op.code = 0
            return FlagInstructions.accessFlag
        case ZYDIS_MNEMONIC_STAC:
            op.code = 1
            return FlagInstructions.accessFlag
        default: return nil
        }
    }

    private static func others(_ i: Instruction, _ op: inout Op) -> Handler? {
        switch i.mnemonic {
        case ZYDIS_MNEMONIC_CLI: return FlagInstructions.clearInterrupts
        case ZYDIS_MNEMONIC_STI: return FlagInstructions.setInterrupts
        case ZYDIS_MNEMONIC_PUSHF, ZYDIS_MNEMONIC_PUSHFD, ZYDIS_MNEMONIC_PUSHFQ:
            op.width =
                i.mnemonic == ZYDIS_MNEMONIC_PUSHF
                ? 2 : i.mnemonic == ZYDIS_MNEMONIC_PUSHFD ? 4 : 8
            return FlagInstructions.push
        case ZYDIS_MNEMONIC_POPF, ZYDIS_MNEMONIC_POPFD, ZYDIS_MNEMONIC_POPFQ:
            op.width =
                i.mnemonic == ZYDIS_MNEMONIC_POPF
                ? 2 : i.mnemonic == ZYDIS_MNEMONIC_POPFD ? 4 : 8
            return FlagInstructions.pop
        case ZYDIS_MNEMONIC_HLT: return FlagInstructions.halt
        case ZYDIS_MNEMONIC_LMSW: return ControlRegisters.loadStatusWord
        case ZYDIS_MNEMONIC_SMSW:
            op.width = bytes(i[0])
            return ControlRegisters.storeStatusWord
        case ZYDIS_MNEMONIC_CLTS: return ControlRegisters.clearTaskSwitched
        case ZYDIS_MNEMONIC_SWAPGS: return SystemCalls.swapGS
        case ZYDIS_MNEMONIC_RDMSR: return ModelSpecific.read
        case ZYDIS_MNEMONIC_WRMSR: return ModelSpecific.write
        case ZYDIS_MNEMONIC_RDTSC: return Identification.readTimeStamp
        case ZYDIS_MNEMONIC_RDPMC: return Identification.readCounter
        case ZYDIS_MNEMONIC_CPUID: return Identification.cpuid
        case ZYDIS_MNEMONIC_INVLPG: return TranslationInstructions.invalidatePage
        case ZYDIS_MNEMONIC_INVD, ZYDIS_MNEMONIC_WBINVD:
            return TranslationInstructions.invalidateCaches
        // Without control-flow enforcement these mark branch targets and do nothing.
        case ZYDIS_MNEMONIC_ENDBR32, ZYDIS_MNEMONIC_ENDBR64: return Miscellaneous.nothing
        default: return nil
        }
    }
}
