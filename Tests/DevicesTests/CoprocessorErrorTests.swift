import Devices
import Testing

@Suite struct CoprocessorErrorTests {
    @Test func `FERR# latches IRQ 13, and a write of port 0xf0 lets the processor go on`() {
        let line = Recorder<Bool>()
        let chip = CoprocessorError(interrupt: { line.append($0) })
        #expect(!chip.signal(true))
        #expect(line.take() == [true])
        #expect(!chip.signal(true))
        #expect(line.take() == [])
        chip.output(0xf0, 0)
        #expect(line.take() == [false])
        #expect(chip.signal(true))
        #expect(!chip.signal(false))
        #expect(!chip.signal(true))
        #expect(line.take() == [true])
        // Nothing is ignored where nothing is pending.
        _ = chip.signal(false)
        chip.output(0xf0, 0)
        #expect(!chip.signal(true))
    }
}
