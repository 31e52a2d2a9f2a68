import MachineMemory
import Processor
import X86

/// The text of a violation, for whoever has to find the mistake.
struct Report {
    private let oracle: Oracle
    private let processor: Processor
    private let registers: Registers
    /// How many of an entry's latest values are shown.
    private static let shownValues = 12

    init(_ oracle: Oracle, _ processor: Processor, _ registers: Registers) {
        self.oracle = oracle
        self.processor = processor
        self.registers = registers
    }

    // MARK: Kinds of violation

    func translation(
        _ taken: Taken, _ isUse: Bool, _ walk: FreshWalk, _ diagnosis: Diagnosis
    ) -> String {
        var lines = ["unlawful translation: \(diagnosis.rule.rawValue)"]
        lines += head(taken, isUse)
        lines += now(walk)
        var shown = walk.steps.map { ($0.level, $0.address) }
        if let explanation = diagnosis.explanation {
            let isPresent = explanation.pcid == registers.pcid
            let pcid = isPresent ? "" : ", read in PCID \(explanation.pcid)"
            lines.append("  it would take\(pcid)")
            for entry in explanation.entries {
                lines.append("    " + text(entry))
                if !shown.contains(where: { $0.1 == entry.address }) {
                    shown.append((entry.level, entry.address))
                }
            }
        } else {
            lines.append("  no values that these entries ever held give it")
        }
        if let moment = diagnosis.endedBy {
            let operation = oracle.operations.at(moment).map(Self.text)
            lines.append("  ended by")
            lines.append("    " + (operation ?? "an operation long ago") + " [\(moment)]")
        }
        lines.append("  history, latest last; [n] is the oracle's count of events")
        for (level, address) in shown { lines += history(level, address) }
        return lines.joined(separator: "\n")
    }

    func unobserved(
        _ taken: Taken, _ isUse: Bool, _ step: FreshWalk.Step, _ walk: FreshWalk
    ) -> String {
        var lines = ["a write to a page table that nobody told of"]
        lines += head(taken, isUse)
        lines += now(walk)
        lines.append("  the level \(step.level) entry at \(hex(step.address)) holds another value")
        lines += history(step.level, step.address)
        return lines.joined(separator: "\n")
    }

    func notPermitted(_ taken: Taken, _ isUse: Bool, _ error: UInt32, _ walk: FreshWalk) -> String {
        var lines = [LawfulnessRule.notPermitted.rawValue]
        lines += head(taken, isUse)
        lines.append("    it gives a page fault with error code " + Self.text(error: error))
        return (lines + now(walk)).joined(separator: "\n")
    }

    func identity(_ address: UInt64, _ physical: UInt64) -> String {
        (["unlawful translation: \(LawfulnessRule.notIdentity.rawValue)"]
            + place("taken") + [
                "    linear \(hex(address)) → guest-physical \(hex(physical))"
            ]).joined(separator: "\n")
    }

    func fault(
        _ address: UInt64, _ error: UInt32, _ access: AccessKind, expected: UInt32?,
        _ walk: FreshWalk
    ) -> String {
        var lines = ["unlawful page fault: \(LawfulnessRule.wrongFault.rawValue)"]
        lines += place("delivered")
        lines.append("    at \(hex(address)), error code \(Self.text(error: error))")
        lines.append("    the access: \(Self.text(access))")
        lines.append(
            "    by the tables now: "
                + (expected.map { "error code " + Self.text(error: $0) } ?? "no fault"))
        lines += now(walk)
        lines.append("  history, latest last; [n] is the oracle's count of events")
        for step in walk.steps { lines += history(step.level, step.address) }
        return lines.joined(separator: "\n")
    }

    func faultWithoutPaging(_ address: UInt64, _ error: UInt32) -> String {
        (["unlawful page fault: there is none without paging"] + place("delivered") + [
            "    at \(hex(address)), error code \(Self.text(error: error))"
        ]).joined(separator: "\n")
    }

    // MARK: Parts

    private func head(_ taken: Taken, _ isUse: Bool) -> [String] {
        let rights = [
            taken.isWritable ? "W" : "-", taken.isUser ? "U" : "S",
            taken.isExecuteDisabled ? "XD" : "X", taken.isDirty ? "D" : "-",
            taken.isGlobal ? "G" : "-",
        ].joined(separator: " ")
        return place(isUse ? "used from the cache" : "taken from a table") + [
            "    linear \(hex(taken.address)) → guest-physical \(hex(taken.frame)),"
                + " \(Self.size(taken.shift)) page, \(rights)"
        ]
    }

    private func place(_ what: String) -> [String] {
        [
            "  \(what) by processor \(processor.index) at guest code \(hex(processor.runningRIP))"
                + " after \(processor.retired) instructions",
            "    CR0 \(hex(registers.cr0)) CR3 \(hex(registers.cr3)) CR4 \(hex(registers.cr4))"
                + " EFER \(hex(registers.efer)) PCID \(registers.pcid)",
        ]
    }

    private func now(_ walk: FreshWalk) -> [String] {
        ["  the tables now"]
            + walk.steps.map { step in
                "    level \(step.level) at \(hex(step.address)): \(entry(step.value))"
            }
    }

    private func text(_ step: ExplainedEntry) -> String {
        var text = "level \(step.level) at \(hex(step.address)): \(entry(step.held.value))"
        text += ", held from [\(step.held.span.from)]"
        if step.held.span.to != .max { text += " to [\(step.held.span.to)]" }
        return text
    }

    private func history(_ level: Int, _ address: UInt64) -> [String] {
        let mode = PagingMode(registers)
        let held = oracle.tables.values(address, mode?.form.entryBytes ?? 8)
        var lines = ["    level \(level) at \(hex(address))"]
        if held.isEmpty { lines.append("      no table that is watched") }
        if held.count > Self.shownValues {
            lines.append("      … \(held.count - Self.shownValues) earlier values")
        }
        for value in held.suffix(Self.shownValues) {
            lines.append(
                "      [\(value.span.from)] \(entry(value.value)) " + Self.text(value.origin))
        }
        return lines
    }

    private func entry(_ value: UInt64) -> String {
        var flags: [String] = []
        for (bit, name) in [
            (0, "P"), (1, "W"), (2, "U"), (5, "A"), (6, "D"), (7, "PS"), (8, "G"), (63, "XD"),
        ] where value >> UInt64(bit) & 1 != 0 { flags.append(name) }
        return hex(value) + " (" + flags.joined(separator: " ") + ")"
    }

    // MARK: Words

    private static func text(_ origin: TableHistory.Origin?) -> String {
        guard let origin else { return "from the start" }
        let when = "after \(origin.retired) instructions"
        switch origin.writer {
        case .processor(let number, let rip, let retired):
            return "by processor \(number) at guest code \(hex(rip)) after \(retired) instructions"
        case .walker(let number): return "by processor \(number)'s page walker \(when)"
        case .hypervisor: return "by the hypervisor (A, D) \(when)"
        case .host: return "by a device or the loader \(when)"
        }
    }

    private static func text(_ record: OperationLog.Record) -> String {
        let what: String
        switch record.operation {
        case .pageFault(let address): what = "#PF at \(hex(address)) (its page and path)"
        case .operation(let operation):
            switch operation {
            case .invalidatePage(let address): what = "INVLPG \(hex(address))"
            case .invalidatePCID(let type, let pcid, let address):
                what = "INVPCID type \(type), PCID \(pcid), address \(hex(address))"
            case .rootLoaded(let flushed):
                what = "a load of CR3" + (flushed ? "" : " that flushes nothing")
            case .modeChanged(let cr0, let cr4, let efer):
                what =
                    "a change of CR0, CR4 or EFER from \(hex(cr0)), \(hex(cr4)), \(hex(efer))"
            case .reset: what = "a reset"
            }
        }
        return what + " by processor \(record.processor) in PCID \(record.pcid) at guest code "
            + "\(hex(record.rip)) after \(record.retired) instructions"
    }

    private static func text(error: UInt32) -> String {
        var names: [String] = []
        for (bit, name) in [(0, "P"), (1, "W"), (2, "U"), (3, "RSVD"), (4, "I")]
        where error >> UInt32(bit) & 1 != 0 { names.append(name) }
        return "\(error) (\(names.joined(separator: " ")))"
    }

    private static func text(_ access: AccessKind) -> String {
        (access.contains(.user) ? "user" : "supervisor")
            + (access.contains(.fetch) ? " fetch" : access.contains(.write) ? " write" : " read")
            + (access.contains(.implicit) ? ", implicit" : "")
    }

    private static func size(_ shift: UInt64) -> String {
        switch shift {
        case 12: "4 KiB"
        case 21: "2 MiB"
        case 22: "4 MiB"
        case 30: "1 GiB"
        default: "2^\(shift) bytes"
        }
    }
}

/// Hexadecimal, as assemblers write it.
func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
