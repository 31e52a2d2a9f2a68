import Devices
import Testing
import X86

@Suite struct ChipsetTests {
    let time = ManualTime()
    let printed = Recorder<UInt8>()

    func make(_ processors: Int = 1, exitPort: UInt16? = nil) -> Chipset {
        var configuration = ChipsetConfiguration(
            processors: processors, memoryBytes: 256 << 20, startTime: 1_700_000_000)
        configuration.debugExitPort = exitPort
        let printed = printed
        return Chipset(configuration: configuration, time: time, console: { printed.append($0) })
    }

    func apic(_ offset: UInt64) -> GuestPhysicalAddress {
        GuestPhysicalAddress(0xfee0_0000 + offset)
    }

    func setAPIC(_ chipset: Chipset, _ offset: UInt64, _ value: UInt64, processor: Int = 0) {
        chipset.writeMemory(apic(offset), size: 4, value: value, processor: processor)
    }

    func redirect(_ chipset: Chipset, pin: UInt64, low: UInt64, destination: UInt64 = 0) {
        let (select, data) = (
            GuestPhysicalAddress(0xfec0_0000), GuestPhysicalAddress(0xfec0_0010)
        )
        for (index, value) in [(0x11 + 2 * pin, destination << 24), (0x10 + 2 * pin, low)] {
            chipset.writeMemory(select, size: 4, value: index, processor: 0)
            chipset.writeMemory(data, size: 4, value: value, processor: 0)
        }
    }

    func initializePICs(_ chipset: Chipset) {
        for (port, base, wiring) in [(UInt16(0x20), UInt8(0x20), UInt8(4)), (0xa0, 0x28, 2)] {
            chipset.output(port, 0x11)
            chipset.output(port + 1, base)
            chipset.output(port + 1, wiring)
            chipset.output(port + 1, 1)
            chipset.output(port + 1, 0)
        }
    }

    func startTimer(_ chipset: Chipset, count: UInt16) {
        chipset.output(0x43, 0x34)
        chipset.output(0x40, UInt8(truncatingIfNeeded: count))
        chipset.output(0x40, UInt8(truncatingIfNeeded: count >> 8))
    }

    @Test func `the guest prints on the console`() {
        let chipset = make()
        for byte in Array("ok\n".utf8) { chipset.output(0x3f8, byte) }
        #expect(printed.values == Array("ok\n".utf8))
    }

    @Test func `a machine that nobody has set up is quiet`() {
        let chipset = make(2)
        #expect(chipset.nextEvent == nil && chipset.event == nil)
        for processor in 0..<2 {
            #expect(!chipset.hasInterrupt(processor: processor))
            #expect(chipset.acknowledgeInterrupt(processor: processor) == nil)
            #expect(!chipset.takeNMI(processor: processor))
            #expect(chipset.takeStartup(processor: processor) == nil)
        }
    }

    @Test func `the timer interrupts through the 8259s and LINT0 of the first processor only`() {
        let chipset = make(2)
        initializePICs(chipset)
        startTimer(chipset, count: 1000)
        // Programming mode 2 raises the output, which is an edge.
        #expect(chipset.acknowledgeInterrupt(processor: 0) == 0x20)
        chipset.output(0x20, 0x20)
        #expect(!chipset.hasInterrupt(processor: 0))
        chipset.interruptsChanged = false
        time.now = chipset.nextEvent ?? 0
        chipset.advance()
        #expect(chipset.interruptsChanged)
        #expect(chipset.hasInterrupt(processor: 0))
        #expect(!chipset.hasInterrupt(processor: 1))
        chipset.setTaskPriority(15, processor: 0)
        #expect(chipset.hasInterrupt(processor: 0), "ExtINT knows no task priority")
        #expect(chipset.acknowledgeInterrupt(processor: 0) == 0x20)
        #expect(!chipset.hasInterrupt(processor: 0))
    }

    @Test func `the timer reaches pin 2 of the I/O APIC`() {
        let chipset = make()
        setAPIC(chipset, 0xf0, 0x1ff)
        redirect(chipset, pin: 2, low: 0x30)
        startTimer(chipset, count: 1000)
        #expect(chipset.acknowledgeInterrupt(processor: 0) == 0x30)
        #expect(chipset.acknowledgeInterrupt(processor: 0) == nil)
    }

    @Test func `console input interrupts on pin 4`() {
        let chipset = make()
        setAPIC(chipset, 0xf0, 0x1ff)
        redirect(chipset, pin: 4, low: 0x34)
        chipset.output(0x3fc, 0x08)
        chipset.output(0x3f9, 0x01)
        #expect(chipset.canReceive)
        chipset.interruptsChanged = false
        chipset.receive(0x41)
        #expect(chipset.interruptsChanged)
        #expect(chipset.acknowledgeInterrupt(processor: 0) == 0x34)
        #expect(chipset.input(0x3f8) == 0x41)
    }

    @Test func `the clock interrupts on 8 and the SCI on 9`() {
        let chipset = make()
        setAPIC(chipset, 0xf0, 0x1ff)
        redirect(chipset, pin: 8, low: 0x38)
        redirect(chipset, pin: 9, low: 0x8049)
        chipset.output(0x70, 0x0b)
        chipset.output(0x71, 0x12)
        chipset.writePort(0x602, size: 2, value: 1)
        time.now = 10_000_000_000
        chipset.advance()
        #expect(chipset.acknowledgeInterrupt(processor: 0) == 0x49)
        setAPIC(chipset, 0xb0, 0)
        // The SCI is a level: it comes again until its cause is gone.
        #expect(chipset.acknowledgeInterrupt(processor: 0) == 0x49)
        chipset.writePort(0x600, size: 2, value: 1)
        setAPIC(chipset, 0xb0, 0)
        #expect(chipset.acknowledgeInterrupt(processor: 0) == 0x38)
    }

    @Test func `an interprocessor interrupt reaches its processor`() {
        let chipset = make(16)
        for processor in 0..<16 { setAPIC(chipset, 0xf0, 0x1ff, processor: processor) }
        setAPIC(chipset, 0x310, 15 << 24, processor: 3)
        setAPIC(chipset, 0x300, 0x55, processor: 3)
        for processor in 0..<16 {
            #expect(chipset.hasInterrupt(processor: processor) == (processor == 15))
        }
        #expect(chipset.acknowledgeInterrupt(processor: 15) == 0x55)
        setAPIC(chipset, 0x300, 0xc0066, processor: 3)
        for processor in 0..<16 {
            #expect(
                chipset.acknowledgeInterrupt(processor: processor) == (processor == 3 ? nil : 0x66))
        }
    }

    @Test func `INIT and start-up bring up a second processor`() {
        let chipset = make(2)
        setAPIC(chipset, 0x310, 1 << 24)
        setAPIC(chipset, 0x300, 0xc500)
        setAPIC(chipset, 0x300, 0x8500)
        setAPIC(chipset, 0x300, 0x4699)
        setAPIC(chipset, 0x300, 0x4699)
        #expect(chipset.takeStartup(processor: 1) == .initialize)
        #expect(chipset.takeStartup(processor: 1) == .startup(vector: 0x99))
        #expect(chipset.takeStartup(processor: 1) == nil)
        #expect(chipset.takeStartup(processor: 0) == nil)
    }

    @Test func `an NMI by interprocessor interrupt`() {
        let chipset = make(2)
        setAPIC(chipset, 0x300, 0xc0400)
        #expect(chipset.takeNMI(processor: 1))
        #expect(!chipset.takeNMI(processor: 1))
        #expect(!chipset.takeNMI(processor: 0))
    }

    @Test func `lowest priority goes to the processor that does the least important work`() {
        let chipset = make(3)
        for processor in 0..<3 { setAPIC(chipset, 0xf0, 0x1ff, processor: processor) }
        chipset.setTaskPriority(5, processor: 0)
        chipset.setTaskPriority(2, processor: 1)
        chipset.setTaskPriority(3, processor: 2)
        redirect(chipset, pin: 4, low: 0x0134, destination: 0xff)
        chipset.output(0x3fc, 0x08)
        chipset.output(0x3f9, 0x02)
        #expect(
            (0..<3).map { chipset.acknowledgeInterrupt(processor: $0) } == [nil, 0x34, nil])
    }

    @Test func `each processor sees its own local APIC, at its own address`() {
        let chipset = make(2)
        for processor in 0..<2 {
            #expect(
                chipset.readMemory(apic(0x20), size: 4, processor: processor)
                    == UInt64(processor) << 24)
        }
        #expect(chipset.writeAPICRegister(MSR.apicBase, value: 0xd000_0800, processor: 1))
        #expect(chipset.readMemory(apic(0x20), size: 4, processor: 1) == 0xffff_ffff)
        #expect(
            chipset.readMemory(GuestPhysicalAddress(0xd000_0020), size: 4, processor: 1)
                == 1 << 24)
        #expect(chipset.readMemory(apic(0x20), size: 4, processor: 0) == 0)
    }

    @Test func `a time-stamp deadline is a timer of the board`() {
        let chipset = make()
        setAPIC(chipset, 0xf0, 0x1ff)
        setAPIC(chipset, 0x320, 0x400ec)
        #expect(chipset.writeAPICRegister(MSR.tscDeadline, value: 70_000, processor: 0))
        #expect(chipset.nextEvent == 70_000)
        time.now = 70_000
        chipset.advance()
        #expect(chipset.acknowledgeInterrupt(processor: 0) == 0xec)
        #expect(chipset.nextEvent == nil)
    }

    @Test func `the guest powers off, resets, or exits`() {
        let chipset = make(exitPort: 0xf4)
        chipset.writePort(0x604, size: 2, value: 0x3400)
        #expect(chipset.event == .powerOff)
        chipset.event = nil
        chipset.output(0xcf9, 0x06)
        #expect(chipset.event == .reset)
        chipset.event = nil
        chipset.writePort(0xf4, size: 4, value: 0x10)
        #expect(chipset.event == .debugExit(status: 0x21))
    }

    @Test func `the debug-exit device is there only when asked for, at any port`() {
        let without = make()
        without.output(0xf4, 1)
        without.output(0x501, 1)
        #expect(without.event == nil)
        let last = make(exitPort: 0xffff)
        last.writePort(0xffff, size: 4, value: 0)
        #expect(last.event == .debugExit(status: 1))
    }

    @Test func `ports and addresses that nobody claims`() {
        let chipset = make()
        chipset.output(0x80, 0x12)
        #expect(chipset.input(0x80) == 0xff)
        #expect(chipset.readPort(0xcfc, size: 4) == .max)
        #expect(
            chipset.readMemory(GuestPhysicalAddress(0xfed0_0000), size: 4, processor: 0)
                == 0xffff_ffff)
    }

    @Test func `reset brings back the power-on state and keeps the time`() {
        let chipset = make(2)
        initializePICs(chipset)
        setAPIC(chipset, 0xf0, 0x1ff)
        redirect(chipset, pin: 2, low: 0x30)
        startTimer(chipset, count: 1000)
        chipset.output(0x3fc, 0x08)
        chipset.output(0x3f9, 0x02)
        setAPIC(chipset, 0x300, 0xc4500)
        chipset.output(0xcf9, 0x06)
        time.now = 5_000_000_000
        chipset.reset()
        #expect(chipset.event == nil && chipset.nextEvent == nil)
        #expect(chipset.interruptsChanged)
        for processor in 0..<2 {
            #expect(!chipset.hasInterrupt(processor: processor))
            #expect(chipset.takeStartup(processor: processor) == nil)
        }
        chipset.output(0x70, 0)
        #expect(chipset.input(0x71) == 0x25)
        // And it can be used again.
        setAPIC(chipset, 0xf0, 0x1ff)
        redirect(chipset, pin: 2, low: 0x30)
        startTimer(chipset, count: 1000)
        #expect(chipset.acknowledgeInterrupt(processor: 0) == 0x30)
    }

    @Test func `the machine lets go of its chips`() {
        weak var gone: Chipset?
        do {
            let chipset = make(2)
            gone = chipset
            chipset.output(0x3f8, 0x41)
        }
        #expect(gone == nil)
    }
}
