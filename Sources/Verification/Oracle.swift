import MachineMemory
import Processor
import X86

/// The lawfulness oracle: judges every translation that a processor takes from a table, and every
/// page fault that the guest is given, by the architecture's rules for translation caches
/// (SDM Vol. 3A §4.10).
///
/// *Problem.* A shadow page table is a very large TLB. It is right exactly if each translation that
/// it gives is one that a real TLB could have given. A guest rarely notices where it is not, and
/// then much later.
///
/// *Approach.* The oracle sees each write to a guest page table (`TableHistory`), each operation of
/// the guest's that ends staleness (`ProcessorHistory`), and each completed walk. A translation that
/// the guest's tables give now is lawful. Any other must be explained by values that the tables
/// held, read at moments that this processor's operations have not ended since (`Search`). It knows
/// nothing of shadows and techniques, and shares no code with them: it decodes entries itself.
///
/// *Example.*
/// ```swift
/// let oracle = Oracle(memory: memory, processors: processors)
/// // … run; after each exit:
/// if let violation = oracle.violation { print(violation) }
/// ```
///
/// *Caveats.* To be attached before the first instruction. One host thread runs all processors.
public final class Oracle {
    /// The first violation; nothing is judged after it. The processor is asked to stop.
    public private(set) var violation: LawfulnessViolation?
    /// What was done so far.
    public private(set) var counts = LawfulnessCounts()
    /// Called once when history is dropped or a table cannot be watched: what follows is judged
    /// more leniently. The text is one line.
    public var onLeniency: (String) -> Void = { _ in } {
        didSet { if let leniency { onLeniency(leniency) } }
    }

    private let memory: MachineMemory
    let tables: TableHistory
    private(set) var processors: [ProcessorHistory]
    private(set) var operations = OperationLog()
    private var now: Moment = 1
    private let recordLimit: Int
    /// Why it is more lenient by now.
    private var leniency: String?
    /// The processor that ran last, and what it had retired: for writes that are no processor's.
    private var lastRetired: UInt64 = 0

    /// Attaches an oracle to the processors of a machine and to its memory.
    /// - Parameter uses: whether each use of a cached translation is judged too. Slow.
    public convenience init(memory: MachineMemory, processors: [Processor], uses: Bool = false) {
        self.init(memory: memory, processors: processors, uses: uses, limits: OracleLimits())
    }

    /// The same, with other limits.
    package init(
        memory: MachineMemory, processors: [Processor], uses: Bool, limits: OracleLimits
    ) {
        self.memory = memory
        tables = TableHistory(memory, limits)
        self.processors = processors.map { _ in ProcessorHistory() }
        recordLimit = limits.versions
        memory.writeObserver = self
        for processor in processors {
            processor.observer = self
            processor.observesUses = uses
            begin(processor)
        }
    }

    // MARK: Roots

    /// The processor's root, PCID or mode is another one from now on.
    private func begin(_ processor: Processor) {
        let registers = Registers(processor)
        let history = processors[processor.index]
        let mode = PagingMode(registers)
        let old = history.root
        let root = mode.map { Root(registers, $0) }
        if let root, let mode {
            // Before the old one is released, so that what both use stays.
            let role = TableHistory.role(mode, mode.form.topLevel)
            for table in root.tables(mode) { tables.retain(table >> 12, role, at: now) }
        }
        if let old {
            let role = TableHistory.role(old.mode, old.mode.form.topLevel)
            for table in old.root.tables(old.mode) { tables.release(table >> 12, role) }
        }
        history.begin(root, mode, registers.pcid, at: now)
        counts.tables = max(counts.tables, UInt64(tables.tableCount))
        if tables.isFull {
            beLenient("more page tables than the oracle watches: what they map is not judged")
        }
    }

    private func tick() -> Moment {
        now += 1
        return now
    }

    private func beLenient(_ why: String) {
        if leniency != nil { return }
        leniency = why
        onLeniency(why)
    }

    /// Keeps memory bounded: past the limit, all that is past is dropped.
    private func prune() {
        let records = processors.reduce(0) { $0 + $1.recordCount }
        guard tables.isOverfull || records > recordLimit else { return }
        counts.historiesDropped += 1
        tables.forget(at: tick())
        for history in processors { history.forget() }
        beLenient("more history than the oracle keeps: what only it explains is not judged")
    }
}

// MARK: What is seen

extension Oracle: MemoryWriteObserver {
    package func memoryWritten(_ address: UInt64, size: Int, by writer: MemoryWriter) {
        counts.tableWrites += 1
        let origin = TableHistory.Origin(writer: writer, retired: lastRetired)
        tables.written(address, size: size, origin, at: tick())
        if tables.isOverfull { prune() }
    }
}

extension Oracle: TranslationObserver {
    package func operated(_ operation: TranslationOperation, by processor: Processor) {
        let moment = tick()
        lastRetired = processor.retired
        let registers = Registers(processor)
        let history = processors[processor.index]
        let pcid = registers.pcid
        operations.append(
            .init(
                moment: moment, operation: .init(operation), pcid: pcid,
                processor: processor.index, rip: processor.runningRIP, retired: lastRetired))
        switch operation {
        case .invalidatePage(let address):
            history.endPage(address, pcid, global: true, .all, at: moment)
        case .invalidatePCID(0, let target, let address):
            history.endPage(address, target, global: false, .path, at: moment)
        case .invalidatePCID(1, let target, _):
            history.endContext(target, at: moment)
        case .invalidatePCID(let type, _, _):
            history.endAll(global: type == 2, at: moment)
        case .rootLoaded(let flushed):
            if flushed { history.endContext(pcid, at: moment) }
            begin(processor)
        case .modeChanged(let cr0, let cr4, _):
            let changed4 = cr4 ^ registers.cr4
            if changed4 & CR4.pageGlobalEnable != 0 || changed4 & cr4 & CR4.pcidEnable != 0
                || (cr0 ^ registers.cr0) & cr0 & CR0.paging != 0
            {
                history.endAll(global: true, at: moment)
            } else if changed4 & CR4.physicalAddressExtension != 0
                || changed4 & registers.cr4 & CR4.supervisorExecutionPrevention != 0
            {
                history.endContext(pcid, at: moment)
            }
            begin(processor)
        case .reset:
            history.endAll(global: true, at: moment)
            begin(processor)
        }
        prune()
    }

    package func faulted(
        _ address: UInt64, error: UInt32, access: AccessKind?, by processor: Processor
    ) {
        guard violation == nil else { return }
        let moment = tick()
        lastRetired = processor.retired
        let registers = Registers(processor)
        counts.faults += 1
        if let mode = PagingMode(registers) {
            // Without the access, what the error code says of it.
            var kind = access ?? []
            if access == nil {
                if error & 2 != 0 { kind.insert(.write) }
                if error & 4 != 0 { kind.insert(.user) }
                if error & 16 != 0 { kind.insert(.fetch) }
            }
            let walk = FreshWalk(
                tables, address, root: Root(registers, mode), mode: mode)
            let expected = walk.fault(kind, registers)
            if expected != error {
                return report(
                    .init(
                        rule: .wrongFault,
                        description: Report(self, processor, registers)
                            .fault(address, error, kind, expected: expected, walk)), processor)
            }
        } else {
            return report(
                .init(
                    rule: .wrongFault,
                    description: Report(self, processor, registers)
                        .faultWithoutPaging(address, error)), processor)
        }
        operations.append(
            .init(
                moment: moment, operation: .pageFault(address), pcid: registers.pcid,
                processor: processor.index, rip: processor.runningRIP, retired: lastRetired))
        processors[processor.index].endPage(
            address, registers.pcid, global: false, .path, at: moment)
    }

    package func translated(
        _ translation: ObservedTranslation, isUse: Bool, by processor: Processor
    ) {
        guard violation == nil else { return }
        counts.translations += 1
        lastRetired = processor.retired
        let registers = Registers(processor)
        let size = (1 as UInt64) << translation.shift
        let physical =
            translation.base &- memory.guestBase
            | translation.address & (size &- 1) & ~0xfff
        guard let mode = PagingMode(registers) else {
            if physical == translation.address & ~0xfff { return }
            return report(
                .init(
                    rule: .notIdentity,
                    description: Report(self, processor, registers)
                        .identity(translation.address, physical)), processor)
        }
        let taken = Taken(
            address: translation.address, frame: physical, shift: translation.shift,
            isWritable: translation.isWritable, isUser: translation.isUser,
            isExecuteDisabled: translation.isExecuteDisabled,
            isDirty: translation.isDirty || translation.access.contains(.write),
            isGlobal: translation.isGlobal, key: translation.key)
        let walk = FreshWalk(
            tables, taken.address, root: Root(registers, mode), mode: mode)
        for step in walk.steps where !tables.isFaithful(step.address) {
            return report(
                .init(
                    rule: .unobservedWrite,
                    description: Report(self, processor, registers)
                        .unobserved(taken, isUse, step, walk)), processor)
        }
        if let error = Self.fault(taken, translation.access, registers) {
            return report(
                .init(
                    rule: .notPermitted,
                    description: Report(self, processor, registers)
                        .notPermitted(taken, isUse, error, walk)), processor)
        }
        if case .page(let page) = walk.end, walk.isAccessed, Self.covers(page, taken) { return }
        search(taken, isUse, walk, processor, registers)
    }

    /// The page fault that the access should have met instead of using the translation: rights are
    /// cached, and what they permit is up to CR0.WP, CR4.SMEP, CR4.SMAP, CR4.PKE, PKRU and EFLAGS.AC
    /// as they are.
    private static func fault(
        _ taken: Taken, _ access: AccessKind, _ registers: Registers
    ) -> UInt32? {
        // What hardware caches by speculation is no access, and needs no rights.
        let accesses: AccessKind = [.write, .fetch, .user, .implicit]
        guard accesses.isSuperset(of: access) else { return nil }
        return FreshWalk.fault(
            .page(
                Page(
                    base: taken.frame, shift: taken.shift, isWritable: taken.isWritable,
                    isUser: taken.isUser, isExecuteDisabled: taken.isExecuteDisabled,
                    isDirty: taken.isDirty, isGlobal: taken.isGlobal, key: taken.key)), access,
            registers)
    }

    /// Whether a translation grants at least what was taken, at the same frame.
    private static func covers(_ page: Page, _ taken: Taken) -> Bool {
        let offset = taken.address & ((1 << page.shift) &- 1) & ~0xfff
        return page.base | offset == taken.frame && page.shift >= taken.shift
            && (page.isWritable || !taken.isWritable) && page.isUser == taken.isUser
            && (!page.isExecuteDisabled || taken.isExecuteDisabled)
            && (page.isDirty || !taken.isDirty) && (page.isGlobal || !taken.isGlobal)
            && page.key == taken.key
    }

    /// Looks for an explanation in history.
    private func search(
        _ taken: Taken, _ isUse: Bool, _ walk: FreshWalk, _ processor: Processor,
        _ registers: Registers
    ) {
        let history = processors[processor.index]
        var search = Search(taken, tables, history)
        if search.run() != nil {
            counts.explainedByHistory += 1
            return
        }
        if search.metUnknown || tables.isFull {
            counts.unjudged += 1
            return
        }
        let diagnosis = Diagnosis(taken, tables, history)
        report(
            .init(
                rule: diagnosis.rule,
                description: Report(self, processor, registers)
                    .translation(taken, isUse, walk, diagnosis)), processor)
    }

    private func report(_ violation: LawfulnessViolation, _ processor: Processor) {
        self.violation = violation
        processor.requestStop()
    }
}
