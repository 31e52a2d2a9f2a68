/// The memory that holds the guest's vector state, as stubs and handlers see it.
///
/// ```
///  offset 0     the memory operand of the running instruction, up to 32 bytes
///         64    slots: host MXCSR, working MXCSR, resulting MXCSR, unmasked flags (4 bytes each),
///               host FCW, RFLAGS, address of the first stub (8 bytes each); at 104 the guest's x87
///               pointers: FIP as the page's RIP (8 bytes) plus an offset (4 bytes at 120), FDP
///               (8 bytes at 112), FOP (2 bytes at 124)
///         128   the guest's state in the layout of FXSAVE64 (SDM Vol. 1 §10.5.1):
///               FCW 0, FSW 2, abridged FTW 4, FOP 6, FIP 8, FDP 16, MXCSR 24, MXCSR_MASK 28,
///               ST(i) or MMi 32 + 16i, XMMi 160 + 16i, 416…511 always zero
///         640   the upper halves of YMM0…YMM15, 16 bytes each
/// ```
/// FOP, FIP and FDP of the image are always zero, for a host's FXSAVE leaves host addresses there;
/// the guest's own are kept among the slots. CPUID says that FCS and FDS are always zero, and that
/// FDP (and so FOP) is recorded where an unmasked exception comes up alone.
///
/// Safety: the block lies at a fixed distance behind the processor's state and lives as long; ops
/// that hold its address live in the block cache of the same processor. Offsets are constants of this file or
/// come from decoding, and are below `byteCount`.
@safe struct VectorBlock {
    private let raw: UnsafeMutableRawPointer

    static let byteCount = 896
    /// Where the state's image lies in the block.
    static let image: UInt16 = 128
    static let imageBytes = 512

    @inline(__always) init(_ address: UInt64) {
        unsafe raw =
            UnsafeMutableRawPointer(bitPattern: UInt(truncatingIfNeeded: address))
            .unsafelyUnwrapped
    }

    @inline(__always) var address: UInt { unsafe UInt(bitPattern: raw) }

    @inline(__always)
    subscript<W: FixedWidthInteger>(_ offset: UInt16, as type: W.Type = W.self) -> W {
        get { unsafe raw.loadUnaligned(fromByteOffset: Int(offset), as: W.self) }
        nonmutating set {
            unsafe raw.storeBytes(of: newValue, toByteOffset: Int(offset), as: W.self)
        }
    }

    // MARK: Slots

    static let hostMXCSR: UInt16 = 64
    /// The guest's MXCSR with all exceptions masked and no flag set: what stubs run with.
    static let workingMXCSR: UInt16 = 68
    static let resultMXCSR: UInt16 = 72
    /// The exceptions, at their flags' places (bits 5…0), that the guest has unmasked.
    static let unmaskedFlags: UInt16 = 76
    static let hostFCW: UInt16 = 80
    /// The arithmetic flags that go into or come out of a stub.
    static let flags: UInt16 = 88
    static let firstStub: UInt16 = 96

    // MARK: The x87 pointers (SDM Vol. 1 §8.1.8, §8.1.9)

    static let instructionPage: UInt16 = 104
    static let operandPointer: UInt16 = 112
    static let instructionOffset: UInt16 = 120
    static let opcode: UInt16 = 124

    /// FIP: where the last x87 instruction was that is not about control, an offset in its segment.
    var instructionPointer: UInt64 {
        get {
            self[Self.instructionPage] &+ UInt64(self[Self.instructionOffset, as: UInt32.self])
        }
        nonmutating set { setInstructionPointer(newValue, offset: 0) }
    }

    /// FIP as the RIP of a page and an offset from it, as translated code has them.
    @inline(__always) func setInstructionPointer(_ page: UInt64, offset: UInt32) {
        self[Self.instructionPage] = page
        self[Self.instructionOffset] = offset
    }

    // MARK: The image

    static func mmx(_ number: UInt8) -> UInt16 { image + 32 + UInt16(number & 7) * 16 }
    static func xmm(_ number: UInt8) -> UInt16 { image + 160 + UInt16(number & 15) * 16 }

    /// The upper half of a YMM register.
    static func upper(_ number: UInt8) -> UInt16 { 640 + UInt16(number & 15) * 16 }
    /// A byte of a YMM register, 0…31.
    static func wide(_ number: UInt16, _ byte: UInt16) -> UInt16 {
        let number = UInt8(truncatingIfNeeded: number)
        return (byte & 16 == 0 ? xmm(number) : upper(number)) + (byte & 15)
    }

    func clearUpper(_ number: UInt8) {
        self[Self.upper(number)] = UInt64(0)
        self[Self.upper(number) + 8] = UInt64(0)
    }

    @inline(__always) var fcw: UInt16 {
        get { self[Self.image] }
        nonmutating set { self[Self.image] = newValue }
    }
    @inline(__always) var fsw: UInt16 {
        get { self[Self.image + 2] }
        nonmutating set { self[Self.image + 2] = newValue }
    }
    /// One bit a physical register: 1 where it is not empty.
    @inline(__always) var abridgedTags: UInt8 {
        get { self[Self.image + 4] }
        nonmutating set { self[Self.image + 4] = newValue }
    }
    @inline(__always) var mxcsr: UInt32 { self[Self.image + 24] }

    /// The bits of MXCSR that exist (SDM Vol. 1 §10.2.3): MXCSR_MASK.
    static let mxcsrMask: UInt32 = 0xffff

    /// Loads MXCSR, whose reserved bits must be clear.
    func setMXCSR(_ value: UInt32) {
        let value = value & Self.mxcsrMask
        self[Self.image + 24] = value
        self[Self.workingMXCSR] = (value | 0x1f80) & ~0x3f
        self[Self.unmaskedFlags] = ~(value >> 7) & 0x3f
    }

    /// Fills the image with zeros and then the state after FNINIT and reset
    /// (SDM Vol. 3A Table 9-1).
    func reset() {
        for offset in stride(from: UInt16(0), to: UInt16(Self.byteCount), by: 8)
        where offset != Self.firstStub {
            self[offset] = UInt64(0)
        }
        fcw = 0x0040
        fsw = 0
        // After reset (unlike FNINIT) every register is tagged as holding zero.
        abridgedTags = 0xff
        setMXCSR(0x1f80)
        self[Self.image + 28] = Self.mxcsrMask
    }

    /// The 512 bytes of the image.
    var imageCopy: [UInt8] {
        var copy: [UInt8] = (0..<UInt16(Self.imageBytes)).map { self[Self.image + $0] }
        // What a host's FXSAVE puts beside the 10 bytes of a register is its own affair.
        for register in 0..<8 {
            for byte in 10..<16 { copy[32 + register * 16 + byte] = 0 }
        }
        for byte in 0..<8 {
            let shift = UInt64(8 * byte)
            copy[8 + byte] = UInt8(truncatingIfNeeded: instructionPointer >> shift)
            copy[16 + byte] = self[Self.operandPointer + UInt16(byte)]
            if byte < 2 { copy[6 + byte] = self[Self.opcode + UInt16(byte)] }
        }
        return copy
    }
}
