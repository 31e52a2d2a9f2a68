import X86

/// The second dimension of nested paging: guest-physical → machine.
///
/// It is what a shadow is while the guest has no paging: direct pages, filled as they are needed,
/// with pages as large as memory allows. No guest table is shadowed, so nothing is ever traced, and
/// nothing changes but that pages over the ceiling are reclaimed.
extension ShadowMMU {
    /// Makes the root of the second dimension the one that `processor` walks, and returns it.
    package func loadSecondDimension(processor: Int) -> MachineAddress {
        stamp &+= 1
        liveRoots[processor] = 0
        let page = secondDimensionRoot()
        liveRoots[processor] = page
        flushInvalidations()
        return MachineAddress(address(of: page))
    }

    /// Maps the guest-physical address, RAM or device, for every access.
    package func resolveSecondDimension(_ address: GuestPhysicalAddress, processor: Int) {
        stamp &+= 1
        let page = secondDimensionRoot()
        liveRoots[processor] = page
        _ = installDirect(page, GuestVirtualAddress(address.rawValue))
        flushInvalidations()
    }

    private func secondDimensionRoot() -> UInt32 {
        let page = directPage(
            DirectRole(baseFrame: 0, level: .pml4, isDirty: true, isGlobal: false))
        use(page)
        return page
    }
}
