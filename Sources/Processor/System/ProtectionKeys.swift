import X86

/// RDPKRU and WRPKRU (SDM Vol. 2B).
enum ProtectionKeys {
    private static func permits(_ core: Core) -> Bool {
        if core.state.cr4 & CR4.protectionKeyEnable == 0 {
            _ = core.invalidOpcode()
        } else if core[.rcx] & 0xffff_ffff != 0 {
            _ = core.generalProtection()
        } else {
            return true
        }
        return false
    }

    static let read: Handler = {
        plain($0, $1) { core, _ in
            guard permits(core) else { return .fault }
            core[.rax] = UInt64(core.state.keyRights)
            core[.rdx] = 0
            return .next
        }
    }

    static let write: Handler = {
        plain($0, $1) { core, _ in
            guard permits(core) else { return .fault }
            guard core[.rdx] & 0xffff_ffff == 0 else { return core.generalProtection() }
            set(core, UInt32(truncatingIfNeeded: core[.rax]))
            return .next
        }
    }

    /// Loads PKRU. Translations stay: it is looked at in each access, and so what the software TLB
    /// has made of it goes.
    static func set(_ core: Core, _ value: UInt32) {
        if core.state.keyRights == value { return }
        core.state.keyRights = value
        if core.state.cr4 & CR4.protectionKeyEnable != 0 {
            core.processor.caches.rightsChanged()
        }
    }
}

/// MONITOR and MWAIT (SDM Vol. 2B). MWAIT may end at any time for reasons of the implementation's
/// own, and here does so at once: it waits for nothing.
enum MonitorWait {
    static let monitor: Handler = {
        plain($0, $1) { core, op in
            guard core.state.cpl == 0 else { return core.invalidOpcode() }
            guard core[.rcx] & 0xffff_ffff == 0 else { return core.generalProtection() }
            let offset = core[.rax] & Branch.counterMask(op.sourceWidth)
            guard let address = core.linearAddress(op.segment, offset, size: 1, write: false),
                core.read(UInt8.self, linear: address) != nil
            else { return .fault }
            return .next
        }
    }

    /// ECX bit 0 asks for interrupts to end it even where IF masks them.
    static let wait: Handler = {
        plain($0, $1) { core, _ in
            guard core.state.cpl == 0 else { return core.invalidOpcode() }
            guard core[.rcx] & 0xffff_fffe == 0 else { return core.generalProtection() }
            core.leaveBlock()
            return .next
        }
    }
}
