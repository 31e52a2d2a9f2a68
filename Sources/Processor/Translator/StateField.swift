import X86

/// The state's fields that generated code names, as operands.
enum StateField {
    static let rip = operand(\.rip)
    static let pageRIP = GuestRegisters.at(Int(StateOffset.blockRIP))
    static let blockEnd = operand(\.blockEnd)
    static let blockStart = operand(\.blockStart)
    static let currentOp = operand(\.currentOp)
    static let retired = operand(\.retired)
    static let remaining = operand(\.remaining)
    static let runLimit = operand(\.runLimit)
    static let undone = operand(\.undone)
    static let chainSite = operand(\.chainSite)
    static let chainTarget = operand(\.chainTarget)
    static let callHost = operand(\.callHost)
    static let callTarget = operand(\.callTarget)
    static let xmmAbsent = operand(\.xmmAbsent)
    static let x87Absent = operand(\.x87Absent)
    static let cr0 = operand(\.cr0)
    static let cr4 = operand(\.cr4)
    static let entryMask = operand(\.masks.entry)
    static let pageMask = operand(\.masks.page)
    static let alignedPageMask = operand(\.masks.alignedPage)
    static let signMask = operand(\.masks.sign)
    static let jumpMask = operand(\.masks.jump)
    static let codePageMask = operand(\.masks.codePage)
    static let countMask = operand(\.masks.count)
    static let x87ExceptionMask = operand(\.masks.x87Exceptions)
    static let wideCountMask = operand(\.masks.wideCount)
    static let allButInterruptEnable = operand(\.masks.allButInterruptEnable)
    static let allButAlignmentCheck = operand(\.masks.allButAlignmentCheck)
    static let allButResume = operand(\.masks.allButResume)
    static let systemFlags = operand(\.systemFlags)
    static let privilegeLevel = operand(\.cpl)
    static let bank = operand(\.bank)
    static let supervisorBank = operand(\.supervisorBank)
    static let kernelGSBase = operand(\.kernelGSBase)
    static let gsBase = GuestRegisters.at(
        Int(StateOffset.segmentBase(SegmentRegister.gs.rawValue)))

    /// A field of the vector state.
    static func vector(_ offset: UInt16) -> HostOperand {
        GuestRegisters.at(Core.vectorOffset + Int(offset))
    }

    private static func operand(_ field: PartialKeyPath<State>) -> HostOperand {
        // Every field above is stored, so it has an offset.
        GuestRegisters.at(MemoryLayout<State>.offset(of: field) ?? 0)
    }
}
