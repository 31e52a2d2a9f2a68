import X86

extension BootRegisters {
    /// Flat segments for 64-bit code at level 0, with the selectors 0x8 (code), 0x10 (data) and
    /// 0x30 (an empty 64-bit TSS).
    public mutating func setFlatSegments64() {
        code = SegmentValue(selector: 0x8, limit: .max, attributes: 0xa09b)
        data = SegmentValue(selector: 0x10, limit: .max, attributes: 0xc093)
        task = SegmentValue(selector: 0x30, limit: 0x67, attributes: 0x8b)
    }
}

/// Access to system registers, for tests and tools of this package.
extension Processor {
    /// The selector in a segment register.
    package func selector(_ register: SegmentRegister) -> UInt16 { core[register].selector }

    /// The base in a segment register.
    package func segmentBase(_ register: SegmentRegister) -> UInt64 { core[register].base }

    /// DR6.
    package var debugStatus: UInt64 { core.state.dr6 }

    /// Sets the debug registers: address `number` (0…3), and DR7.
    package func setBreakpoint(_ number: Int, address: UInt64, control: UInt64) {
        core.state.debugAddresses[number & 3] = address
        core.state.dr7 = control
        caches.emptySoftware()
    }
}
