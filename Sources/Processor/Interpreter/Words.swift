/// An unsigned integer of an operand size.
typealias Word = FixedWidthInteger & UnsignedInteger

/// An instruction that exists in several operand sizes.
protocol SizedInstruction {
    static func execute<W: Word>(_ width: W.Type, _ core: Core, _ op: OpRef) -> Status
}

/// Executes an instruction in the operand size that the op has.
@inline(__always)
func sized<I: SizedInstruction>(_ instruction: I.Type, _ core: UInt, _ op: UInt) -> Int32 {
    let core = Core(core)
    let op = OpRef(op)
    return switch op.width {
    case 1: I.execute(UInt8.self, core, op).rawValue
    case 2: I.execute(UInt16.self, core, op).rawValue
    case 4: I.execute(UInt32.self, core, op).rawValue
    default: I.execute(UInt64.self, core, op).rawValue
    }
}

/// An instruction without sizes.
@inline(__always)
func plain(_ core: UInt, _ op: UInt, _ body: (Core, OpRef) -> Status) -> Int32 {
    body(Core(core), OpRef(op)).rawValue
}
