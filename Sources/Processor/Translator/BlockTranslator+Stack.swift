import CZydis
import X86

/// Runs of PUSH or of POP, as functions begin and end with them: they lie side by side, so one
/// look-up in the software TLB is for all of them, and RSP moves once.
///
/// Where it misses, each is done by its handler, so that faults are precise.
extension BlockTranslator {
    /// What an instruction of a run does.
    private enum Step: Equatable {
        /// A push of a register, or a pop to it: not RSP.
        case push(UInt8)
        case pop(UInt8)
        /// MOV RBP, RSP between pushes.
        case frame
    }

    private func step(_ index: Int) -> Step? {
        let i = instructions[index]
        guard i.encoding.isLegacy, i.encoding.map == 0, !op(index).isUndefined else { return nil }
        let number = i.encoding.opcode & 7 | (i.rex & 1) << 3
        switch i.encoding.opcode {
        case 0x50...0x57 where op(index).width == 8 && number != 4: return .push(number)
        case 0x58...0x5f where op(index).width == 8 && number != 4: return .pop(number)
        case 0x89 where i.encoding.mod == 3 && i.operandBytes == 8 && i.reg == 4 && i.rm == 5:
            return .frame
        default: return nil
        }
    }

    /// How many instructions from `first` on make a run; 0 where fewer than two of them push or pop.
    func stackRun(from first: Int) -> Int {
        guard let kind = step(first), kind != .frame else { return 0 }
        var isPush = false
        if case .push = kind { isPush = true }
        var accesses = 0
        // What follows the last push or pop is none of the run.
        var length = 0
        search: for index in first..<instructions.count {
            switch step(index) {
            case .push where isPush, .pop where !isPush:
                accesses += 1
                length = index + 1 - first
            case .frame where isPush: break
            default: break search
            }
        }
        return accesses > 1 ? length : 0
    }

    /// Translates a run of `count` instructions from the running one on.
    mutating func stack(_ count: Int) {
        let first = index
        let steps = (first..<first + count).map { step($0) }
        let accesses = Int32(steps.count { $0 != .frame })
        var isPush = false
        if case .push = steps[0] { isPush = true }
        let address = GuestRegisters.first
        if isPush {
            assembler.lea(address, .at(GuestRegisters.stackPointer, -8 * accesses))
        } else {
            assembler.move(address, GuestRegisters.stackPointer)
        }
        let probed = probe(size: 8 * Int(accesses), write: isPush)
        var done: Int32 = 0
        for (number, step) in steps.enumerated() {
            if number > 0 { startInstruction(first + number) }
            switch step {
            case .push(let register):
                done += 1
                let slot = operand(8 * (accesses - done))
                let host = GuestRegisters.host(register)
                if host == nil {
                    assembler.load(GuestRegisters.second, GuestRegisters.guest(register))
                }
                assembler.store(host ?? GuestRegisters.second, slot)
            case .pop(let register):
                let slot = operand(8 * done)
                done += 1
                if let host = GuestRegisters.host(register) {
                    assembler.load(host, slot)
                } else {
                    assembler.load(GuestRegisters.second, slot)
                    assembler.store(GuestRegisters.second, GuestRegisters.guest(register))
                }
            case .frame:
                assembler.lea(HostRegister.rbp, .at(GuestRegisters.stackPointer, -8 * done))
            case nil: break
            }
        }
        assembler.lea(
            GuestRegisters.stackPointer,
            .at(GuestRegisters.stackPointer, isPush ? -8 * accesses : 8 * accesses))
        slowPath([probed.miss], instructions: first..<first + count)
    }

    /// The host's operand so many bytes behind what `probe` found.
    private func operand(_ distance: Int32) -> HostOperand {
        .memory(
            base: GuestRegisters.first, index: GuestRegisters.scratch, scale: 0,
            displacement: distance)
    }
}
