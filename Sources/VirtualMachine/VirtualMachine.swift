import Boot
import Devices
import Hypervisor
import MachineMemory
import Processor
import SystemPackage
import X86

/// A small PC with one processor: memory, hypervisor, chips, clock, and the loop that runs them.
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

    private let console: any ConsolePort
    private let memory: MachineMemory
    private let clock: MachineClock
    private let board: Board
    private let processor: Processor
    private let hypervisor: Hypervisor
    private let tap: ConsoleTap

    /// How many instructions may pass before input and the stop flag are looked at.
    private static let pollInterval: UInt64 = 100_000

    /// Makes the machine and loads the guest.
    public init(
        _ configuration: MachineConfiguration, console: any ConsolePort
    ) throws(MachineError) {
        guard configuration.processors == 1 else {
            throw .severalProcessors(configuration.processors)
        }
        self.configuration = configuration
        self.console = console
        let model: ProcessorModel
        do { model = try ProcessorModel(parsing: configuration.processorModel) } catch {
            throw .model(error)
        }
        do {
            memory = try MachineMemory(
                guestBytes: configuration.memoryBytes,
                hypervisorBytes: Hypervisor.hypervisorBytes(
                    for: configuration.technique, shadowBytes: configuration.shadowMemoryBytes,
                    processors: configuration.processors))
        } catch { throw .memory(error) }
        clock = MachineClock(configuration.clock)
        let tap = ConsoleTap(console)
        board = Board(configuration, memory: memory, clock: clock, model: model, console: tap)
        processor = Processor(memory: memory, platform: board, model: model, index: 0)
        do {
            hypervisor = try Hypervisor(
                memory: memory, processors: [processor], technique: configuration.technique,
                shadowBytes: configuration.shadowMemoryBytes)
        } catch { throw .hypervisor(error) }
        self.tap = tap
        board.processor = processor
        board.hypervisor = hypervisor
        clock.retired = { [unowned processor] in processor.retired }
        do { try boot() } catch { throw .boot(error) }
    }

    /// Puts the guest's files into memory and the processor at its first instruction.
    private func boot() throws(BootError) {
        var request = BootRequest(
            kernel: FilePath(configuration.kernel), initrd: configuration.initrd,
            commandLine: configuration.commandLine, memoryBytes: configuration.memoryBytes,
            processors: configuration.processors, rngSeed: configuration.seed)
        request.platform = PlatformAddresses()
        let state = try BootLoader.load(request, into: board)
        processor.setBootState(BootRegisters(state))
        processor.seedRandom(configuration.seed)
        hypervisor.start()
    }

    /// Instructions retired so far.
    public var retired: UInt64 { processor.retired }
    /// The exact counts so far.
    public var ledger: Ledger { hypervisor.ledger }

    /// A fingerprint of what the guest did and left behind, the same for every run of one
    /// configuration under every technique.
    public func digest() -> Digest {
        Digest(
            console: tap.digest, retired: processor.retired, registers: processor.registerDigest,
            memory: memory.guestDigest())
    }

    // MARK: Running

    /// Runs the guest until it ends, or is ended.
    public func run() -> RunOutcome {
        var nextPoll = processor.retired
        while true {
            if processor.retired >= nextPoll {
                if stopFlag.isSet { return .stopped }
                nextPoll = processor.retired &+ Self.pollInterval
                receiveInput()
            }
            if let outcome = attendToChips() { return outcome }
            let exit = processor.run(until: min(nextPoll, timerLimit()))
            switch exit {
            case .limit: continue
            case .stopped:
                console.poll()
                if stopFlag.isSet { return .stopped }
            case .halted:
                if stopFlag.isSet { return .stopped }
                idle()
            case .tripleFault:
                return .tripleFault(tripleFaultText)
            case .unsupported(let feature):
                return .unsupported(
                    "\(feature), which the guest turned on at "
                        + "\(GuestVirtualAddress(processor.rip)), is not there yet")
            case .pageFault, .secondDimensionFault, .rootLoaded, .invalidatePage, .invalidatePCID, .pagingModeChanged,
                .bufferThreshold, .bufferFull, .writeCompleted:
                _ = hypervisor.handle(exit, processor: 0)
            }
        }
    }

    /// Lets due timers act and tells the processor of interrupts.
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
            processor.interruptRequested = chipset.hasInterrupt(processor: 0)
            if chipset.takeNMI(processor: 0) { processor.nmiRequested = true }
        }
        return nil
    }

    /// Starts the guest anew from its files; false where they cannot be loaded any more.
    private func reset() -> Bool {
        board.chipset.reset()
        processor.reset()
        do { try boot() } catch { return false }
        return true
    }

    /// The retired count at which the next timer is due.
    private func timerLimit() -> UInt64 {
        guard let event = board.chipset.nextEvent else { return .max }
        switch clock.kind {
        case .virtual: return max(clock.retiredCount(at: event), processor.retired &+ 1)
        // The host's time is looked at every so many instructions.
        case .host: return processor.retired &+ 5_000
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
        "triple fault at \(GuestVirtualAddress(processor.rip)), CR2 "
            + "\(GuestVirtualAddress(processor.cr2)), after \(processor.retired) instructions"
    }
}

/// How a run ended.
public enum RunOutcome: Equatable, Sendable {
    /// The guest powered the machine off.
    case poweredOff
    /// The guest reset the machine, and that ends the run.
    case reset
    /// The guest wrote to the debug-exit device; `status` is `(value << 1) | 1`.
    case debugExit(status: UInt8)
    /// The processor shut down: a fault in delivering a double fault.
    case tripleFault(String)
    /// The guest turned on something that the machine does not have yet.
    case unsupported(String)
    /// `stopFlag` was set.
    case stopped
}
