import X86

/// A segment or gate descriptor (SDM Vol. 3A §3.4.5, §3.5, §5.8.3).
///
/// ```
///  63      56 55 54 53 52 51   48 47 46 45 44 43  40 39      32 31           16 15            0
/// ┌──────────┬──┬──┬──┬──┬───────┬──┬─────┬──┬──────┬──────────┬───────────────┬──────────────┐
/// │base 31…24│G │DB│L │AV│lim19…16│P │ DPL │S │ type │base 23…16│  base 15…0    │ limit 15…0   │
/// ├──────────┴──┴──┴──┴──┴───────┼──┼─────┼──┼──────┼──────────┼───────────────┼──────────────┤
/// │ gate: offset 31…16           │P │ DPL │0 │ type │count, IST│  selector     │ offset 15…0  │
/// └──────────────────────────────┴──┴─────┴──┴──────┴──────────┴───────────────┴──────────────┘
/// ```
struct Descriptor: Equatable {
    var low: UInt64
    /// The second half of a 16-byte descriptor: bits 63…32 of a base or offset.
    var high: UInt64 = 0

    var base: UInt64 { low >> 16 & 0xff_ffff | low >> 32 & 0xff00_0000 | high << 32 }
    /// In bytes, granularity applied.
    var limit: UInt32 {
        let raw = UInt32(truncatingIfNeeded: low & 0xffff | low >> 32 & 0xf_0000)
        return has(Segment.granular) ? raw << 12 | 0xfff : raw
    }
    /// As `Segment.attributes`.
    var attributes: UInt16 { UInt16(truncatingIfNeeded: low >> 40) & 0xf0ff }
    func has(_ bit: UInt16) -> Bool { attributes & bit != 0 }
    var dpl: UInt8 { UInt8(truncatingIfNeeded: low >> 45) & 3 }
    var isPresent: Bool { has(Segment.present) }
    /// S clear: a gate, a TSS or an LDT.
    var isSystem: Bool { !has(Segment.codeOrData) }
    /// The type of a system descriptor (SDM Vol. 3A Table 3-2).
    var systemType: UInt8 { UInt8(truncatingIfNeeded: low >> 40) & 15 }
    var isCode: Bool { !isSystem && has(Segment.code) }
    var isConforming: Bool { has(Segment.conforming) }
    var isWritableData: Bool { !isSystem && !has(Segment.code) && has(Segment.writable) }
    var isReadable: Bool { !isSystem && (!has(Segment.code) || has(Segment.writable)) }

    // MARK: Gates
    var gateSelector: UInt16 { UInt16(truncatingIfNeeded: low >> 16) }
    var gateOffset: UInt64 { low & 0xffff | low >> 32 & 0xffff_0000 | high << 32 }
    /// Parameters that a call gate copies, 0…31.
    var gateCount: UInt64 { low >> 32 & 31 }
    /// The interrupt-stack-table index of a 64-bit gate; 0: none.
    var stackTableIndex: UInt64 { low >> 32 & 7 }

    func segment(_ selector: UInt16) -> Segment {
        Segment(
            base: low >> 16 & 0xff_ffff | low >> 32 & 0xff00_0000, limit: limit,
            selector: selector, attributes: attributes | Segment.accessed)
    }
}

extension Segment {
    /// What loading a null selector leaves.
    static func null(_ selector: UInt16) -> Segment {
        Segment(base: 0, limit: 0, selector: selector, attributes: 0)
    }
}

extension Core {
    /// Raises an exception whose error code names a selector.
    /// - Parameter external: 1 where the cause is an event from outside the program (EXT).
    func fault(_ vector: ExceptionVector, _ selector: UInt16, _ external: UInt32 = 0) -> Status {
        raise(vector, error: UInt32(selector & 0xfffc) | external)
    }

    /// The linear address of a selector's descriptor, if `bytes` of it lie within its table.
    func descriptorAddress(_ selector: UInt16, bytes: UInt32 = 8) -> UInt64? {
        let offset = UInt32(selector & 0xfff8)
        if selector & 4 != 0 {
            guard state.ldtr.has(Segment.present), offset &+ bytes &- 1 <= state.ldtr.limit else {
                return nil
            }
            return state.ldtr.base &+ UInt64(offset)
        }
        guard offset &+ bytes &- 1 <= UInt32(state.gdtr.limit) else { return nil }
        return state.gdtr.base &+ UInt64(offset)
    }

    /// Reads a selector's descriptor; nil after raising `vector` where it lies outside its table.
    func readDescriptor(
        _ selector: UInt16, _ vector: ExceptionVector = .generalProtection, external: UInt32 = 0
    ) -> Descriptor? {
        guard let address = descriptorAddress(selector) else {
            _ = fault(vector, selector, external)
            return nil
        }
        guard let low = readSystem(UInt64.self, linear: address) else { return nil }
        return Descriptor(low: low)
    }

    /// Completes a system descriptor that has 16 bytes in IA-32e mode.
    func widened(
        _ descriptor: Descriptor, _ selector: UInt16,
        _ vector: ExceptionVector = .generalProtection, external: UInt32 = 0
    ) -> Descriptor? {
        guard isLongModeActive else { return descriptor }
        guard let address = descriptorAddress(selector, bytes: 16) else {
            _ = fault(vector, selector, external)
            return nil
        }
        guard let high = readSystem(UInt64.self, linear: address &+ 8) else { return nil }
        // The type field of the second half must be zero (SDM Vol. 3A §3.5.2).
        guard high >> 40 & 0x1f == 0 else {
            _ = fault(vector, selector, external)
            return nil
        }
        return Descriptor(low: descriptor.low, high: high & 0xffff_ffff)
    }

    /// Sets bits of a descriptor's type in memory: accessed, or a TSS's busy bit.
    func setTypeBits(_ selector: UInt16, _ descriptor: Descriptor, _ bits: UInt64) -> Bool {
        if descriptor.low >> 40 & bits == bits { return true }
        guard let address = descriptorAddress(selector) else { return true }
        return writeSystem(
            UInt8(truncatingIfNeeded: descriptor.low >> 40 | bits), linear: address &+ 5)
    }

    /// Sets the accessed bit of a code or data segment's descriptor in memory.
    func markAccessed(_ selector: UInt16, _ descriptor: Descriptor) -> Bool {
        setTypeBits(selector, descriptor, UInt64(Segment.accessed))
    }

    /// Whether `rip` may be entered in a code segment; #GP(error) if not.
    func checkEntry(_ descriptor: Descriptor, _ rip: UInt64, error: UInt32 = 0) -> Bool {
        let isValid =
            isLongModeActive && descriptor.has(Segment.long)
            ? isCanonical(rip) : rip <= UInt64(descriptor.limit)
        if !isValid { _ = generalProtection(error) }
        return isValid
    }
}
