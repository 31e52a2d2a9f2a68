import Boot
import Devices
import Hypervisor
import MachineMemory
import Processor
import SystemPackage
import Verification
import X86

/// A small PC: processors, memory, hypervisor, chips, clock, and the loop that runs them.
///
/// All processors run on the caller's thread, in turns (`Turn`).
///
/// ```swift
/// let machine = try VirtualMachine(configuration, console: console)
/// let outcome = machine.run()
/// ```
///
/// One thread at a time; `stopFlag` may be used from any.
public final class VirtualMachine {
    /// What the machine was made from.
    public let configuration: MachineConfiguration
    /// Ends `run` from outside.
    public let stopFlag = StopFlag()
    /// The region at whose beginning `run` returns `.marked`, as often as that comes; nil: none.
    /// `run` called again goes on behind the marker.
    public var stopRegion: UInt16?
    /// Makes `run` return `.paused` between two instructions; it can be called again then. Asked
    /// from within a processor's access to the platform, with `Processor.requestStop`, it comes
    /// right after the instruction.
    public let pauseFlag = StopFlag()
    /// Makes `run` return `.debugStop(.interrupted)` between two instructions.
    public let breakFlag = StopFlag()
    /// Whether any processor may stop for a debugger.
    var isDebugged = false
    /// The retired count of all processors at which `run` returns `.paused`, once.
    public var pausePoint: UInt64?

    private let console: any ConsolePort
    let memory: MachineMemory
    let clock: MachineClock
    let board: Board
    package let processors: [Processor]
    let hypervisor: Hypervisor
    let tap: ConsoleTap
    private let oracle: Oracle?
    var turn: Turn
    /// How the run has gone on, where the configuration has a `sampleInterval`.
    public private(set) var series: RunSeries?

    /// The retired count at which input and the stop flag are looked at next: what comes between
    /// has no part in when that is.
    private var nextPoll: UInt64 = 0

    /// How many instructions may pass before input and the stop flag are looked at.
    private static let pollInterval: UInt64 = 100_000

    /// Makes the machine and loads the guest.
    public convenience init(
        _ configuration: MachineConfiguration, console: any ConsolePort
    ) throws(MachineError) {
        guard let kernel = configuration.kernel else { throw .noKernel }
        try self.init(assembling: configuration, console: console)
        do { try boot(kernel) } catch { throw .boot(error) }
    }

    /// Makes the machine and has it go on where it was saved. Its counts and ledger begin at zero
    /// there; retired instructions, time and the digest of the console go on.
    /// - Parameter configuration: equal to the saved machine's in what belongs to it (memory,
    ///   processors, model, devices, turns, seed); free in everything else.
    public convenience init(
        restoring saved: SavedMachine, _ configuration: MachineConfiguration,
        console: any ConsolePort
    ) throws(MachineError) {
        do { try saved.check(configuration) } catch { throw .saved(error) }
        try self.init(assembling: configuration, console: console)
        do throws(SavedMachineError) {
            // First: an observer of the processors reads the tables that their registers name.
            try restoreMemory(saved)
            for (number, processor) in processors.enumerated() {
                try saved.read("processor\(number)", processor.restore)
            }
            try saved.read(SavedFile.board, restoreBoard)
            try saved.read(SavedFile.chipset, board.chipset.restore)
        } catch { throw .saved(error) }
        hypervisor.start()
    }

    /// Makes the machine, with nothing in its memory.
    private init(
        assembling configuration: MachineConfiguration, console: any ConsolePort
    ) throws(MachineError) {
        guard 1...MachineConfiguration.mostProcessors ~= configuration.processors else {
            throw .badProcessorCount(configuration.processors)
        }
        if configuration.engine == .translator, let lack = Engine.translatorLack {
            throw .noTranslator(lack)
        }
        self.configuration = configuration
        self.console = console
        var model: ProcessorModel
        do { model = try ProcessorModel(parsing: configuration.processorModel) } catch {
            throw .model(error)
        }
        if let lack = HostVectors.lack(of: model) { throw .modelNeedsHost(lack) }
        model.processorCount = configuration.processors
        do {
            memory = try MachineMemory(
                guestBytes: configuration.memoryBytes,
                hypervisorBytes: Hypervisor.hypervisorBytes(
                    for: configuration.technique, shadowBytes: configuration.shadowMemoryBytes,
                    processors: configuration.processors, guestBytes: configuration.memoryBytes))
        } catch { throw .memory(error) }
        clock = MachineClock(configuration.clock)
        let tap = ConsoleTap(console)
        board = Board(configuration, memory: memory, clock: clock, model: model, console: tap)
        processors = Self.makeProcessors(
            configuration, memory: memory, board: board, model: model)
        turn = Turn(
            processors: processors.count, quantum: configuration.quantum,
            seed: configuration.interleaving)
        do {
            hypervisor = try Hypervisor(
                memory: memory, processors: processors, technique: configuration.technique,
                shadowBytes: configuration.shadowMemoryBytes)
        } catch { throw .hypervisor(error) }
        self.tap = tap
        oracle =
            configuration.verification == .off
            ? nil
            : Oracle(
                memory: memory, processors: processors, uses: configuration.verification == .uses)
        board.hypervisor = hypervisor
        clock.retired = { [unowned self] in current.retired }
        turn.begin(0, retired: 0, total: 0)
        if configuration.countsPlaces { hypervisor.countPlaces() }
    }

    private static func makeProcessors(
        _ configuration: MachineConfiguration, memory: MachineMemory, board: Board,
        model: ProcessorModel
    ) -> [Processor] {
        (0..<configuration.processors).map { number in
            let pins = ProcessorPins(board, index: number)
            let processor = Processor(
                memory: memory, platform: pins, model: model, index: number,
                hardware: configuration.hardware)
            pins.processor = processor
            processor.use(configuration.engine ?? .standard)
            return processor
        }
    }

    /// Puts the guest's files into memory, the first processor at its first instruction, and the
    /// others into waiting for it.
    private func boot(_ kernel: String) throws(BootError) {
        var request = BootRequest(
            kernel: FilePath(kernel), initrd: configuration.initrd,
            commandLine: configuration.commandLine, memoryBytes: configuration.memoryBytes,
            processors: configuration.processors, rngSeed: configuration.seed)
        request.platform = PlatformAddresses()
        request.isFirmware = configuration.isFirmware
        let state = try BootLoader.load(request, into: board)
        for (number, processor) in processors.enumerated() {
            if number == 0 {
                processor.setBootState(BootRegisters(state))
            } else {
                processor.reset()
                processor.waitForStartup()
            }
            processor.seedRandom(
                configuration.seed &+ UInt64(number) &* 0xd1b5_4a32_d192_ed03)
        }
        hypervisor.start()
    }

    /// Instructions that all processors have retired so far.
    public var retired: UInt64 { clock.retiredByOthers &+ current.retired }
    /// The engine that executes guest code.
    public var engine: Engine { processors[0].engine }
    /// The exact counts so far.
    public var ledger: Ledger { hypervisor.ledger }
    /// The same in parts: by region and, where the configuration has `countsPlaces`, by guest code
    /// and process.
    public var breakdown: LedgerBreakdown { hypervisor.breakdown }
    /// Where the guest's kernel takes system calls (IA32_LSTAR of the first processor), which tells
    /// where a relocated kernel lies.
    public var systemCallEntry: UInt64 { processors[0].systemCallEntry }
    /// What the oracle has judged so far; nil where it is off.
    public var lawfulness: LawfulnessCounts? { oracle?.counts }
    /// Called, once at most, where the oracle has to judge more leniently from then on, with one
    /// line that says why.
    public var onLeniency: (String) -> Void = { _ in } {
        didSet { oracle?.onLeniency = onLeniency }
    }

    /// A fingerprint of what the guest did and left behind, the same for every run of one
    /// configuration under every technique.
    public func digest() -> Digest {
        var registers = processors[0].registerDigest
        for processor in processors.dropFirst() {
            registers = (registers ^ processor.registerDigest) &* 0x0000_0100_0000_01b3
            registers ^= registers >> 29
        }
        return Digest(
            console: tap.digest, retired: retired, registers: registers,
            memory: memory.guestDigest())
    }

    // MARK: Running

    /// Runs the guest until it ends, is ended, or pauses.
    public func run() -> RunOutcome {
        if stopFlag.isSet { return .stopped }
        if board.hasPrintedLastText { return .printed }
        if let interval = configuration.sampleInterval, series == nil {
            series = RunSeries(interval: interval, start: retired)
        }
        while true {
            if series != nil { sample() }
            if retired >= nextPoll {
                if stopFlag.isSet { return .stopped }
                nextPoll = retired &+ Self.pollInterval
                receiveInput()
            }
            // Events are delivered whole: an exit in the middle is no place that the guest knows.
            let isBetween = !current.isDeliveringEvent
            if isBetween, let stop = debugStop { return stop }
            if isBetween, isPauseDue { return .paused }
            if isBetween, current.retired >= turn.end { passTurn() }
            if let outcome = attendToChips() { return outcome }
            let before = current.retired
            let exit = current.run(until: limit())
            if let violation = oracle?.violation { return .unlawful(violation) }
            if current.retired != before { turn.stir() }
            switch exit {
            case .limit: continue
            case .stopped:
                console.poll()
                if board.hasPrintedLastText { return .printed }
                if takeMarker() { return .marked }
                if stopFlag.isSet { return .stopped }
                if current.takeStandstill() { passTurn() }
            case .halted:
                if stopFlag.isSet { return .stopped }
                if turn.halted(worked: current.retired != before) { idle() }
                passTurn()
            case .tripleFault:
                return .tripleFault(tripleFaultText)
            case .pageFault, .secondDimensionFault, .rootLoaded, .invalidatePage,
                .invalidatePCID, .pagingModeChanged, .bufferThreshold, .bufferFull,
                .writeCompleted:
                _ = hypervisor.handle(exit, processor: turn.processor)
            }
        }
    }

    /// What `run` is to return here for a debugger; told once.
    private var debugStop: RunOutcome? {
        if isDebugged {
            for (number, processor) in processors.enumerated() {
                if let stop = processor.takeDebugStop() {
                    return .debugStop(processor: number, stop)
                }
            }
        }
        guard breakFlag.isSet else { return nil }
        breakFlag.clear()
        return .debugStop(processor: turn.processor, .interrupted)
    }

    /// Whether `run` is to return here; told once.
    private var isPauseDue: Bool {
        if let pausePoint, retired >= pausePoint {
            self.pausePoint = nil
            return true
        }
        guard pauseFlag.isSet else { return false }
        pauseFlag.clear()
        return true
    }

    /// The processor whose turn it is.
    var current: Processor { processors[turn.processor] }

    /// Adds a point to the series where one is due.
    private func sample() {
        guard let next = series?.next, retired >= next else { return }
        series?.add(
            RunSeries.Point(
                ledger, instructions: retired, bufferedRecords: hypervisor.takeFullestBuffer()))
    }

    /// Has the hypervisor count a new region where the guest has marked one.
    /// - Returns: whether the run is to stop there.
    private func takeMarker() -> Bool {
        guard let marker = board.marker else { return false }
        board.marker = nil
        hypervisor.mark(marker)
        return stopRegion.map { marker == .begin($0) } ?? false
    }

    private func passTurn() {
        let next = turn.next
        let total = retired
        clock.retiredByOthers = total &- processors[next].retired
        turn.begin(next, retired: processors[next].retired, total: total)
    }

    /// Lets due timers act and tells the processors of interrupts.
    /// - Returns: how the machine ended, if a chip ended it.
    private func attendToChips() -> RunOutcome? {
        let chipset = board.chipset
        if let event = chipset.event {
            chipset.event = nil
            switch event {
            case .powerOff: return .poweredOff
            case .debugExit(let status): return .debugExit(status: status)
            case .reset:
                guard configuration.rebootAllowed else { return .reset }
                if !reset() { return .reset }
            }
        }
        if let due = chipset.nextEvent, due <= clock.now { chipset.advance() }
        if chipset.interruptsChanged {
            chipset.interruptsChanged = false
            turn.stir()
            for (number, processor) in processors.enumerated() { signal(processor, number) }
        }
        return nil
    }

    /// Tells one processor what its local APIC has for it.
    private func signal(_ processor: Processor, _ number: Int) {
        while let event = board.chipset.takeStartup(processor: number) {
            switch event {
            case .initialize:
                processor.initialize()
                if number != 0 { processor.waitForStartup() }
                hypervisor.restart(processor: number)
            case .startup(let vector):
                processor.start(vector: vector)
            }
        }
        processor.interruptRequested = board.chipset.hasInterrupt(processor: number)
        if board.chipset.takeNMI(processor: number) { processor.nmiRequested = true }
    }

    /// Starts the guest anew from its files; false where they cannot be loaded any more.
    private func reset() -> Bool {
        guard let kernel = configuration.kernel else { return false }
        board.chipset.reset()
        do { try boot(kernel) } catch { return false }
        return true
    }

    /// How far the present processor may run, in its own retired count: to the end of its turn,
    /// the next timer, the next poll, the pause point or that of a debugger's single step.
    private func limit() -> UInt64 {
        let total = retired
        let before = min(
            nextPoll, timerLimit(total), pausePoint ?? .max, series?.next ?? .max)
        let (limit, overflow) = current.retired.addingReportingOverflow(before &- total)
        let own = isDebugged ? min(turn.end, current.debugLimit) : turn.end
        return min(own, overflow ? .max : limit)
    }

    /// The retired count at which the next timer is due, after the present one.
    private func timerLimit(_ total: UInt64) -> UInt64 {
        guard let event = board.chipset.nextEvent else { return .max }
        switch clock.kind {
        case .virtual: return max(clock.retiredCount(at: event), total &+ 1)
        // The host's time is looked at every so many instructions.
        case .host: return total &+ 5_000
        }
    }

    /// The guest waits for an interrupt.
    private func idle() {
        receiveInput()
        guard let event = board.chipset.nextEvent else {
            // Nothing but input can wake the guest.
            console.waitForInput(nanoseconds: 100_000_000)
            return
        }
        switch clock.kind {
        case .virtual: clock.skip(to: event)
        case .host:
            let now = clock.now
            if event > now { console.waitForInput(nanoseconds: event - now) }
        }
    }

    private func receiveInput() {
        console.poll()
        while board.chipset.canReceive, let byte = console.read() { board.chipset.receive(byte) }
    }

    private var tripleFaultText: String {
        let which = processors.count == 1 ? "" : " of processor \(turn.processor)"
        return "triple fault\(which) at \(GuestVirtualAddress(current.rip)), CR2 "
            + "\(GuestVirtualAddress(current.cr2)), after \(retired) instructions"
    }
}
