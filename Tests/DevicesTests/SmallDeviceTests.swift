import Devices
import Testing

@Suite struct FirmwareConfigurationTests {
    let device = FirmwareConfiguration(memoryBytes: 0x1_2345_6000, processors: 3)

    func item(_ key: UInt32, _ count: Int) -> [UInt8] {
        device.writePort(0x510, size: 2, value: key)
        return (0..<count).map { _ in device.input(0x511) }
    }

    @Test func `the items that small kernels ask for, and zeros after their end`() {
        #expect(item(0x00, 6) == Array("QEMU".utf8) + [0, 0])
        #expect(item(0x01, 5) == [1, 0, 0, 0, 0])
        #expect(item(0x03, 9) == [0x00, 0x60, 0x45, 0x23, 0x01, 0, 0, 0, 0])
        #expect(item(0x05, 3) == [3, 0, 0])
        #expect(item(0x0e, 3) == [1, 0, 0])
        #expect(item(0x0f, 3) == [3, 0, 0])
        #expect(item(0x19, 4) == [0, 0, 0, 0])
    }

    @Test func `an unknown key reads as zeros, and selecting starts an item again`() {
        #expect(item(0x7777, 3) == [0, 0, 0])
        #expect(item(0xffff, 3) == [0, 0, 0])
        #expect(item(0x00, 2) == Array("QE".utf8))
        #expect(item(0x00, 2) == Array("QE".utf8))
    }

    @Test func `the data port cannot be written`() {
        _ = item(0x00, 0)
        device.output(0x511, 5)
        #expect(device.input(0x511) == UInt8(ascii: "Q"))
    }
}

@Suite struct DebugExitTests {
    @Test(arguments: [
        (UInt32(0), UInt8(1)), (1, 3), (0x10, 0x21), (0xff, 0xff), (.max, 0xff),
        (0x100, 1),
    ])
    func `a write ends the machine with an odd status`(value: UInt32, status: UInt8) {
        let signals = MachineSignals()
        DebugExit(signals: signals).writePort(0xf4, size: 4, value: value)
        #expect(signals.event == .debugExit(status: status))
    }

    @Test func `the first event stays until it is taken`() {
        let signals = MachineSignals()
        let device = DebugExit(signals: signals)
        device.output(0xf4, 1)
        device.output(0xf4, 2)
        #expect(signals.event == .debugExit(status: 3))
    }
}

@Suite struct ResetControlTests {
    let signals = MachineSignals()
    let device: ResetControl

    init() { device = ResetControl(signals: signals) }

    @Test func `port 0xcf9 resets when its bit 2 rises`() {
        device.output(0xcf9, 0x02)
        #expect(signals.event == nil)
        #expect(device.input(0xcf9) == 0x02)
        device.output(0xcf9, 0x06)
        #expect(signals.event == .reset)
        signals.setEvent(nil)
        device.output(0xcf9, 0x06)
        #expect(signals.event == nil)
    }

    @Test func `a PCI configuration address is not a reset`() {
        device.writePort(0xcf8, size: 4, value: 0x8000_0400)
        device.writePort(0xcf9, size: 2, value: 0x0404)
        #expect(signals.event == nil)
        #expect(device.readPort(0xcf8, size: 4) == .max)
    }

    @Test(arguments: [UInt8(0xfe), 0xf0, 0xfc])
    func `the keyboard controller's pulse of output bit 0 resets`(command: UInt8) {
        #expect(device.input(0x64) & 0x02 == 0, "a driver that waits for room goes on")
        device.output(0x64, command)
        #expect(signals.event == .reset)
    }

    @Test(arguments: [UInt8(0xff), 0xaa, 0xd1, 0x20])
    func `other keyboard controller commands do nothing`(command: UInt8) {
        device.output(0x64, command)
        #expect(signals.event == nil)
    }

    @Test func `port 0x92 resets by bit 0, and A20 is on`() {
        #expect(device.input(0x92) == 0x02)
        device.output(0x92, 0x00)
        #expect(device.input(0x92) == 0x02 && signals.event == nil)
        device.output(0x92, 0x01)
        #expect(signals.event == .reset)
    }
}

@Suite struct PowerManagementTests {
    let time = ManualTime()
    let signals = MachineSignals()
    let line = Recorder<Bool>()
    let power: PowerManagement

    init() {
        let line = line
        power = PowerManagement(time: time, signals: signals, interrupt: { line.append($0) })
    }

    func go(to tick: UInt64) {
        time.now = PowerManagement.timer.time(ofTick: tick)
        power.advance()
    }

    @Test func `the timer runs at 3.579545 MHz with 24 bits`() {
        time.now = 1_000_000_000
        #expect(power.readPort(0x608, size: 4) == 3_579_545)
        go(to: 1 << 24)
        #expect(power.readPort(0x608, size: 4) == 0)
        go(to: 0x5_1234_5678)
        #expect(power.readPort(0x608, size: 4) == 0x0034_5678)
        #expect(power.readPort(0x60a, size: 1) == 0x34)
    }

    @Test func `the machine is always in ACPI mode`() {
        #expect(power.readPort(0x604, size: 2) == 1)
        power.writePort(0x604, size: 2, value: 0)
        #expect(power.readPort(0x604, size: 2) == 1)
        power.writePort(0x604, size: 2, value: 0x1401)
        #expect(power.readPort(0x604, size: 2) == 0x1401)
        #expect(signals.event == nil)
    }

    @Test(arguments: [UInt32(0x2000), 0x3400, 0x3401])
    func `sleep enable powers off`(value: UInt32) {
        power.writePort(0x604, size: 2, value: value)
        #expect(signals.event == .powerOff)
        #expect(power.readPort(0x604, size: 2) & 0x2000 == 0, "SLP_EN reads as zero")
    }

    @Test func `sleep enable written as a byte powers off`() {
        power.writePort(0x605, size: 1, value: 0x34)
        #expect(signals.event == .powerOff)
    }

    @Test func `the timer's highest bit raises the SCI when enabled, and a 1 clears it`() {
        power.writePort(0x602, size: 2, value: 1)
        #expect(power.nextEvent == PowerManagement.timer.time(ofTick: 1 << 23))
        go(to: 1 << 23)
        #expect(line.take() == [true])
        #expect(power.readPort(0x600, size: 2) == 1)
        power.writePort(0x600, size: 2, value: 1)
        #expect(line.take() == [false])
        #expect(power.readPort(0x600, size: 2) == 0)
        #expect(power.nextEvent == PowerManagement.timer.time(ofTick: 1 << 24))
    }

    @Test func `enables that do not exist are not kept`() {
        power.writePort(0x602, size: 2, value: 0xffff)
        #expect(power.readPort(0x602, size: 2) == 0x0721)
    }

    @Test func `reset lowers the SCI`() {
        power.writePort(0x602, size: 2, value: 1)
        go(to: 1 << 23)
        power.reset()
        #expect(line.take() == [true, false])
        #expect(power.nextEvent == nil)
    }
}
