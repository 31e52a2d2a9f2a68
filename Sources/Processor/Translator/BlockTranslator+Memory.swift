import X86

/// Operands in memory: the software TLB as generated code asks it.
extension BlockTranslator {
    /// Whether the memory operand's address can be computed here.
    func canAddress(_ op: OpRef) -> Bool {
        op.addressing == 0 && Int32(exactly: Int64(bitPattern: op.displacement)) != nil
    }

    /// R10 := the linear address of the memory operand; R11 is lost. The flags stay.
    mutating func linearAddress(_ op: OpRef) {
        effectiveAddress(op, into: GuestRegisters.first)
        if op.segmentBase != StateOffset.zero {
            assembler.load(GuestRegisters.second, GuestRegisters.at(Int(op.segmentBase)))
            assembler.lea(
                GuestRegisters.first,
                .memory(
                    base: GuestRegisters.first, index: GuestRegisters.second, scale: 0,
                    displacement: 0))
        }
    }

    /// What LEA computes.
    mutating func effectiveAddress(_ op: OpRef, into result: UInt8, wide: Bool = true) {
        let displacement = Int32(truncatingIfNeeded: Int64(bitPattern: op.displacement))
        var index: UInt8?
        if op.index != StateOffset.zero {
            index = register(op.index, temporary: GuestRegisters.second)
        }
        let operand: HostOperand
        if op.base != StateOffset.zero {
            let base = register(op.base, temporary: GuestRegisters.first)
            operand = .memory(
                base: base, index: index, scale: op.scale, displacement: displacement)
        } else if let index {
            // The form without a base is longer and slower.
            assembler.constant(GuestRegisters.first, UInt64(bitPattern: Int64(displacement)))
            operand = .memory(
                base: GuestRegisters.first, index: index, scale: op.scale, displacement: 0)
        } else {
            assembler.constant(
                result, wide ? op.displacement : op.displacement & 0xffff_ffff)
            return
        }
        assembler.instruction(.loadAddress, result, operand, wide: wide)
    }

    /// The host register of the guest register at an offset in the state: loaded into `temporary`
    /// where it has none.
    private mutating func register(_ offset: UInt16, temporary: UInt8) -> UInt8 {
        if offset != StateOffset.blockRIP,
            let host = GuestRegisters.host(UInt8(truncatingIfNeeded: offset / 8))
        {
            return host
        }
        assembler.load(temporary, GuestRegisters.at(Int(offset)))
        return temporary
    }

    /// The host's operand for `size` bytes at the linear address in R10: RCX is the addend, R11 is
    /// lost, the flags stay.
    /// - Parameter aligned: 16 bytes that must be aligned, or it counts as a miss.
    /// - Returns: the operand, and a jump that is taken where the software TLB lacks it.
    mutating func probe(
        size: Int, write: Bool, aligned: Bool = false
    ) -> (operand: HostOperand, miss: Int) {
        let address = GuestRegisters.first
        let entry = GuestRegisters.second
        let scratch = GuestRegisters.scratch
        let bankOffset = Core.softwareTLBOffset + bank * SoftwareTLB.bankBytes
        let tags = bankOffset + (write ? SoftwareTLB.writeTags : SoftwareTLB.readTags)
        let lookUp = assembler.address
        assembler.extract(entry, address, mask: StateField.entryMask)
        assembler.load(scratch, GuestRegisters.at(tags, index: entry))
        assembler.lea(
            scratch,
            .memory(
                base: scratch, index: address, scale: 0,
                displacement: aligned ? 0 : Int32(size - 1)))
        assembler.extract(
            scratch, scratch, mask: aligned ? StateField.alignedPageMask : StateField.pageMask)
        let hit = assembler.jumpIfRCXZero()
        let miss = assembler.jump()
        // A write mostly misses since a fault, an exit or a record is due, for which it takes the
        // handler; several at once would take several.
        if !write || size > 16 {
            retries.append(
                .init(
                    miss: miss, address: lookUp,
                    access: .init(size, write: write, aligned: aligned)))
        }
        assembler.bindShort(hit)
        assembler.load(scratch, GuestRegisters.at(bankOffset + SoftwareTLB.addends, index: entry))
        return (.memory(base: address, index: scratch, scale: 0, displacement: 0), miss)
    }
}
