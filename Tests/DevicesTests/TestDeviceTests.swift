import Devices
import Testing
import X86

@Suite struct TestDeviceTests {
    private func machine(_ hasTestDevice: Bool) -> Chipset {
        var configuration = ChipsetConfiguration(memoryBytes: 1 << 20, startTime: 0)
        configuration.hasTestDevice = hasTestDevice
        return Chipset(configuration: configuration, time: ManualTime(), console: { _ in })
    }

    @Test func `its ports and memory keep what is written, and are absent unless asked for`() {
        let chipset = machine(true)
        chipset.writePort(0xe0, size: 4, value: 0x1234_5678)
        #expect(chipset.readPort(0xe0, size: 4) == 0x1234_5678)
        chipset.writePort(0xe1, size: 1, value: 0xff)
        #expect(chipset.readPort(0xe0, size: 2) == 0xff78)
        let address = GuestPhysicalAddress(0xff00_1ff8)
        chipset.writeMemory(address, size: 8, value: 0x0102_0304_0506_0708, processor: 0)
        #expect(chipset.readMemory(address, size: 8, processor: 0) == 0x0102_0304_0506_0708)
        #expect(chipset.readMemory(address + 4, size: 2, processor: 0) == 0x0304)
        #expect(machine(false).readPort(0xe0, size: 4) == 0xffff_ffff)
    }

    @Test func `it raises interrupt lines`() {
        let chipset = machine(true)
        // The 8259s: vectors from 0x20 and 0x28, all lines open.
        for (port, value) in [
            (0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0xa0, 0x11), (0xa1, 0x28),
            (0xa1, 2), (0xa1, 1), (0x21, 0), (0xa1, 0),
        ] as [(UInt16, UInt32)] {
            chipset.writePort(port, size: 1, value: value)
        }
        #expect(!chipset.hasInterrupt(processor: 0))
        chipset.writePort(0x2005, size: 1, value: 1)
        #expect(chipset.hasInterrupt(processor: 0))
        #expect(chipset.acknowledgeInterrupt(processor: 0) == 0x25)
        chipset.writePort(0x2017, size: 4, value: 1)
    }
}
