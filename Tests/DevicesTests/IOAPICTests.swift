import Devices
import Testing

/// Notes messages; takes them while `accepts`.
private final class TakingBus: InterruptMessageBus {
    var messages: [InterruptMessage] = []
    var accepts = true
    func send(_ message: InterruptMessage) -> Bool {
        messages.append(message)
        return accepts
    }
    func broadcastEndOfInterrupt(_ vector: UInt8) {}
}

@Suite struct IOAPICTests {
    let chip = IOAPIC(id: 1)
    private let bus = TakingBus()

    init() { chip.bus = bus }

    func get(_ index: UInt32) -> UInt32 {
        chip.writeRegister(0, size: 4, value: index)
        return chip.readRegister(0x10, size: 4)
    }
    func set(_ index: UInt32, _ value: UInt32) {
        chip.writeRegister(0, size: 4, value: index)
        chip.writeRegister(0x10, size: 4, value: value)
    }
    func redirect(_ pin: UInt32, _ low: UInt32, destination: UInt32 = 0) {
        set(0x11 + 2 * pin, destination << 24)
        set(0x10 + 2 * pin, low)
    }
    func entry(_ pin: UInt32) -> UInt32 { get(0x10 + 2 * pin) }

    @Test func `identity, version and masked entries after reset`() {
        #expect(get(0) == 1 << 24)
        #expect(get(1) == 0x0017_0020)
        for pin in 0..<24 as Range<UInt32> {
            #expect(entry(pin) == 0x10000)
            #expect(get(0x11 + 2 * pin) == 0)
        }
        #expect(get(0x40) == 0 && get(0x0f) == 0 && get(0xff) == 0)
        set(0, 0xff00_0000)
        #expect(get(0) == 0x0f00_0000)
    }

    @Test func `an entry keeps what can be written`() {
        redirect(23, 0xffff_ffff, destination: 0xff)
        #expect(entry(23) == 0x1afff)
        #expect(get(0x11 + 46) == 0xff00_0000)
    }

    @Test func `an edge sends one message, a masked one none`() {
        redirect(4, 0x31, destination: 3)
        chip.setInput(4, true)
        chip.setInput(4, true)
        #expect(
            bus.messages == [
                InterruptMessage(
                    destination: .physical(3, wide: false), mode: .fixed, vector: 0x31)
            ])
        chip.setInput(4, false)
        redirect(4, 0x10031)
        chip.setInput(4, true)
        redirect(4, 0x31)
        #expect(bus.messages.count == 1)
    }

    @Test func `a logical, lowest-priority entry`() {
        redirect(2, 0x0930, destination: 0x0f)
        chip.setInput(2, true)
        #expect(
            bus.messages == [
                InterruptMessage(
                    destination: .logical(15, wide: false), mode: .lowestPriority, vector: 0x30)
            ])
    }

    @Test func `a level is sent once until it is ended, and again while asserted`() {
        redirect(9, 0x8039)
        chip.setInput(9, true)
        #expect(bus.messages.count == 1)
        #expect(bus.messages.first?.isLevel == true)
        #expect(entry(9) == 0xc039)
        chip.setInput(9, false)
        chip.setInput(9, true)
        #expect(bus.messages.count == 1)
        chip.endOfInterrupt(0x38)
        #expect(bus.messages.count == 1)
        chip.endOfInterrupt(0x39)
        #expect(bus.messages.count == 2)
        chip.setInput(9, false)
        chip.writeRegister(0x40, size: 4, value: 0x39)
        #expect(bus.messages.count == 2)
        #expect(entry(9) == 0x8039)
    }

    @Test func `a level that is asserted is sent when it is unmasked`() {
        redirect(9, 0x18039)
        chip.setInput(9, true)
        #expect(bus.messages.isEmpty)
        redirect(9, 0x8039)
        #expect(bus.messages.count == 1)
    }

    @Test func `a level that nobody takes is not under way`() {
        bus.accepts = false
        redirect(9, 0x8039)
        chip.setInput(9, true)
        #expect(entry(9) == 0x8039)
        bus.accepts = true
        chip.setInput(9, true)
        #expect(entry(9) == 0xc039)
    }

    @Test func `making an entry edge-triggered drops its remote IRR`() {
        redirect(9, 0x8039)
        chip.setInput(9, true)
        redirect(9, 0x10039)
        #expect(entry(9) == 0x10039)
        chip.setInput(9, false)
        redirect(9, 0x8039)
        #expect(entry(9) == 0x8039)
    }

    @Test func `polarity does not turn an idle input into a request`() {
        redirect(9, 0xa039)
        #expect(bus.messages.isEmpty)
        chip.setInput(9, true)
        #expect(bus.messages.count == 1)
    }

    @Test func `inputs and modes that do not exist do nothing`() {
        chip.setInput(-1, true)
        chip.setInput(24, true)
        for (pin, mode) in [(UInt32(0), UInt32(2)), (1, 3), (2, 6), (3, 7)] {
            redirect(pin, mode << 8 | 0x40)
            chip.setInput(Int(pin), true)
        }
        #expect(bus.messages.isEmpty)
    }
}
