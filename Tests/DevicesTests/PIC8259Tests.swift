import Devices
import Testing

@Suite struct PIC8259Tests {
    let line = Recorder<Bool>()
    let pic: PIC8259Pair

    init() {
        let line = line
        pic = PIC8259Pair(output: { line.append($0) })
        pic.reset()
    }

    /// As every operating system does: bases 0x20 and 0x28, everything unmasked.
    func initialize(icw4: UInt8 = 0x01, slaveICW4: UInt8 = 0x01) {
        for (port, base, wiring, icw4) in [
            (UInt16(0x20), UInt8(0x20), UInt8(4), icw4), (0xa0, 0x28, 2, slaveICW4),
        ] {
            pic.output(port, 0x11)
            pic.output(port + 1, base)
            pic.output(port + 1, wiring)
            pic.output(port + 1, icw4)
            pic.output(port + 1, 0)
        }
    }

    func pulse(_ irq: Int) {
        pic.setInput(irq, false)
        pic.setInput(irq, true)
    }

    func endOfInterrupt(_ irq: Int) {
        if irq >= 8 { pic.output(0xa0, 0x20) }
        pic.output(0x20, 0x20)
    }

    @Test func `before software initializes it, nothing passes`() {
        for irq in 0..<16 { pulse(irq) }
        #expect(line.values.isEmpty)
        #expect(pic.input(0x21) == 0xff && pic.input(0xa1) == 0xff)
    }

    @Test(arguments: Array(0..<16).filter { $0 != 2 })
    func `each input gives its vector, and is served once an edge`(irq: Int) {
        initialize()
        pulse(irq)
        #expect(line.take() == [true])
        #expect(pic.acknowledge() == UInt8(0x20 + irq))
        #expect(line.take() == [false])
        endOfInterrupt(irq)
        #expect(line.values.isEmpty)
        pulse(irq)
        #expect(line.take() == [true])
    }

    @Test func `a masked input waits until it is unmasked`() {
        initialize()
        pic.output(0x21, 0x10)
        pulse(4)
        #expect(line.values.isEmpty)
        pic.output(0x20, 0x0a)  // read IRR
        #expect(pic.input(0x20) == 0x10)
        pic.output(0x21, 0)
        #expect(line.take() == [true])
    }

    @Test func `input 0 comes first, then the slave's, and an interrupt holds back its inferiors`()
    {
        initialize()
        for irq in [0, 1, 3, 8, 15] { pulse(irq) }
        var order: [UInt8] = []
        for _ in 0..<5 {
            #expect(line.take().last == true)
            let vector = pic.acknowledge()
            order.append(vector)
            endOfInterrupt(Int(vector &- 0x20))
        }
        #expect(line.take().last == false)
        #expect(order == [0x20, 0x21, 0x28, 0x2f, 0x23])
    }

    @Test func `a higher interrupt gets through one in service, a lower does not`() {
        initialize()
        pulse(4)
        #expect(pic.acknowledge() == 0x24)
        _ = line.take()
        pulse(5)
        #expect(line.values.isEmpty)
        pulse(3)
        #expect(line.take() == [true])
        #expect(pic.acknowledge() == 0x23)
        pic.output(0x20, 0x0b)  // read ISR
        #expect(pic.input(0x20) == 0x18)
        pic.output(0x20, 0x20)
        #expect(pic.input(0x20) == 0x10)
        pic.output(0x20, 0x64)  // specific EOI of 4
        #expect(pic.input(0x20) == 0)
        #expect(pic.acknowledge() == 0x25)
    }

    @Test func `a request that goes away before it is acknowledged is spurious`() {
        initialize()
        pulse(4)
        pic.setInput(4, false)
        #expect(line.take() == [true, false])
        #expect(pic.acknowledge() == 0x27)
        pic.output(0x20, 0x0b)
        #expect(pic.input(0x20) == 0, "a spurious interrupt is not in service")
    }

    @Test func `a spurious interrupt of the slave is in service in the master only`() {
        initialize()
        pic.output(0x21, 0xfb)
        pulse(12)
        // The slave masks its request while the master still has it.
        #expect(line.take() == [true])
        pic.setInput(12, false)
        #expect(line.take() == [false])
        #expect(pic.acknowledge() == 0x27)
    }

    @Test func `a level-triggered input asks again for as long as it is asserted`() {
        initialize()
        pic.output(0x4d0, 0xff)
        pic.output(0x4d1, 0xff)
        #expect(pic.input(0x4d0) == 0xf8)
        #expect(pic.input(0x4d1) == 0xde)
        pic.setInput(9, true)
        #expect(pic.acknowledge() == 0x29)
        _ = line.take()
        endOfInterrupt(9)
        #expect(line.take() == [true])
        #expect(pic.acknowledge() == 0x29)
        pic.setInput(9, false)
        _ = line.take()
        endOfInterrupt(9)
        #expect(line.values.isEmpty)
    }

    @Test func `automatic end of interrupt leaves nothing in service`() {
        initialize(icw4: 0x03)
        pulse(4)
        #expect(pic.acknowledge() == 0x24)
        pic.output(0x20, 0x0b)
        #expect(pic.input(0x20) == 0)
        _ = line.take()
        pulse(5)
        #expect(line.take() == [true])
    }

    @Test func `rotation makes the input just served the lowest`() {
        initialize()
        pulse(3)
        #expect(pic.acknowledge() == 0x23)
        pic.output(0x20, 0xa0)  // rotate on non-specific EOI
        pulse(3)
        pulse(4)
        #expect(pic.acknowledge() == 0x24)
        pic.output(0x20, 0xe4)  // rotate on specific EOI of 4
        pulse(5)
        #expect(pic.acknowledge() == 0x25)
        pic.output(0x20, 0x65)
        pic.output(0x20, 0xc2)  // set priority: 2 is lowest, 3 highest
        pulse(1)
        #expect(pic.acknowledge() == 0x23)
    }

    @Test func `rotation in automatic mode`() {
        initialize(icw4: 0x03)
        pic.output(0x20, 0x80)
        pulse(0)
        #expect(pic.acknowledge() == 0x20)
        pulse(0)
        pulse(1)
        #expect(pic.acknowledge() == 0x21)
        #expect(pic.acknowledge() == 0x20)
    }

    @Test func `in special mask mode a masked input in service holds nothing back`() {
        initialize()
        pulse(1)
        #expect(pic.acknowledge() == 0x21)
        pulse(4)
        _ = line.take()
        pic.output(0x21, 0x02)
        #expect(line.values.isEmpty)
        pic.output(0x20, 0x68)
        #expect(line.take() == [true])
        pic.output(0x20, 0x48)
        #expect(line.take() == [false])
    }

    @Test func `special fully nested mode lets the slave interrupt itself`() {
        initialize(icw4: 0x11)
        pulse(12)
        #expect(pic.acknowledge() == 0x2c)
        _ = line.take()
        pulse(8)
        #expect(line.take() == [true])
        #expect(pic.acknowledge() == 0x28)
    }

    @Test func `without it, it does not`() {
        initialize()
        pulse(12)
        #expect(pic.acknowledge() == 0x2c)
        _ = line.take()
        pulse(8)
        #expect(line.values.isEmpty)
    }

    @Test func `polling acknowledges`() {
        initialize()
        pulse(6)
        pic.output(0x20, 0x0c)
        #expect(pic.input(0x20) == 0x86)
        pic.output(0x20, 0x0b)
        #expect(pic.input(0x20) == 0x40)
        pic.output(0x20, 0x20)
        pic.output(0x20, 0x0c)
        #expect(pic.input(0x20) == 0x00)
    }

    @Test func `initializing forgets requests, masks and service, and wants a new edge`() {
        initialize()
        pulse(4)
        #expect(pic.acknowledge() == 0x24)
        pulse(5)
        _ = line.take()
        initialize()
        #expect(line.values.last ?? false == false)
        pic.output(0x20, 0x0b)
        #expect(pic.input(0x20) == 0)
        _ = line.take()
        pulse(5)
        #expect(line.take() == [true])
    }

    @Test func `initialization without ICW4 turns automatic end of interrupt off`() {
        initialize(icw4: 0x03)
        pic.output(0x20, 0x10)
        pic.output(0x21, 0x40)
        pic.output(0x21, 0x04)
        pic.output(0x21, 0xfe)
        #expect(pic.input(0x21) == 0xfe)
        pulse(0)
        #expect(pic.acknowledge() == 0x40)
        pic.output(0x20, 0x0b)
        #expect(pic.input(0x20) == 0x01)
    }
}
