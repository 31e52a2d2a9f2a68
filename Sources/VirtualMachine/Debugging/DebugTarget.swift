import Hypervisor
import MachineMemory
import Processor
import X86

/// What a debugger may do with a machine that does not run at the moment.
///
/// *Problem.* A debugger is to see everything, and a run that it only looks at is to be the same as
/// one without it: the same digest, the same counts.
///
/// *Approach.* Memory is read through the guest's tables by a walker of its own, which leaves no A
/// bit and fills no cache; devices are never read. Breakpoints are no instructions in the guest's
/// memory: the processors stop before an address (`DebugPoints`). Stopping is the host's pause
/// between two instructions, which guests cannot see.
///
/// *Example.*
/// ```swift
/// machine.debugTarget.setPoints(points)
/// guard case .debugStop(let processor, let stop) = machine.run() else { … }
/// let code = machine.debugTarget.readLinear(rip, count: 16, processor: processor)
/// ```
///
/// *Caveats.* What is *written* through it is the debugger's doing, and changes the run.
public struct DebugTarget {
    private unowned let machine: VirtualMachine

    init(_ machine: VirtualMachine) { self.machine = machine }

    /// How many processors there are, numbered from 0.
    public var processorCount: Int { machine.processors.count }
    /// The processor whose turn it is.
    public var currentProcessor: Int { machine.turn.processor }
    /// Instructions that all processors have retired.
    public var retired: UInt64 { machine.retired }
    /// The technique, for listings.
    public var technique: Technique { machine.configuration.technique }
    /// The exact counts so far.
    public var ledger: Ledger { machine.ledger }

    /// A processor; nil where there is none of that number.
    private func processor(_ number: Int) -> Processor? {
        machine.processors.indices ~= number ? machine.processors[number] : nil
    }

    // MARK: Registers

    /// What a register holds; nil where there is no such processor.
    public func value(of register: ProcessorRegister, processor number: Int) -> UInt128? {
        processor(number)?.value(of: register)
    }

    /// Sets a register.
    /// - Returns: false where it cannot be set, or not to this value.
    public func set(
        _ register: ProcessorRegister, to value: UInt128, processor number: Int
    ) -> Bool {
        processor(number)?.set(register, to: value) ?? false
    }

    /// What a processor is doing, and the size of its code in bits.
    public func activity(of number: Int) -> String {
        processor(number).map { "\($0.activity), \($0.codeBits)-bit" } ?? "no such processor"
    }

    // MARK: Memory

    /// Reads memory by linear address through a processor's present tables, whatever the rights.
    /// - Returns: the bytes up to the first that is not mapped, or that no memory answers.
    public func readLinear(_ address: UInt64, count: Int, processor number: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        forEachPiece(address, count, number) { physical, part in
            let piece = readPhysical(physical, count: part)
            bytes += piece
            return piece.count == part
        }
        return bytes
    }

    /// Writes memory by linear address, whatever the rights; no A or D bit is set.
    /// - Returns: false, and nothing written, where a byte is not mapped or no memory answers.
    public func writeLinear(_ bytes: [UInt8], at address: UInt64, processor number: Int) -> Bool {
        var pieces: [(physical: UInt64, bytes: ArraySlice<UInt8>)] = []
        var rest = bytes[...]
        forEachPiece(address, bytes.count, number) { physical, part in
            guard machine.memory.isGuestMemory(GuestPhysicalAddress(physical), size: part) else {
                return false
            }
            pieces.append((physical, rest.prefix(part)))
            rest = rest.dropFirst(part)
            return true
        }
        guard rest.isEmpty else { return false }
        return pieces.allSatisfy { writePhysical(Array($0.bytes), at: $0.physical) }
    }

    /// Reads guest-physical memory; devices are not read.
    /// - Returns: the bytes up to the first that no memory answers.
    public func readPhysical(_ address: UInt64, count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let place = address &+ UInt64(bytes.count)
            let part = min(count - bytes.count, Int(pageSize - place & 0xfff))
            guard machine.memory.isGuestMemory(GuestPhysicalAddress(place), size: part),
                let piece = machine.memory.read(
                    at: machine.memory.machineAddress(of: GuestPhysicalAddress(place)),
                    count: part)
            else { break }
            bytes += piece
        }
        return bytes
    }

    /// Writes guest-physical memory as a device would: shadow tables and decoded code follow.
    /// - Returns: false, and nothing written, unless memory answers everywhere.
    public func writePhysical(_ bytes: [UInt8], at address: UInt64) -> Bool {
        guard machine.board.write(bytes.span, at: GuestPhysicalAddress(address)) else {
            return false
        }
        guard !bytes.isEmpty else { return true }
        let first = machine.memory.machineAddress(of: GuestPhysicalAddress(address)).frame.number
        let last = machine.memory.machineAddress(
            of: GuestPhysicalAddress(address &+ UInt64(bytes.count - 1))
        ).frame.number
        for frame in first...max(first, last) {
            for processor in machine.processors { processor.codeChanged(in: MachineFrame(frame)) }
        }
        return true
    }

    /// Where a linear address leads in guest-physical memory; nil where it is not mapped.
    public func physicalAddress(_ address: UInt64, processor number: Int) -> UInt64? {
        processor(number).flatMap { GuestTables(machine.memory, $0).page(address)?.physical }
    }

    /// Cuts a range of linear memory where pages end; `body` takes a guest-physical address and how
    /// many bytes, and says whether to go on.
    private func forEachPiece(
        _ address: UInt64, _ count: Int, _ number: Int, _ body: (UInt64, Int) -> Bool
    ) {
        guard let processor = processor(number) else { return }
        let tables = GuestTables(machine.memory, processor)
        var done = 0
        while done < count {
            guard let page = tables.page(address &+ UInt64(done)) else { return }
            let part = Int(min(UInt64(count - done), page.rest))
            guard body(page.physical, part) else { return }
            done += part
        }
    }

    // MARK: Running

    /// Has all processors stop at these points, and no others, until others are set.
    public func setPoints(_ points: DebugPoints) {
        for processor in machine.processors { processor.debugPoints = points }
        machine.isDebugged = true
    }

    /// Prepares the next `run`.
    /// - Parameter step: the processor that is to stop after one instruction; the others run on
    ///   in their turns, as without a debugger.
    public func prepareToRun(step: Int?) {
        for processor in machine.processors { processor.endDebugStep() }
        if let step { processor(step)?.beginDebugStep() }
        machine.isDebugged = true
    }

    /// Ends all debugging: no points, no step.
    public func release() {
        setPoints(DebugPoints())
        prepareToRun(step: nil)
        for processor in machine.processors { _ = processor.takeDebugStop() }
        machine.isDebugged = false
    }

    // MARK: Listings

    /// What a processor's modelled TLB holds.
    public func cachedTranslations(processor number: Int) -> [CachedTranslation] {
        processor(number)?.cachedTranslations ?? []
    }

    /// The linear memory that a processor's present tables map, neighbours with the same rights in
    /// one: at most `limit` ranges.
    /// - Returns: the ranges, and whether they are all.
    public func mappedRanges(
        processor number: Int, limit: Int
    ) -> (ranges: [MappedRange], areAll: Bool) {
        guard let processor = processor(number) else { return ([], true) }
        var ranges: [MappedRange] = []
        let areAll = GuestTables(machine.memory, processor).forEachPage(atMost: Self.mostEntries) {
            if let last = ranges.last, last.isContinued(by: $0) {
                ranges[ranges.count - 1].length &+= $0.length
                return true
            }
            guard ranges.count < limit else { return false }
            ranges.append($0)
            return true
        }
        return (ranges, areAll)
    }

    /// How many entries a listing reads: some tenth of a second.
    private static let mostEntries = 1 << 22

    /// The hypervisor's shadow pages.
    public var shadowPages: [ShadowPageSummary] { machine.hypervisor.shadowPages }

    /// A processor's guest write buffer, with at most `limit` of the records that wait; nil where
    /// the technique has none.
    public func writeBuffer(processor number: Int, limit: Int) -> WriteBufferSummary? {
        machine.hypervisor.writeBuffer(of: number, limit: limit)
    }

    /// The guest-physical address of a machine address in the guest's part; nil for others.
    public func guestAddress(ofMachine address: UInt64) -> UInt64? {
        address >= machine.memory.guestBase ? address &- machine.memory.guestBase : nil
    }
}

extension VirtualMachine {
    /// What a debugger works on. It is not to outlive the machine.
    public var debugTarget: DebugTarget { DebugTarget(self) }
}
