import Devices
import Testing

@Suite struct UART16550Tests {
    let sent = Recorder<UInt8>()
    let line = Recorder<Bool>()
    let uart: UART16550

    // Register ports, and the bits that the tests use.
    let data: UInt16 = 0x3f8
    let enable: UInt16 = 0x3f9
    let identification: UInt16 = 0x3fa
    let lineControl: UInt16 = 0x3fb
    let modemControl: UInt16 = 0x3fc
    let lineStatus: UInt16 = 0x3fd
    let modemStatus: UInt16 = 0x3fe
    let scratch: UInt16 = 0x3ff

    init() {
        let sent = sent
        let line = line
        uart = UART16550(sink: { sent.append($0) }, interrupt: { line.append($0) })
    }

    @Test func `after reset it is idle, empty and quiet`() {
        #expect(uart.input(identification) == 0x01)
        #expect(uart.input(lineStatus) == 0x60)
        #expect(uart.input(modemStatus) == 0xb0)
        #expect(uart.input(enable) == 0)
        #expect(line.values.isEmpty)
    }

    @Test func `a byte written is sent at once`() {
        for byte in Array("hello".utf8) { uart.output(data, byte) }
        #expect(sent.values == Array("hello".utf8))
        #expect(uart.input(lineStatus) & 0x60 == 0x60)
    }

    @Test func `a driver that probes finds a 16550A and nothing newer`() {
        // Only four interrupt enables exist.
        uart.output(enable, 0xff)
        #expect(uart.input(enable) == 0x0f)
        uart.output(enable, 0)
        // Loopback: RTS and OUT2 come back as CTS and DCD.
        uart.output(modemControl, 0x1a)
        #expect(uart.input(modemStatus) & 0xf0 == 0x90)
        uart.output(modemControl, 0)
        uart.output(scratch, 0x5a)
        #expect(uart.input(scratch) == 0x5a)
        // FIFOs that work, and no 64-byte mode.
        uart.output(identification, 0x01)
        #expect(uart.input(identification) == 0xc1)
        uart.output(lineControl, 0xbf)
        #expect(uart.input(identification) != 0)
        uart.output(identification, 0x21)
        #expect(uart.input(identification) & 0x20 == 0)
        uart.output(lineControl, 0)
        uart.output(identification, 0)
        #expect(uart.input(identification) == 0x01)
    }

    @Test func `the divisor latch hides the data and enable registers and changes nothing else`() {
        uart.output(enable, 0x01)
        uart.output(lineControl, 0x83)
        uart.output(data, 0x34)
        uart.output(enable, 0x12)
        #expect(uart.input(data) == 0x34)
        #expect(uart.input(enable) == 0x12)
        uart.output(lineControl, 0x03)
        #expect(uart.input(enable) == 0x01)
        #expect(sent.values.isEmpty)
    }

    @Test func `enabling the transmit interrupt raises it, and reading IIR clears it`() {
        uart.output(modemControl, 0x08)
        uart.output(enable, 0x02)
        #expect(line.take() == [true])
        #expect(uart.input(identification) == 0x02)
        #expect(line.take() == [false])
        #expect(uart.input(identification) == 0x01)
        // Writing a byte raises it again; so does enabling it anew.
        uart.output(data, 0x41)
        #expect(line.take() == [true])
        #expect(uart.input(identification) == 0x02)
        uart.output(enable, 0)
        uart.output(enable, 0x02)
        #expect(uart.input(identification) == 0x02)
        // Enabling it while enabled does not.
        uart.output(enable, 0x02)
        #expect(uart.input(identification) == 0x01)
    }

    @Test func `OUT2 gates the line, not the identification`() {
        uart.output(enable, 0x02)
        #expect(line.values.isEmpty)
        uart.output(modemControl, 0x08)
        #expect(line.take() == [true])
        uart.output(modemControl, 0)
        #expect(line.take() == [false])
        #expect(uart.input(identification) == 0x02)
    }

    @Test func `received bytes interrupt until they are read`() {
        uart.output(modemControl, 0x08)
        uart.output(enable, 0x01)
        #expect(uart.canReceive)
        uart.receive(0x61)
        #expect(!uart.canReceive)
        #expect(line.take() == [true])
        #expect(uart.input(identification) == 0x04)
        #expect(uart.input(lineStatus) & 1 == 1)
        #expect(uart.input(data) == 0x61)
        #expect(line.take() == [false])
        #expect(uart.input(lineStatus) & 1 == 0)
        #expect(uart.input(data) == 0)
    }

    @Test(arguments: [(UInt8(0), 1), (0x40, 4), (0x80, 8), (0xc0, 14)])
    func `below the trigger level the interrupt is a time-out`(bits: UInt8, trigger: Int) {
        uart.output(enable, 0x01)
        uart.output(identification, bits | 0x01)
        for count in 1...16 {
            uart.receive(UInt8(count))
            #expect(uart.input(identification) == (count < trigger ? 0xcc : 0xc4))
        }
        #expect(!uart.canReceive)
        #expect((1...16).allSatisfy { uart.input(data) == UInt8($0) })
    }

    @Test func `a byte too many is lost, and the overrun is told once, first of all`() {
        uart.output(modemControl, 0x08)
        uart.output(enable, 0x07)
        uart.receive(1)
        uart.receive(2)
        #expect(uart.input(identification) == 0x06)
        #expect(uart.input(lineStatus) & 0x02 != 0)
        #expect(uart.input(lineStatus) & 0x02 == 0)
        #expect(uart.input(identification) == 0x04)
        #expect(uart.input(data) == 1)
        #expect(uart.input(identification) == 0x02)
        #expect(uart.input(identification) == 0x01)
    }

    @Test func `clearing the receive FIFO, or switching FIFOs, empties it`() {
        uart.output(identification, 0x01)
        uart.receive(1)
        uart.output(identification, 0x03)
        #expect(uart.input(lineStatus) & 1 == 0)
        uart.receive(2)
        uart.output(identification, 0x00)
        #expect(uart.input(lineStatus) & 1 == 0)
    }

    @Test func `in loopback bytes come back and the outside is cut off`() {
        uart.output(modemControl, 0x10)
        #expect(!uart.canReceive)
        uart.receive(9)
        #expect(uart.input(lineStatus) & 1 == 0)
        uart.output(data, 0x77)
        #expect(sent.values.isEmpty)
        #expect(uart.input(data) == 0x77)
    }

    @Test func `modem status changes are noted until read, and interrupt`() {
        uart.output(modemControl, 0x10)
        _ = uart.input(modemStatus)
        uart.output(enable, 0x08)
        uart.output(modemControl, 0x12)
        #expect(uart.input(identification) == 0x00)
        #expect(uart.input(modemStatus) == 0x11)
        #expect(uart.input(identification) == 0x01)
        #expect(uart.input(modemStatus) == 0x10)
        // The ring indicator counts when it ends.
        uart.output(modemControl, 0x16)
        #expect(uart.input(modemStatus) == 0x50)
        uart.output(modemControl, 0x12)
        #expect(uart.input(modemStatus) == 0x14)
    }

    @Test func `reset lowers the line and forgets everything but the scratch register`() {
        uart.output(scratch, 3)
        uart.output(modemControl, 0x08)
        uart.output(enable, 0x0f)
        #expect(line.take() == [true])
        uart.reset()
        #expect(line.take() == [false])
        #expect(uart.input(identification) == 0x01)
        #expect(uart.input(scratch) == 3)
    }
}
