import MachineMemory
import X86

/// Whether the host's processor can execute what a model offers of AVX.
public enum HostVectors {
    /// Whether AVX, AVX2, FMA and F16C are there, and the host's system saves their registers.
    public static let hasAVX2: Bool = {
        #if arch(x86_64)
            guard let memory = ExecutableMemory(capacity: 4096) else { return false }
            // push rbx; mov eax, edi; xor ecx, ecx; cpuid; mov rax, rcx; shl rax, 32; or rax, rbx;
            // pop rbx; ret
            let identify: [UInt8] = [
                0x53, 0x89, 0xf8, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0xdb, 0x89, 0xc8, 0x48, 0xc1, 0xe0,
                0x20, 0x48, 0x09, 0xd8, 0x5b, 0xc3,
            ]
            // xor ecx, ecx; xgetbv; ret
            let enabled: [UInt8] = [0x31, 0xc9, 0x0f, 0x01, 0xd0, 0xc3]
            guard let first = memory.append(identify), let second = memory.append(enabled) else {
                return false
            }
            typealias Function = @convention(c) (UInt32) -> UInt64
            // Complete functions of this signature, in memory that outlives the calls.
            let cpuid = unsafe unsafeBitCast(first, to: Function.self)
            let xgetbv = unsafe unsafeBitCast(second, to: Function.self)
            return withExtendedLifetime(memory) {
                // CPUID.1:ECX: FMA 12, OSXSAVE 27, AVX 28, F16C 29; CPUID.7.0:EBX: AVX2 5.
                let wanted: UInt64 = 1 << 12 | 1 << 27 | 1 << 28 | 1 << 29
                guard cpuid(1) >> 32 & wanted == wanted, cpuid(7) & 1 << 5 != 0 else {
                    return false
                }
                return xgetbv(0) & 6 == 6
            }
        #else
            return false
        #endif
    }()

    /// What the model offers and this host lacks; nil where there is nothing.
    public static func lack(of model: ProcessorModel) -> String? {
        model.has(.avx) && !hasAVX2 ? "AVX2, FMA and F16C" : nil
    }
}
