import X86

/// The second dimension of nested paging: guest-physical → machine.
///
/// It is what a shadow is while the guest has no paging: direct pages, filled as they are needed,
/// with pages as large as memory allows. Under `nested` no guest table is shadowed, so nothing is
/// ever traced, and nothing changes but that pages over the ceiling are reclaimed. Under `agile` its
/// leaves stand in the same lists as the shadow's, so a frame that is protected is so through both.
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

    /// The root of the second dimension beside a shadow, made if need be; it stays.
    package func secondDimension() -> MachineAddress {
        if secondRoot == 0 {
            stamp &+= 1
            _ = secondDimensionRoot()
            flushInvalidations()
        }
        return MachineAddress(address(of: secondRoot))
    }

    /// Maps the guest-physical address, RAM or device, for an access that missed it or may not
    /// write it.
    package func resolveSecondDimension(
        _ address: GuestPhysicalAddress, _ access: AccessKind
    ) -> FaultResolution {
        stamp &+= 1
        defer { flushInvalidations() }
        _ = installDirect(secondDimensionRoot(), GuestVirtualAddress(address.rawValue))
        guard access.contains(.write) else { return .hidden }
        return writeToProtected(address.rawValue >> 12) ?? .hidden
    }

    private func secondDimensionRoot() -> UInt32 {
        let page = directPage(
            DirectRole(baseFrame: 0, level: .pml4, isDirty: true, isGlobal: false))
        use(page)
        secondRoot = page
        return page
    }
}
