import Devices
import Processor
import X86

/// The pins of one processor: they tell the chips which one it is that asks.
final class ProcessorPins: Platform {
    private let board: Board
    private let index: Int
    /// Set once it exists; it owns its pins. Not weak: what was ever referred to so is slower to
    /// retain, and the processor is retained in each slow access.
    unowned var processor: Processor?

    init(_ board: Board, index: Int) {
        self.board = board
        self.index = index
    }

    func readPort(_ port: UInt16, size: Int) -> UInt32 {
        defer { accessed() }
        return board.chipset.readPort(port, size: size)
    }

    func writePort(_ port: UInt16, size: Int, value: UInt32) {
        board.chipset.writePort(port, size: size, value: value)
        accessed()
    }

    func readDevice(_ address: MachineAddress, size: Int) -> UInt64 {
        defer { accessed() }
        return board.chipset.readMemory(
            board.guestAddress(of: address), size: size, processor: index)
    }

    func writeDevice(_ address: MachineAddress, size: Int, value: UInt64) {
        board.chipset.writeMemory(
            board.guestAddress(of: address), size: size, value: value, processor: index)
        accessed()
    }

    func readAPICRegister(_ register: UInt32, processor: Int) -> UInt64? {
        defer { accessed() }
        return board.chipset.readAPICRegister(register, processor: processor)
    }

    func writeAPICRegister(_ register: UInt32, value: UInt64, processor: Int) -> Bool {
        defer { accessed() }
        return board.chipset.writeAPICRegister(register, value: value, processor: processor)
    }

    func taskPriority(processor: Int) -> UInt8 {
        board.chipset.taskPriority(processor: processor)
    }

    func setTaskPriority(_ value: UInt8, processor: Int) {
        board.chipset.setTaskPriority(value, processor: processor)
        accessed()
    }

    func setTimeStampOffset(_ offset: UInt64, processor: Int) {
        board.chipset.setTimeStampOffset(offset, processor: processor)
        accessed()
    }

    func signalFloatingPointError(_ isPending: Bool, processor: Int) -> Bool {
        defer { accessed() }
        return board.chipset.signalFloatingPointError(isPending)
    }

    func acknowledgeInterrupt(processor: Int) -> UInt8? {
        let vector = board.chipset.acknowledgeInterrupt(processor: processor)
        self.processor?.interruptRequested = board.chipset.hasInterrupt(processor: processor)
        return vector
    }

    func marked(_ marker: RegionMarker, processor: Int) {
        board.marker = marker
        self.processor?.requestStop()
    }

    func timeStamp(retired: UInt64, processor: Int) -> UInt64 {
        board.clock.now(retired: retired)
    }

    /// An access may have raised an interrupt, set a timer or ended the machine: the run loop
    /// looks at it before the next instruction.
    private func accessed() {
        if board.chipset.interruptsChanged || board.chipset.event != nil
            || board.hasPrintedLastText
        {
            processor?.requestStop()
        }
    }
}
