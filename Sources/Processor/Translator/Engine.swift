import MachineMemory

/// What executes guest code.
public enum Engine: String, CaseIterable, Sendable {
    /// The reference.
    case interpreter
    /// Host code made from the guest's 64-bit code, and the interpreter for the rest.
    case translator

    /// Why the translator cannot run on this host; nil where it can.
    public static let translatorLack: String? = {
        #if arch(x86_64)
            guard let memory = ExecutableMemory(capacity: 4096) else {
                return "this host forbids executable memory"
            }
            // push rbx; mov eax, edi; mov ecx, esi; cpuid; mov rax, rcx; shl rax, 32; or rax, rbx;
            // pop rbx; ret
            let code: [UInt8] = [
                0x53, 0x89, 0xf8, 0x89, 0xf1, 0x0f, 0xa2, 0x89, 0xdb, 0x89, 0xc8, 0x48, 0xc1, 0xe0,
                0x20, 0x48, 0x09, 0xd8, 0x5b, 0xc3,
            ]
            guard let address = memory.append(code) else { return "no room for generated code" }
            // A complete function of this signature, in memory that outlives the calls.
            let cpuid = unsafe unsafeBitCast(
                address, to: (@convention(c) (UInt32, UInt32) -> UInt64).self)
            return withExtendedLifetime(memory) {
                // CPUID.7.0:EBX[8] and CPUID.80000001H:ECX[0] (SDM Vol. 2A, CPUID).
                if cpuid(0, 0) & 0xffff_ffff == 0 || cpuid(7, 0) & 1 << 8 == 0 {
                    return "this host's processor has no BMI2"
                }
                if cpuid(0x8000_0001, 0) >> 32 & 1 == 0 {
                    return "this host's processor has no LAHF in 64-bit mode"
                }
                return nil
            }
        #else
            return "this host is not x86-64"
        #endif
    }()

    /// The one that is used where none is asked for.
    public static var standard: Engine { translatorLack == nil ? .translator : .interpreter }
}

extension Processor {
    /// Chooses the engine and drops what was decoded. Where the host lacks what the translator
    /// needs (`Engine.translatorLack`) it stays the interpreter.
    public func use(_ engine: Engine) {
        blocks.removeAll()
        vector.flush()
        switch engine {
        case .translator where Engine.translatorLack == nil:
            blocks.translations = TranslationMemory(processors: model.processorCount)
        default: blocks.translations = nil
        }
        translations = blocks.translations.map { Unretained($0) }
    }

    /// The engine in use.
    public var engine: Engine { blocks.translations == nil ? .interpreter : .translator }
}
