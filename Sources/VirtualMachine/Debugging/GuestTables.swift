import MachineMemory
import Processor
import X86

/// The page tables of a processor's guest as they are now, for debuggers: no A or D bit is set,
/// nothing is cached, and no access is counted.
struct GuestTables {
    /// A piece of linear memory that the tables map.
    struct Page: Equatable {
        /// The guest-physical address of the linear address that was asked for.
        var physical: UInt64
        /// The bytes from there to the end of the page.
        var rest: UInt64
    }

    private let memory: MachineMemory
    private let processor: Processor

    init(_ memory: MachineMemory, _ processor: Processor) {
        self.memory = memory
        self.processor = processor
    }

    /// Where a linear address leads, whatever the rights; nil where it is not mapped.
    func page(_ address: UInt64) -> Page? {
        guard let rules = processor.pagingRules else {
            return Page(physical: address, rest: pageSize - address & 0xfff)
        }
        guard Self.isCanonical(address, rules.form), var table = root(address, rules) else {
            return nil
        }
        var level = Self.top(rules.form)
        while true {
            let index = rules.form.index(GuestVirtualAddress(address), at: level)
            guard let entry = self.entry(table, index, rules, level) else { return nil }
            if !rules.isLeaf(entry, at: level), let below = level.below {
                table = rules.tableBase(entry)
                level = below
                continue
            }
            let offset = address & (rules.form.entrySpan(level) &- 1)
            return Page(
                physical: rules.leafBase(entry, at: level) &+ offset,
                rest: rules.form.entrySpan(level) &- offset)
        }
    }

    /// Calls `body` for each mapped page, by linear address, until it returns false or so many
    /// entries have been looked at: tables that name themselves map more than anyone can read.
    /// - Returns: whether all were visited.
    func forEachPage(atMost limit: Int, _ body: (MappedRange) -> Bool) -> Bool {
        guard let rules = processor.pagingRules else { return true }
        var left = limit
        let all = MappedRange(
            start: 0, length: 0, isWritable: true, isUser: true, isExecutable: true)
        if rules.form == .pae {
            for number in 0..<4 as Range<UInt64> {
                guard let table = root(number << 30, rules) else { continue }
                if !visit(table, .directory, number << 30, all, rules, &left, body) {
                    return false
                }
            }
            return true
        }
        guard let table = root(0, rules) else { return true }
        return visit(table, Self.top(rules.form), 0, all, rules, &left, body)
    }

    private func visit(
        _ table: UInt64, _ level: PageLevel, _ start: UInt64, _ rights: MappedRange,
        _ rules: PagingRules, _ left: inout Int, _ body: (MappedRange) -> Bool
    ) -> Bool {
        let span = rules.form.entrySpan(level)
        for index in 0..<rules.form.entryCount(at: level) {
            left -= 1
            if left < 0 { return false }
            guard let entry = self.entry(table, index, rules, level) else { continue }
            var range = rights
            range.start = Self.extended(start &+ UInt64(index) &* span, rules.form)
            range.length = span
            range.isWritable = rights.isWritable && entry.isWritable
            range.isUser = rights.isUser && entry.isUser
            range.isExecutable =
                rights.isExecutable && !(rules.form != .twoLevel && entry.isExecuteDisabled)
            if !rules.isLeaf(entry, at: level), let below = level.below {
                let goesOn = visit(
                    rules.tableBase(entry), below, range.start, range, rules, &left, body)
                if !goesOn { return false }
            } else if !body(range) {
                return false
            }
        }
        return true
    }

    /// A present entry without reserved bits; nil where there is none.
    private func entry(
        _ table: UInt64, _ index: Int, _ rules: PagingRules, _ level: PageLevel
    ) -> PagingEntry? {
        let place = GuestPhysicalAddress(
            (table & ~0xfff) &+ UInt64(index) &* rules.form.entryBytes)
        guard memory.isGuestMemory(place, size: Int(rules.form.entryBytes)) else { return nil }
        let machine = memory.machineAddress(of: place)
        let entry = PagingEntry(
            rules.form == .twoLevel
                ? memory.load(UInt32.self, at: machine).map { UInt64($0) } ?? 0
                : memory.load(UInt64.self, at: machine) ?? 0)
        return entry.isPresent && rules.reservedBits(entry, at: level) == 0 ? entry : nil
    }

    /// The first table that a walk reads; nil where a pointer of PAE is not present.
    private func root(_ address: UInt64, _ rules: PagingRules) -> UInt64? {
        guard rules.form == .pae else {
            return processor.cr3 & rules.form.rootMask & rules.addressMask
        }
        let pointer = PagingEntry(processor.pointers[Int(address >> 30) & 3])
        return pointer.isPresent ? rules.tableBase(pointer) : nil
    }

    /// The level of that table.
    private static func top(_ form: PagingForm) -> PageLevel {
        form == .pae ? .directory : form.topLevel
    }

    private static func extended(_ address: UInt64, _ form: PagingForm) -> UInt64 {
        if form.linearAddressBits == 32 { return address & 0xffff_ffff }
        let unused = Int64(64 &- form.linearAddressBits)
        return UInt64(bitPattern: (Int64(bitPattern: address) << unused) >> unused)
    }

    private static func isCanonical(_ address: UInt64, _ form: PagingForm) -> Bool {
        extended(address, form) == address
    }
}

/// Linear memory that the guest's tables map with the same rights.
public struct MappedRange: Equatable, Sendable {
    /// The linear address of the first byte.
    public var start: UInt64
    /// In bytes.
    public var length: UInt64
    /// What all levels grant together.
    public var isWritable: Bool
    public var isUser: Bool
    public var isExecutable: Bool

    /// Whether another goes on where this ends, with the same rights.
    func isContinued(by next: MappedRange) -> Bool {
        start &+ length == next.start && isWritable == next.isWritable && isUser == next.isUser
            && isExecutable == next.isExecutable
    }
}
