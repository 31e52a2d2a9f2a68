import CZydis
import X86

/// Privileged instructions that a kernel executes in each system call and at each lock. None of
/// them touches the arithmetic flags, so none of the code does.
extension BlockTranslator {
    /// - Returns: false where the handler is to be called.
    mutating func system(_ i: Instruction, _ op: OpRef) -> Bool {
        guard !op.isUndefined else { return false }
        switch i.mnemonic {
        case ZYDIS_MNEMONIC_ENDBR64, ZYDIS_MNEMONIC_LFENCE, ZYDIS_MNEMONIC_MFENCE,
            ZYDIS_MNEMONIC_SFENCE:
            return op.isNothing
        case ZYDIS_MNEMONIC_PUSHFQ: return pushFlags(op)
        case ZYDIS_MNEMONIC_SWAPGS: return privileged { $0.swapGS() }
        case ZYDIS_MNEMONIC_CLI: return privileged { $0.clearInterrupts() }
        case ZYDIS_MNEMONIC_CLAC where hasSMAP: return setAccess(false)
        case ZYDIS_MNEMONIC_STAC where hasSMAP: return setAccess(true)
        default: return false
        }
    }

    /// At CPL 0 what `body` does, otherwise the handler.
    private mutating func privileged(_ body: (inout Self) -> Void) -> Bool {
        guard bank != SoftwareTLB.user else { return false }
        assembler.instruction(
            .zeroExtendByte, GuestRegisters.scratch, StateField.privilegeLevel, wide: false)
        let isSupervisor = assembler.jumpIfRCXZero()
        let isOther = assembler.jump()
        assembler.bindShort(isSupervisor)
        body(&self)
        slowPath([isOther])
        return true
    }

    private mutating func swapGS() {
        assembler.load(GuestRegisters.first, StateField.gsBase)
        assembler.load(GuestRegisters.second, StateField.kernelGSBase)
        assembler.store(GuestRegisters.second, StateField.gsBase)
        assembler.store(GuestRegisters.first, StateField.kernelGSBase)
    }

    /// A register := the system flags but for one.
    private mutating func loadSystemFlags(_ register: UInt8, mask: HostOperand) {
        assembler.load(register, StateField.systemFlags)
        assembler.extract(register, register, mask: mask)
        assembler.deposit(register, register, mask: mask)
    }

    private mutating func clearInterrupts() {
        loadSystemFlags(GuestRegisters.first, mask: StateField.allButInterruptEnable)
        assembler.store(GuestRegisters.first, StateField.systemFlags)
    }

    /// STAC and CLAC: what follows in the block uses the other bank of the software TLB.
    private mutating func setAccess(_ isSet: Bool) -> Bool {
        let flags = GuestRegisters.first
        let number = isSet ? SoftwareTLB.supervisorAC : SoftwareTLB.supervisor
        let isTranslated = privileged {
            $0.loadSystemFlags(flags, mask: StateField.allButAlignmentCheck)
            if isSet {
                $0.assembler.lea(flags, .at(flags, Int32(RFLAGS.alignmentCheck)))
            }
            $0.assembler.store(flags, StateField.systemFlags)
            $0.assembler.load(flags, StateField.supervisorBank)
            $0.assembler.lea(flags, .at(flags, Int32(number * SoftwareTLB.bankBytes)))
            $0.assembler.store(flags, StateField.bank)
        }
        if isTranslated { bank = number }
        return isTranslated
    }

    private mutating func pushFlags(_ op: OpRef) -> Bool {
        guard op.width == 8 else { return false }
        let image = GuestRegisters.scratch
        assembler.move(GuestRegisters.second, HostRegister.rax)
        assembler.saveFlags()
        assembler.instruction(
            .zeroExtendByte, image, .register(HostRegister.rax | HostRegister.highByte),
            wide: false)
        assembler.instruction(
            .zeroExtendByte, GuestRegisters.first, .register(HostRegister.rax), wide: false)
        assembler.move(HostRegister.rax, GuestRegisters.second)
        // OF is bit 11; AH has the others, and bit 1, where RFLAGS has them.
        assembler.rotate(GuestRegisters.first, GuestRegisters.first, by: 64 - 11)
        addToImage()
        loadSystemFlags(GuestRegisters.first, mask: StateField.allButResume)
        addToImage()
        assembler.store(image, StateField.callTarget)
        pushStored()
        return true
    }

    private mutating func addToImage() {
        let image = GuestRegisters.scratch
        assembler.lea(
            image, .memory(base: image, index: GuestRegisters.first, scale: 0, displacement: 0))
    }
}
