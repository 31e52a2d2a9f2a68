import X86

/// A handler's C signature: the addresses of the state and of the op; returns `Status.rawValue`.
typealias Handler = @convention(c) (UInt, UInt) -> Int32

/// One decoded instruction, 56 bytes. Made by `Decoder`, read by handlers through `OpRef`.
struct Op {
    var handler: Handler
    /// The immediate, sign-extended as the instruction does; also the target of a direct branch
    /// as a displacement from the start of the block's page.
    var immediate: UInt64 = 0
    /// The memory operand's displacement; for RIP-relative ones from the
    /// start of the block's page.
    var displacement: UInt64 = 0
    /// State offsets of the memory operand's base and index registers (`StateOffset.zero`: none).
    var base: UInt16 = StateOffset.zero
    var index: UInt16 = StateOffset.zero
    /// The state offset of the segment base to add; `StateOffset.zero` where it is zero.
    var segmentBase: UInt16 = StateOffset.zero
    /// State offsets of the first (destination) and second (source) register operand.
    var a: UInt16 = StateOffset.zero
    var b: UInt16 = StateOffset.zero
    /// The distance of the next instruction from the start of the block's page, in bytes.
    var nextOffset: UInt16 = 0
    /// What distinguishes instructions that share a handler: condition code, sub-operation, …
    var code: UInt16 = 0
    /// The instruction's length in bytes, 1…15.
    var length: UInt8 = 0
    /// The index register is shifted left by this.
    var scale: UInt8 = 0
    /// The operand size in bytes: 1, 2, 4, 8 (10, 16, … for vector operands).
    var width: UInt8 = 0
    /// The source operand's size in bytes where it differs (MOVZX, …).
    var sourceWidth: UInt8 = 0
    /// Kinds of the first and second operand.
    var destination = OperandKind.none
    var source = OperandKind.none
    /// 0: a flat 64-bit address. Otherwise `OpAddressing` bits.
    var addressing: UInt8 = 0
    /// The segment register of the memory operand, by number.
    var segment: UInt8 = 3
    /// `OpPrefix` bits.
    var prefixes: UInt8 = 0
}

enum OperandKind: UInt8 {
    case none, register, memory, immediate
}

/// Bits of `Op.addressing`.
enum OpAddressing {
    /// The effective address is truncated to 16 bits.
    static let address16: UInt8 = 1
    /// The effective address is truncated to 32 bits.
    static let address32: UInt8 = 2
    /// The segment's limit and type are checked (outside 64-bit mode).
    static let checked: UInt8 = 4
}

/// Bits of `Op.prefixes`.
enum OpPrefix {
    static let lock: UInt8 = 1
    static let rep: UInt8 = 2
    static let repne: UInt8 = 4
    static let rexW: UInt8 = 8
    static let operandSize: UInt8 = 16
    static let rex: UInt8 = 32
}

/// A decoded instruction as its handler sees it.
///
/// Safety: made only from the address that the run loop passes, which lies in the block cache's
/// pool and stays valid until the pool is emptied, which happens between blocks only.
@safe struct OpRef {
    let pointer: UnsafePointer<Op>

    @inline(__always) init(_ address: UInt) {
        unsafe pointer = UnsafePointer<Op>(bitPattern: address).unsafelyUnwrapped
    }

    @inline(__always) var immediate: UInt64 { unsafe pointer.pointee.immediate }
    @inline(__always) var displacement: UInt64 { unsafe pointer.pointee.displacement }
    @inline(__always) var base: UInt16 { unsafe pointer.pointee.base }
    @inline(__always) var index: UInt16 { unsafe pointer.pointee.index }
    @inline(__always) var segmentBase: UInt16 { unsafe pointer.pointee.segmentBase }
    @inline(__always) var a: UInt16 { unsafe pointer.pointee.a }
    @inline(__always) var b: UInt16 { unsafe pointer.pointee.b }
    @inline(__always) var nextOffset: UInt16 { unsafe pointer.pointee.nextOffset }
    @inline(__always) var code: UInt16 { unsafe pointer.pointee.code }
    @inline(__always) var length: UInt8 { unsafe pointer.pointee.length }
    @inline(__always) var scale: UInt8 { unsafe pointer.pointee.scale }
    @inline(__always) var width: UInt8 { unsafe pointer.pointee.width }
    @inline(__always) var sourceWidth: UInt8 { unsafe pointer.pointee.sourceWidth }
    @inline(__always) var destination: OperandKind { unsafe pointer.pointee.destination }
    @inline(__always) var source: OperandKind { unsafe pointer.pointee.source }
    @inline(__always) var addressing: UInt8 { unsafe pointer.pointee.addressing }
    @inline(__always) var segment: SegmentRegister {
        SegmentRegister(rawValue: unsafe pointer.pointee.segment) ?? .ds
    }
    /// Whether the handler does nothing.
    var isNothing: Bool {
        let handler = unsafe unsafeBitCast(pointer.pointee.handler, to: UInt.self)
        let nothing = unsafe unsafeBitCast(Miscellaneous.nothing, to: UInt.self)
        return handler == nothing
    }
    /// Whether the handler only raises an exception, whatever the encoding.
    var isUndefined: Bool {
        let handler = unsafe unsafeBitCast(pointer.pointee.handler, to: UInt.self)
        let undefined = unsafe unsafeBitCast(Miscellaneous.undefined, to: UInt.self)
        let tooLong = unsafe unsafeBitCast(Miscellaneous.tooLong, to: UInt.self)
        return handler == undefined || handler == tooLong
    }
    @inline(__always) func has(_ prefix: UInt8) -> Bool {
        unsafe pointer.pointee.prefixes & prefix != 0
    }
}
