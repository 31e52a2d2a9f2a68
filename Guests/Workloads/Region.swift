/// The region of interest: CPUID leaf 0x4000_0001, which any code may execute, says where it begins
/// and ends. On another processor or hypervisor it means nothing.
enum Region {
    @_extern(c, "workloads_mark")
    private static func identify(_ leaf: UInt32, _ subleaf: UInt32) -> UInt32

    static func begin(_ region: UInt16) { _ = identify(0x4000_0001, UInt32(region)) }
    static func end(_ region: UInt16) { _ = identify(0x4000_0001, UInt32(region) | 1 << 31) }
}
