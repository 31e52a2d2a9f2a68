import MachineMemory

/// Runs a few bytes of integer code on the host's own processor, with given registers and flags.
///
/// RSP and RDI are the stub's own. Every other general register and the arithmetic flags are
/// loaded before the code and stored after it.
final class NativeStub {
    private let memory: ExecutableMemory

    init?() {
        guard let memory = ExecutableMemory(capacity: 1 << 16) else { return nil }
        self.memory = memory
    }

    /// The registers as the code leaves them: 16 general registers, then RFLAGS.
    /// - Parameter state: as it finds them.
    func run(_ code: [UInt8], _ state: inout [UInt64]) {
        memory.removeAll()
        var bytes: [UInt8] = [
            0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57,  // push rbx, rbp, r12…r15
            0x57,  // push rdi
            0xff, 0xb7, 0x80, 0, 0, 0,  // push [rdi+128]
            0x9d,  // popfq
        ]
        for register in 0..<16 where register != 4 && register != 7 {
            bytes += Self.move(register, store: false)
        }
        bytes += code
        bytes += [0x9c, 0x48, 0x8b, 0x7c, 0x24, 0x08]  // pushfq; mov rdi, [rsp+8]
        for register in 0..<16 where register != 4 && register != 7 {
            bytes += Self.move(register, store: true)
        }
        bytes += [
            0x8f, 0x87, 0x80, 0, 0, 0,  // pop [rdi+128]
            0x5f,  // pop rdi
            0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3,
        ]
        guard let address = memory.append(bytes) else { return }
        typealias Function = @convention(c) (UnsafeMutableRawPointer) -> Void
        // The bytes above are a leaf function of this signature, in executable memory.
        let function = unsafe unsafeBitCast(address, to: Function.self)
        unsafe state.withUnsafeMutableBytes { unsafe function($0.baseAddress.unsafelyUnwrapped) }
    }

    /// mov between a register and [rdi + 8 × its number].
    private static func move(_ register: Int, store: Bool) -> [UInt8] {
        [
            register >= 8 ? 0x4c : 0x48, store ? 0x89 : 0x8b,
            UInt8(0x47 | (register & 7) << 3), UInt8(register * 8),
        ]
    }
}

/// SplitMix64: a seeded generator, so that a failure can be repeated.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
