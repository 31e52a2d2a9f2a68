import Snapshot
import X86

/// Saved machines.
extension LocalAPIC {
    package func save(to writer: inout FieldWriter) {
        writer.put(base)
        writer.put(priority)
        writer.put(logicalDestination)
        writer.put(destinationFormat)
        writer.put(spurious)
        for set in [inService, requests, triggerMode] {
            for index in 0..<8 { writer.put(set.word(index)) }
        }
        writer.put(errorStatus)
        writer.put(errorsSince)
        writer.put(command)
        for entry in localVectors { writer.put(entry) }
        writer.put(initialCount)
        writer.put(divideConfiguration)
        writer.put(optional: expiry)
        writer.put(deadline)
        writer.put(timeStampOffset)
        writer.put(externalLevel)
        writer.put(nonMaskablePending)
        writer.put(initializePending)
        writer.put(optional: startupPending)
        writer.put(waitsForStartup)
    }

    /// Takes on a saved state.
    package func restore(from reader: inout FieldReader) throws(FieldError) {
        base = try reader.get("IA32_APIC_BASE", mask: ~reservedBase | Base.bootstrap)
        guard base & Base.enable != 0 || base & Base.extended == 0,
            base & Base.bootstrap == (isBootstrap ? Base.bootstrap : 0)
        else { throw .badValue("IA32_APIC_BASE") }
        priority = try reader.get("TPR")
        logicalDestination = try reader.get("LDR", mask: 0xff00_0000)
        destinationFormat = try reader.get("DFR", in: 0x0fff_ffff...UInt32.max)
        spurious = try reader.get("SVR", mask: Spurious.writable)
        inService = try Self.vectors("APIC ISR", &reader)
        requests = try Self.vectors("APIC IRR", &reader)
        triggerMode = try Self.vectors("APIC TMR", &reader)
        errorStatus = try reader.get("ESR", mask: 0xff)
        errorsSince = try reader.get("APIC errors", mask: 0xff)
        command = try reader.get("ICR")
        for vector in LocalVector.allCases {
            localVectors[vector.rawValue] = try reader.get(
                "LVT", mask: vector.writable | LocalVectorBit.readOnly)
        }
        initialCount = try reader.get("APIC initial count")
        divideConfiguration = try reader.get("DCR", mask: 0x0b)
        expiry = try reader.optional("end of the APIC timer's count")
        deadline = try reader.get("IA32_TSC_DEADLINE")
        timeStampOffset = try reader.get("time-stamp offset")
        externalLevel = try reader.flag("LINT0")
        nonMaskablePending = try reader.flag("pending NMI")
        initializePending = try reader.flag("pending INIT")
        startupPending = try reader.optional("pending start-up IPI")
        waitsForStartup = try reader.flag("wait for a start-up IPI")
        schedule()
    }

    /// The first 16 vectors are the processor's own and never in a set (§10.5.2).
    private static func vectors(
        _ name: StaticString, _ reader: inout FieldReader
    ) throws(FieldError) -> VectorSet {
        var words = SIMD8<UInt32>()
        for index in 0..<8 {
            words[index] = try reader.get(name, mask: index == 0 ? 0xffff_0000 : .max)
        }
        return VectorSet(words: words)
    }
}
