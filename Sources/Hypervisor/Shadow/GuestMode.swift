import X86

/// What of the guest's state decides how a translation is made.
package struct GuestMode: Equatable, Sendable {
    package var cr0: UInt64
    package var cr3: UInt64
    package var cr4: UInt64
    package var efer: UInt64
    /// The four pointer registers of PAE paging, as the processor loaded them: memory that they
    /// were loaded from may say something else by now.
    package var pointers: SIMD4<UInt64>
    /// EFLAGS.AC.
    package var alignmentCheck: Bool
    /// PKRU.
    package var keyRights: KeyRights
    /// MAXPHYADDR.
    package var physicalAddressBits: UInt64
    /// CPUID.80000001H:EDX.Page1GB.
    package var hasGigabytePages: Bool

    package init(
        cr0: UInt64, cr3: UInt64, cr4: UInt64, efer: UInt64,
        pointers: SIMD4<UInt64> = .zero, alignmentCheck: Bool = false,
        keyRights: KeyRights = KeyRights(rawValue: 0),
        physicalAddressBits: UInt64 = 40, hasGigabytePages: Bool = true
    ) {
        self.cr0 = cr0
        self.cr3 = cr3
        self.cr4 = cr4
        self.efer = efer
        self.pointers = pointers
        self.alignmentCheck = alignmentCheck
        self.keyRights = keyRights
        self.physicalAddressBits = min(physicalAddressBits, 52)
        self.hasGigabytePages = hasGigabytePages
    }

    /// What entries mean; nil without paging.
    var rules: PagingRules? {
        guard let form = PagingForm(cr0: cr0, cr4: cr4, efer: efer) else { return nil }
        return PagingRules(
            form: form, physicalAddressBits: physicalAddressBits,
            executeDisable: efer & EFER.executeDisableEnable != 0,
            gigabytePages: hasGigabytePages,
            pageSizeExtensions: cr4 & CR4.pageSizeExtensions != 0)
    }

    /// The guest frame of the table that CR3 names.
    func rootFrame(_ rules: PagingRules) -> UInt64 {
        (cr3 & rules.form.rootMask & rules.addressMask) >> 12
    }

    /// Whether the protection key of a user page denies an access (SDM Vol. 3A §4.6.2).
    func keyDenies(_ access: AccessKind, user: Bool, key: UInt8) -> Bool {
        user && cr4 & CR4.protectionKeyEnable != 0 && efer & EFER.longModeActive != 0
            && keyRights.denies(access, key: key, writeProtect: cr0 & CR0.writeProtect != 0)
    }

    /// Whether the error code of a fetch says that it was one (SDM Vol. 3A §4.7).
    var reportsFetches: Bool {
        cr4 & CR4.supervisorExecutionPrevention != 0
            || cr4 & CR4.physicalAddressExtension != 0 && efer & EFER.executeDisableEnable != 0
    }
}
