import MachineMemory
import Processor
import X86

/// Runs code between FXRSTOR64 and FXSAVE64 of a processor in 64-bit mode, and tells how it ended.
///
/// ```
///  0x5000  GDT: 08 64-bit code, 10 data, 18 32-bit code     0x20000  image that is loaded
///  0x6000  IDT: vector v ends at 0x7000 + 16v               0x20200  image that was saved
///                                                           0x21000  the code's own data, in RBX
/// ```
final class VectorMachine {
    static let data: UInt64 = 0x21000
    private static let loaded: UInt64 = 0x20000
    private static let saved: UInt64 = 0x20200
    private static let handlers: UInt64 = 0x7000

    let machine: BareMachine
    var processor: Processor { machine.processor }
    /// What FXRSTOR64 loads before the code.
    var before = FXImage()
    /// What FXSAVE64 found after it, whether it ended well or in an exception.
    private(set) var after = FXImage()
    /// CR4 when the code starts.
    var cr4: UInt64 =
        CR4.physicalAddressExtension | CR4.osFXSR | CR4.osSIMDExceptions
    /// CR0 when the code starts, beside PE and PG.
    var cr0: UInt64 = CR0.numericError | CR0.extensionType | CR0.monitorCoprocessor

    init() throws {
        machine = try BareMachine()
        store([0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_9b00_0000_ffff], at: 0x5000)
        store([0x5000 << 16 | 0x1f], at: 0x5100)
        store([0x6000 << 16 | 0x1ff], at: 0x5110)
        for vector in 0..<32 as Range<UInt64> {
            let target = Self.handlers + vector * 16
            store([target & 0xffff | 0x8 << 16 | 0x8e00 << 32, 0], at: 0x6000 + vector * 16)
            // clts; fxsave64 [saved]; hlt
            write([0x0f, 0x06] + Self.save + [0xf4], at: target)
        }
    }

    /// Whether the state is saved at the end: not where CR0.EM would make that fault.
    var savesState = true {
        didSet {
            for vector in 0..<32 as Range<UInt64> where !savesState {
                write([0xf4], at: Self.handlers + vector * 16)
            }
        }
    }

    /// Executes `code`; RBX points to `data`.
    /// - Returns: the exception that ended it, nil if it ran to its end.
    func run(_ code: [UInt8]) -> ExceptionVector? {
        write(before.bytes, at: Self.loaded)
        var program: [UInt8] = [
            0x0f, 0x01, 0x14, 0x25, 0x00, 0x51, 0, 0,  // lgdt [5100h]
            0x0f, 0x01, 0x1c, 0x25, 0x10, 0x51, 0, 0,  // lidt [5110h]
        ]
        program += [0x48, 0x0f, 0xae, 0x0c, 0x25, 0, 0, 2, 0]  // fxrstor64 [loaded]
        program += Self.setControl(3, cr4 | 0x20)
        program += Self.setControl(0, cr0 | CR0.protectionEnable | CR0.paging)
        program += [0x58]  // pop rax
        program += code
        program += savesState ? [0x0f, 0x06] + Self.save + [0xf4] : [0xf4]
        // RAX is used by the prologue: its value waits on the stack.
        let rax = processor[.rax]
        processor[.rsp] = BareMachine.stack - 8
        store([rax], at: BareMachine.stack - 8)
        processor[.rbx] = Self.data
        let exit = machine.run(program, count: 10_000)
        after = FXImage(read(at: Self.saved, count: 512))
        guard exit == .halted else { return .machineCheck }
        let rip = processor.rip
        guard rip >= Self.handlers, rip < Self.handlers + 0x200 else { return nil }
        return ExceptionVector(rawValue: UInt8((rip - Self.handlers) / 16))
    }

    /// mov eax, value; mov cr0 or cr4, rax (`register` 0 or 3: only these are used).
    private static func setControl(_ register: UInt8, _ value: UInt64) -> [UInt8] {
        let immediate = (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
        return [0xb8] + immediate + [0x0f, 0x22, register == 3 ? 0xe0 : 0xc0]
    }

    /// fxsave64 [saved]
    private static let save: [UInt8] = [0x48, 0x0f, 0xae, 0x04, 0x25, 0, 2, 2, 0]

    func store(_ words: [UInt64], at address: UInt64 = data) {
        for (index, word) in words.enumerated() {
            machine.memory.store(word, at: MachineAddress(address + UInt64(index) * 8))
        }
    }

    func write(_ bytes: [UInt8], at address: UInt64 = data) {
        machine.memory.write(bytes.span, at: MachineAddress(address))
    }

    func read(at address: UInt64 = data, count: Int) -> [UInt8] {
        machine.memory.read(at: MachineAddress(address), count: count) ?? []
    }

    func word(_ address: UInt64) -> UInt64 {
        machine.memory.load(UInt64.self, at: MachineAddress(address)) ?? 0
    }
}

/// The 512 bytes of FXSAVE64, by field (SDM Vol. 1 §10.5.1).
struct FXImage: Equatable {
    var bytes = [UInt8](repeating: 0, count: 512)

    init() {
        fcw = 0x037f
        mxcsr = 0x1f80
    }

    init(_ bytes: [UInt8]) {
        self.bytes = bytes + [UInt8](repeating: 0, count: max(0, 512 - bytes.count))
    }

    var fcw: UInt16 {
        get { UInt16(truncatingIfNeeded: self[0, 2]) }
        set { self[0, 2] = UInt64(newValue) }
    }
    var fsw: UInt16 {
        get { UInt16(truncatingIfNeeded: self[2, 2]) }
        set { self[2, 2] = UInt64(newValue) }
    }
    var tags: UInt8 {
        get { bytes[4] }
        set { bytes[4] = newValue }
    }
    var mxcsr: UInt32 {
        get { UInt32(truncatingIfNeeded: self[24, 4]) }
        set { self[24, 4] = UInt64(newValue) }
    }

    subscript(_ offset: Int, _ size: Int) -> UInt64 {
        get { (0..<size).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64($1 * 8) } }
        set {
            for byte in 0..<size {
                bytes[offset + byte] = UInt8(truncatingIfNeeded: newValue >> UInt64(byte * 8))
            }
        }
    }

    /// An XMM register as two quadwords, low first.
    subscript(xmm number: Int) -> SIMD2<UInt64> {
        get { SIMD2(self[160 + number * 16, 8], self[168 + number * 16, 8]) }
        set {
            self[160 + number * 16, 8] = newValue[0]
            self[168 + number * 16, 8] = newValue[1]
        }
    }

    subscript(double number: Int) -> SIMD2<Double> {
        get {
            let bits = self[xmm: number]
            return SIMD2(Double(bitPattern: bits[0]), Double(bitPattern: bits[1]))
        }
        set { self[xmm: number] = SIMD2(newValue[0].bitPattern, newValue[1].bitPattern) }
    }

    /// ST(i): mantissa, and sign with exponent.
    subscript(st index: Int) -> SIMD2<UInt64> {
        get { SIMD2(self[32 + index * 16, 8], self[40 + index * 16, 2]) }
        set {
            self[32 + index * 16, 8] = newValue[0]
            self[40 + index * 16, 2] = newValue[1]
        }
    }
}
