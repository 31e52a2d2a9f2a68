import Hypervisor
import Processor
import VirtualMachine
import X86

/// The listings of `monitor info`.
extension Monitor {
    func registers(_ number: Int) -> String {
        func value(_ register: ProcessorRegister) -> UInt64 {
            UInt64(truncatingIfNeeded: target.value(of: register, processor: number) ?? 0)
        }
        func line(_ registers: [(String, ProcessorRegister)], _ digits: Int = 16) -> String {
            registers.map { "\(Self.padded($0, 5))\(Self.hex(value($1), digits))" }
                .joined(separator: "  ")
        }
        var lines = [
            "processor \(number), \(target.activity(of: number)); "
                + "\(target.retired) instructions retired by all"
        ]
        let general = GeneralRegister.allCases
        for start in stride(from: 0, to: general.count, by: 4) {
            lines.append(line(general[start..<start + 4].map { ("\($0)", .general($0)) }))
        }
        lines.append(line([("rip", .rip), ("fl", .flags)]))
        for segment in SegmentRegister.allCases {
            lines.append(
                "\(segment)  \(Self.hex(value(.selector(segment)), 4)) "
                    + "base \(Self.hex(value(.base(segment))))")
        }
        lines.append("kernel gs base \(Self.hex(value(.kernelGSBase)))")
        lines.append(
            "gdt \(Self.hex(value(.globalTableBase))) \(Self.hex(value(.globalTableLimit), 4))  "
                + "idt \(Self.hex(value(.interruptTableBase))) "
                + "\(Self.hex(value(.interruptTableLimit), 4))  "
                + "ldt \(Self.hex(value(.localTable), 4))  tr \(Self.hex(value(.task), 4))")
        lines.append(line([("cr0", .cr0), ("cr2", .cr2), ("cr3", .cr3), ("cr4", .cr4)]))
        lines.append(line([("cr8", .cr8), ("xcr0", .xcr0), ("efer", .efer)]))
        lines.append(line((0..<4 as Range<UInt8>).map { ("dr\($0)", .debug($0)) }))
        lines.append(line([("dr6", .debug(6)), ("dr7", .debug(7))]))
        lines.append(
            line([("star", .star), ("lstr", .longSTAR), ("cstr", .compatibilitySTAR)]))
        lines.append(line([("fmsk", .systemCallFlagMask), ("mxcs", .mxcsr)]))
        return Self.bounded(lines)
    }

    func cachedTranslations(_ number: Int) -> String {
        let all = target.cachedTranslations(processor: number)
        var lines = ["processor \(number): \(all.count) translations, by PCID and address"]
        lines += all.map { entry in
            let size =
                entry.pageShift > entry.shift
                ? "\(Self.size(entry.shift)) of \(Self.size(entry.pageShift))"
                : Self.size(entry.shift)
            let rights =
                Self.rights(
                    user: entry.isUser, writable: entry.isWritable,
                    executable: !entry.isExecuteDisabled)
                + (entry.isDirty ? "d" : "-") + (entry.isGlobal ? "g" : "-")
                + (entry.isTraced ? "t" : "-")
            return "pcid \(Self.hex(UInt64(entry.pcid), 3))  \(Self.hex(entry.address))  "
                + "\(place(entry.base))  \(Self.padded(size, 4))  \(rights)"
        }
        return Self.bounded(lines)
    }

    func mappedMemory(_ number: Int) -> String {
        guard let cr0 = target.value(of: .cr0, processor: number),
            UInt64(truncatingIfNeeded: cr0) & CR0.paging != 0
        else { return "processor \(number): no paging\n" }
        let (ranges, areAll) = target.mappedRanges(processor: number, limit: Self.mostLines - 1)
        var lines = ranges.map { range in
            let last = range.start &+ (range.length &- 1)
            let rights = Self.rights(
                user: range.isUser, writable: range.isWritable, executable: range.isExecutable)
            return "\(Self.hex(range.start))-\(Self.hex(last))  "
                + "\(Self.padded(Self.hex(range.length, 1), 12))  \(rights)"
        }
        if !areAll { lines.append("… and more") }
        return Self.bounded(lines)
    }

    var shadowPages: String {
        let all = target.shadowPages
        let ledger = target.ledger
        var lines = [
            "technique \(target.technique): \(all.count) shadow pages in use; "
                + "\(ledger.shadowPagesMade) made, \(ledger.shadowPagesReused) roots reused, "
                + "\(ledger.shadowPagesDropped) dropped, \(ledger.shadowPagesReclaimed) reclaimed"
        ]
        lines += all.map { page in
            var marks: [String] = []
            if page.isTraced { marks.append("traced") }
            if page.isUnsynced { marks.append("unsynced") }
            if page.isNested { marks.append("nested") }
            if !page.processors.isEmpty {
                let numbers = page.processors.map { String($0) }.joined(separator: ",")
                marks.append("root of \(numbers)")
            }
            if page.heat > 0 { marks.append("heat \(page.heat)") }
            let form = page.form.map { "\($0)" } ?? "-"
            let quadrant = page.form == .twoLevel ? " part \(page.quadrant)" : ""
            let frame =
                page.kind == .registers
                ? "-" : Self.hex(page.guestFrame << 12, 10)
            return "page \(Self.padded(String(page.number), 6)) level \(page.level)  "
                + "\(Self.padded(page.kind.rawValue, 9)) \(Self.padded(form + quadrant, 15)) "
                + "guest \(Self.padded(frame, 10)) \(Self.padded(String(page.present), 3)) present"
                + (marks.isEmpty ? "" : "  " + marks.joined(separator: ", "))
        }
        return Self.bounded(lines)
    }

    var writeBuffers: String {
        var lines: [String] = []
        for number in 0..<target.processorCount {
            guard let buffer = target.writeBuffer(processor: number, limit: Self.mostRecords)
            else { continue }
            let controls = buffer.controls
            lines.append(
                "processor \(number): \(controls.isEnabled ? "on" : "off"), "
                    + "indication \(controls.indication.rawValue), "
                    + "record \(controls.format.rawValue), "
                    + "capacity \(controls.capacity) bytes, threshold \(controls.threshold); "
                    + "written \(buffer.producer), consumed \(buffer.consumer), "
                    + "\(buffer.pendingCount) wait")
            lines += buffer.pending.map { record in
                "  \(Self.hex(record))  \(place(Self.machineAddress(record, controls.format)))"
            }
            if buffer.pendingCount > UInt64(buffer.pending.count) {
                lines.append("  … and \(buffer.pendingCount - UInt64(buffer.pending.count)) more")
            }
        }
        guard !lines.isEmpty else {
            return "technique \(target.technique): no guest write buffer\n"
        }
        let traced = target.shadowPages.filter(\.isTraced)
        let frames = Set(traced.map(\.guestFrame)).sorted()
        lines.append("\(frames.count) guest frames traced")
        lines += frames.map { "  \(Self.hex($0 << 12, 10))" }
        return Self.bounded(lines)
    }

    /// A machine address, as guest-physical where it is the guest's.
    private func place(_ machine: UInt64) -> String {
        target.guestAddress(ofMachine: machine).map { "guest \(Self.hex($0, 10))" }
            ?? "machine \(Self.hex(machine, 10))"
    }

    /// What a record's first quadword names (`Processor+Record.swift`).
    private static func machineAddress(_ record: UInt64, _ format: TraceFormat) -> UInt64 {
        switch format {
        case .address: record & ~7
        case .value: record & 0x000f_ffff_ffff_ffff
        case .mask: record & ~0xfff &+ (record & 7) << 9
        }
    }

    private static func rights(user: Bool, writable: Bool, executable: Bool) -> String {
        (user ? "u" : "s") + "r" + (writable ? "w" : "-") + (executable ? "x" : "-")
    }

    private static func size(_ shift: UInt64) -> String {
        switch shift {
        case 30...: "\(UInt64(1) << (shift - 30))G"
        case 20...: "\(UInt64(1) << (shift - 20))M"
        default: "\(UInt64(1) << (shift - 10))K"
        }
    }
}
