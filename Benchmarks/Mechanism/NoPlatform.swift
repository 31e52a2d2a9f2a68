import X86

/// Pins that lead nowhere.
final class NoPlatform: Platform {
    func readPort(_ port: UInt16, size: Int) -> UInt32 { .max }
    func writePort(_ port: UInt16, size: Int, value: UInt32) {}
    func readDevice(_ address: MachineAddress, size: Int) -> UInt64 { .max }
    func writeDevice(_ address: MachineAddress, size: Int, value: UInt64) {}
    func readAPICRegister(_ register: UInt32, processor: Int) -> UInt64? { nil }
    func writeAPICRegister(_ register: UInt32, value: UInt64, processor: Int) -> Bool { false }
    func taskPriority(processor: Int) -> UInt8 { 0 }
    func setTaskPriority(_ value: UInt8, processor: Int) {}
    func acknowledgeInterrupt(processor: Int) -> UInt8? { nil }
    func timeStamp(retired: UInt64, processor: Int) -> UInt64 { retired }
}
