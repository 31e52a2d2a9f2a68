import Snapshot
import X86

/// All chips of the machine, wired: a small PC with a serial port and no buses.
///
/// Problem: the board has processors and memory, and everything else that an unmodified kernel
/// expects must answer at ports, at device addresses and by interrupts, at exact times of the
/// machine's clock. Approach: each chip computes what it would hold from `TimeSource.now` when it
/// is looked at, and says when it will next do something by itself (`nextEvent`); nothing runs in
/// between. The board looks at `nextEvent` and `hasInterrupt` whenever `interruptsChanged` is set:
///
/// ```swift
/// if let due = chipset.nextEvent, due <= clock.now { chipset.advance() }
/// if chipset.interruptsChanged {
///     chipset.interruptsChanged = false
///     pending = chipset.hasInterrupt(processor: 0)
///     deadline = chipset.nextEvent
/// }
/// ```
///
/// Not safe for concurrent use: one thread at a time. Deterministic: the same calls at the same
/// times give the same answers. No value that a guest writes can trap.
public final class Chipset {
    private let time: any TimeSource
    private let signals = MachineSignals()
    private let fabric: InterruptFabric
    private let serial: UART16550
    private let timer: PIT8254
    private let clock: MC146818
    private let coprocessor: CoprocessorError
    private let power: PowerManagement
    private let resets: ResetControl
    private let firmware: FirmwareConfiguration
    private var testDevice: TestDevice?
    private var testMemory: [TestDeviceMemory] = []
    private var ports = PortBus()
    private var memory = MemoryBus()

    /// Makes the chips in their power-on state.
    /// - Parameters:
    ///   - configuration: its `processors` must be in 1…`PlatformMap.maximumProcessors`.
    ///   - time: the machine's clock; kept.
    ///   - console: receives each byte that the guest prints, from within the guest's write.
    public init(
        configuration: ChipsetConfiguration, time: any TimeSource,
        console: @escaping (UInt8) -> Void
    ) {
        precondition(
            (1...PlatformMap.maximumProcessors).contains(configuration.processors),
            "1…\(PlatformMap.maximumProcessors) processors")
        self.time = time
        let signals = signals
        let fabric = InterruptFabric(
            localAPICs: (0..<configuration.processors).map {
                LocalAPIC(
                    processor: $0, time: time, signals: signals,
                    tsc: Frequency(hertz: configuration.tscFrequency),
                    crystal: Frequency(hertz: configuration.crystalFrequency),
                    physicalAddressBits: configuration.physicalAddressBits,
                    hasX2APIC: configuration.hasX2APIC)
            })
        self.fabric = fabric
        func line(_ irq: Int) -> Line { { fabric.setLine(irq, $0) } }
        serial = UART16550(sink: console, interrupt: line(PlatformMap.Interrupt.com1))
        timer = PIT8254(time: time, signals: signals, interrupt: line(PlatformMap.Interrupt.timer))
        clock = MC146818(
            startTime: configuration.startTime, memoryBytes: configuration.memoryBytes,
            time: time, signals: signals, interrupt: line(PlatformMap.Interrupt.clock))
        coprocessor = CoprocessorError(interrupt: line(PlatformMap.Interrupt.coprocessor))
        power = PowerManagement(
            time: time, signals: signals, interrupt: line(PlatformMap.Interrupt.systemControl))
        resets = ResetControl(signals: signals)
        firmware = FirmwareConfiguration(
            memoryBytes: configuration.memoryBytes, processors: configuration.processors)
        if let port = configuration.debugConsolePort {
            ports.attach(DebugConsole(sink: console), at: port, count: 1)
        }
        attach(configuration)
        reset()
    }

    private func attach(_ configuration: ChipsetConfiguration) {
        typealias Port = PlatformMap.Port
        ports.attach(fabric.pics, at: Port.primaryPIC, count: 2)
        ports.attach(fabric.pics, at: Port.secondaryPIC, count: 2)
        ports.attach(fabric.pics, at: Port.triggerModes, count: 2)
        ports.attach(timer, at: Port.timer, count: 4)
        ports.attach(timer, at: Port.systemControlB, count: 1)
        ports.attach(clock, at: Port.clock, count: 2)
        ports.attach(serial, at: Port.com1, count: 8)
        ports.attach(coprocessor, at: Port.coprocessorError, count: 2)
        ports.attach(firmware, at: Port.firmwareConfiguration, count: 2, widest: 2)
        ports.attach(power, at: Port.pm1aEvent, count: 6, widest: 4)
        ports.attach(power, at: Port.pmTimer, count: 4, widest: 4)
        ports.attach(resets, at: Port.keyboardData, count: 1)
        ports.attach(resets, at: Port.keyboardCommand, count: 1)
        ports.attach(resets, at: Port.systemControlA, count: 1)
        ports.attach(resets, at: Port.pciConfigurationAddress, count: 4, widest: 4)
        if let port = configuration.debugExitPort {
            ports.attach(
                DebugExit(signals: signals), at: port,
                count: min(max(configuration.debugExitSize, 1), 4), widest: 4)
        }
        memory.attach(fabric.ioAPIC, at: PlatformMap.Memory.ioAPIC)
        if configuration.hasTestDevice { attachTestDevice() }
    }

    private func attachTestDevice() {
        let device = TestDevice { [fabric] line, asserted in fabric.setLine(line, asserted) }
        ports.attach(device, at: TestDevice.dataPort, count: TestDevice.dataPorts, widest: 4)
        ports.attach(device, at: TestDevice.linePort, count: TestDevice.lineCount, widest: 4)
        testDevice = device
        for page in 0..<TestDevice.memoryPages {
            let device = TestDeviceMemory()
            memory.attach(device, at: TestDevice.memoryBase + page * pageSize)
            testMemory.append(device)
        }
    }

    /// Puts every chip into its power-on state. Time, and the date of the clock, go on; an event
    /// that nobody has taken is dropped.
    public func reset() {
        fabric.reset()
        serial.reset()
        timer.reset()
        clock.reset()
        coprocessor.reset()
        power.reset()
        resets.reset()
        firmware.reset()
        signals.setEvent(nil)
        signals.interruptsChanged = true
    }

    // MARK: Accesses

    /// Reads `size` (1, 2 or 4) bytes from an I/O port. Nobody there: all ones.
    public func readPort(_ port: UInt16, size: Int) -> UInt32 { ports.read(port, size: size) }

    /// Writes the low `size` (1, 2 or 4) bytes of `value` to an I/O port.
    public func writePort(_ port: UInt16, size: Int, value: UInt32) {
        ports.write(port, size: size, value: value)
    }

    /// Reads `size` (1…8) bytes at a guest-physical address that no memory answers. Nobody there:
    /// all ones.
    /// - Parameter processor: who reads: each sees its own local APIC.
    public func readMemory(_ address: GuestPhysicalAddress, size: Int, processor: Int) -> UInt64 {
        let apic = fabric.localAPICs[processor]
        if apic.registerPage == address.pageBase {
            return MemoryBus.read(from: apic, at: address, size: size)
        }
        return memory.read(address, size: size)
    }

    /// Writes the low `size` (1…8) bytes of `value` at such an address.
    /// - Parameter processor: who writes: each sees its own local APIC.
    public func writeMemory(
        _ address: GuestPhysicalAddress, size: Int, value: UInt64, processor: Int
    ) {
        let apic = fabric.localAPICs[processor]
        if apic.registerPage == address.pageBase {
            MemoryBus.write(to: apic, at: address, size: size, value: value)
        } else {
            memory.write(address, size: size, value: value)
        }
    }

    /// Reads IA32_APIC_BASE, IA32_TSC_DEADLINE or an x2APIC register. Nil: #GP.
    public func readAPICRegister(_ register: UInt32, processor: Int) -> UInt64? {
        fabric.localAPICs[processor].readModelSpecific(register)
    }

    /// Writes IA32_APIC_BASE, IA32_TSC_DEADLINE or an x2APIC register. False: #GP.
    public func writeAPICRegister(_ register: UInt32, value: UInt64, processor: Int) -> Bool {
        fabric.localAPICs[processor].writeModelSpecific(register, value)
    }

    /// The task priority class, 0…15: what CR8 reads.
    public func taskPriority(processor: Int) -> UInt8 {
        fabric.localAPICs[processor].taskPriorityClass
    }

    /// Sets the task priority class, of which the low four bits count: MOV to CR8.
    public func setTaskPriority(_ value: UInt8, processor: Int) {
        fabric.localAPICs[processor].taskPriorityClass = value
    }

    /// A processor's time-stamp counter is now `offset` ahead of the machine's, modulo 2⁶⁴.
    public func setTimeStampOffset(_ offset: UInt64, processor: Int) {
        fabric.localAPICs[processor].setTimeStampOffset(offset)
    }

    /// Drives FERR#, which all processors share. Returns IGNNE#.
    public func signalFloatingPointError(_ isPending: Bool) -> Bool {
        coprocessor.signal(isPending)
    }

    // MARK: To the processors

    /// Whether INTR is asserted: a vector that the priorities let through, or one of the 8259s.
    public func hasInterrupt(processor: Int) -> Bool {
        let apic = fabric.localAPICs[processor]
        return apic.externalInterruptAsserted || apic.hasInterrupt
    }

    /// Takes the interrupt that the processor is about to deliver. Nil: it went away.
    public func acknowledgeInterrupt(processor: Int) -> UInt8? {
        let apic = fabric.localAPICs[processor]
        if apic.externalInterruptAsserted { return fabric.pics.acknowledge() }
        return apic.acknowledge()
    }

    /// Whether an NMI waits for the processor; it is taken.
    public func takeNMI(processor: Int) -> Bool { fabric.localAPICs[processor].takeNonMaskable() }

    /// The INIT or start-up IPI that waits for the processor; it is taken. An INIT comes before a
    /// start-up that followed it.
    public func takeStartup(processor: Int) -> StartupEvent? {
        fabric.localAPICs[processor].takeStartup()
    }

    /// Set whenever an answer of `hasInterrupt`, `takeNMI`, `takeStartup` or `nextEvent` may have
    /// changed; the board clears it.
    public var interruptsChanged: Bool {
        get { signals.interruptsChanged }
        set { signals.interruptsChanged = newValue }
    }

    // MARK: Time

    /// The earliest `TimeSource.now` at which a chip will do something by itself, in nanoseconds;
    /// nil if none will. It may lie in the past: then `advance` is due.
    public var nextEvent: UInt64? {
        var next: UInt64?
        func consider(_ candidate: UInt64?) {
            if let candidate { next = min(next ?? candidate, candidate) }
        }
        consider(timer.nextEvent)
        consider(clock.nextEvent)
        consider(power.nextEvent)
        for apic in fabric.localAPICs { consider(apic.nextEvent) }
        return next
    }

    /// Does everything that is due at the present time. What was due several times is done once.
    public func advance() {
        timer.advance()
        clock.advance()
        power.advance()
        for apic in fabric.localAPICs { apic.advance() }
    }

    // MARK: The outside

    /// What ended the run, if anything did; the board takes it by setting nil.
    public var event: MachineEvent? {
        get { signals.event }
        set { signals.setEvent(newValue) }
    }

    /// Whether the serial port has room for another byte of input.
    public var canReceive: Bool { serial.canReceive }

    /// Gives the serial port a byte of input; without room it is lost.
    public func receive(_ byte: UInt8) { serial.receive(byte) }
}

// MARK: Saved machines

extension Chipset {
    /// Writes the state of every chip.
    package func save(to writer: inout FieldWriter) {
        fabric.pics.save(to: &writer)
        fabric.ioAPIC.save(to: &writer)
        for apic in fabric.localAPICs { apic.save(to: &writer) }
        serial.save(to: &writer)
        timer.save(to: &writer)
        clock.save(to: &writer)
        coprocessor.save(to: &writer)
        power.save(to: &writer)
        resets.save(to: &writer)
        firmware.save(to: &writer)
        testDevice?.save(to: &writer)
        for page in testMemory { page.save(to: &writer) }
        signals.save(to: &writer)
    }

    /// Has every chip take on the state that one of an equal configuration has written. The time
    /// source must show the time of that moment already. After an error the chips are not to be
    /// used.
    package func restore(from reader: inout FieldReader) throws(FieldError) {
        try fabric.pics.restore(from: &reader)
        try fabric.ioAPIC.restore(from: &reader)
        for apic in fabric.localAPICs { try apic.restore(from: &reader) }
        try serial.restore(from: &reader)
        try timer.restore(from: &reader)
        try clock.restore(from: &reader)
        try coprocessor.restore(from: &reader)
        try power.restore(from: &reader)
        try resets.restore(from: &reader)
        try firmware.restore(from: &reader)
        try testDevice?.restore(from: &reader)
        for page in testMemory { try page.restore(from: &reader) }
        // Last: what chips do on their way raises signals that are none of the saved machine's.
        try signals.restore(from: &reader)
    }
}
