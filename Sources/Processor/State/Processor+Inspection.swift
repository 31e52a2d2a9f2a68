import X86

/// Access to single registers, for tests and tools of this package.
extension Processor {
    /// A general register.
    package subscript(register: GeneralRegister) -> UInt64 {
        get { core[register] }
        set { core[register] = newValue }
    }

    /// RFLAGS.
    package var flags: UInt64 {
        get { core.flags }
        set { core.setFlags(newValue) }
    }

    /// Continues at another offset in the code segment.
    package func jump(to rip: UInt64) {
        core.state.rip = rip
        core.state.isHalted = false
    }

    /// A copy of the state block, for a test that reflects on its fields.
    package var reflectedState: Any { core.state }
}
