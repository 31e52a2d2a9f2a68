import MachineMemory
import X86

/// What the guest's page tables hold, and held, with who wrote it.
///
/// *Problem.* Whether a translation is lawful depends on what entries held in the past. Memory
/// tells only what they hold now, and most of memory is no table.
///
/// *Approach.* Every table that can be reached from a root in use is *watched*: each write to it is
/// told, compared with a copy, and becomes a version of the entry. A table is watched from the
/// moment at which it can first be reached: when a root is loaded, all that hangs from it; when a
/// watched entry becomes present, all that it leads to. Whatever a table held before that, nobody
/// can have cached: a cached value was read in a walk, a walk goes from a root from present entry
/// to present entry, and each of these was watched when it was read. So the content that a table
/// has when it is first watched may be treated as if it had held since ever: no walk is counted
/// that reads it earlier, since no link to it was held earlier.
///
/// A table that no watched entry and no root refers to any more stays watched, since a
/// paging-structure cache may still lead to it, until the guest uses it for something else, which
/// shows by many writes. From then on its content is *unknown*: a search that would need it
/// leaves the translation unjudged instead of finding it unlawful. It is known again when the frame
/// is watched anew.
///
/// *Caveats.* Memory is bounded (`OracleLimits`). What does not fit is unknown too, and counted.
final class TableHistory {
    /// Who wrote a version, and when.
    struct Origin {
        var writer: MemoryWriter
        /// The retired count of the processor that wrote, or that ran last.
        var retired: UInt64
    }

    /// One value of a quadword of a table, from one moment on.
    struct Version {
        var value: UInt64
        var from: Moment
        /// nil: since before the table was watched, or since before history was dropped.
        var origin: Origin?
    }

    final class Table {
        let frame: UInt64
        let since: Moment
        /// The 512 quadwords as the guest has them now.
        var copy: [UInt64]
        /// The versions of the quadwords that have changed, oldest first; the last is in force.
        var versions: [Int: [Version]] = [:]
        /// References by role from entries and roots.
        var references = InlineArray<9, UInt32>(repeating: 0)
        /// Bit `role`: the entries of the table have been followed for the role.
        var roles: UInt16 = 0
        var writesSinceUse = 0
        /// When nobody watched.
        var unknown: Span?

        init(frame: UInt64, since: Moment, copy: [UInt64]) {
            self.frame = frame
            self.since = since
            self.copy = copy
        }

        var isReferenced: Bool {
            for role in 1..<9 where references[role] != 0 { return true }
            return false
        }
    }

    private let memory: MachineMemory
    private let limits: OracleLimits
    /// The table in each guest frame.
    private var tables: [Table?]
    /// When the frames of former tables ceased to be watched.
    private var left: [UInt64: Moment] = [:]
    private(set) var tableCount = 0
    private(set) var versionCount = 0
    /// Whether there were more tables than `limits` allows.
    private(set) var isFull = false
    /// Before this moment versions were dropped.
    private(set) var forgottenBefore: Moment = 0
    /// Whether there were present ones with G among them: such may be cached under any PCID.
    private(set) var forgotGlobal = false

    init(_ memory: MachineMemory, _ limits: OracleLimits) {
        self.memory = memory
        self.limits = limits
        tables = Array(
            repeating: nil, count: Int((memory.arenaBytes &- memory.guestBase) >> 12))
    }

    // MARK: Roles

    /// What a table is used as: its level and the size of its entries, which decide what hangs
    /// from it. 1…5: 8-byte entries; 6: a 2-level page table; 7, 8: a directory with CR4.PSE set,
    /// clear.
    static func role(_ mode: PagingMode, _ level: Int) -> Int {
        guard mode.form == .twoLevel else { return level }
        return level == 1 ? 6 : mode.pageSizeExtensions ? 7 : 8
    }

    /// Calls `body` with the frame and role of each table that the entries in a quadword name.
    private func forEachLink(
        _ value: UInt64, _ role: Int, _ body: (UInt64, Int) -> Void
    ) {
        switch role {
        case 2, 3, 4, 5:
            guard value & 1 != 0, role > 3 || value & 0x80 == 0 else { return }
            body((value & 0x000f_ffff_ffff_f000) >> 12, role &- 1)
        case 7, 8:
            for half in [value & 0xffff_ffff, value >> 32] {
                guard half & 1 != 0, role == 8 || half & 0x80 == 0 else { continue }
                body(half >> 12, 6)
            }
        default: break
        }
    }

    // MARK: Watching

    /// The table in a guest frame; nil where none is watched.
    @inline(__always)
    func table(_ frame: UInt64) -> Table? {
        frame < UInt64(tables.count) ? tables[Int(frame)] : nil
    }

    /// Whether RAM answers in the guest frame.
    func isRAM(_ frame: UInt64) -> Bool {
        frame < UInt64(tables.count)
            && memory.isMemory(machineAddress(frame), size: 4096)
    }

    private func machineAddress(_ frame: UInt64) -> MachineAddress {
        MachineAddress(memory.guestBase &+ frame << 12)
    }

    /// One more thing refers to the frame as a table: watches it and what hangs from it.
    func retain(_ frame: UInt64, _ role: Int, at now: Moment) {
        guard let table = table(frame) ?? watch(frame, now) else { return }
        table.references[role] &+= 1
        table.writesSinceUse = 0
        guard table.roles & 1 << role == 0 else { return }
        table.roles |= 1 << role
        for index in 0..<512 {
            forEachLink(table.copy[index], role) { retain($0, $1, at: now) }
        }
    }

    /// One thing less does.
    func release(_ frame: UInt64, _ role: Int) {
        guard let table = table(frame), table.references[role] > 0 else { return }
        table.references[role] &-= 1
    }

    private func watch(_ frame: UInt64, _ now: Moment) -> Table? {
        guard isRAM(frame) else { return nil }
        guard tableCount < limits.tables else {
            isFull = true
            return nil
        }
        memory.watch(memory.guestBase >> 12 &+ frame)
        let copy = (0..<512).map { index in
            memory.load(UInt64.self, at: machineAddress(frame) + UInt64(index) &* 8) ?? 0
        }
        let table = Table(frame: frame, since: now, copy: copy)
        if let from = left.removeValue(forKey: frame) { table.unknown = Span(from: from, to: now) }
        tables[Int(frame)] = table
        tableCount += 1
        return table
    }

    /// A frame that was a table is data now.
    private func unwatch(_ table: Table, _ now: Moment) {
        memory.unwatch(memory.guestBase >> 12 &+ table.frame)
        tables[Int(table.frame)] = nil
        tableCount -= 1
        versionCount -= table.versions.values.reduce(0) { $0 + $1.count }
        left[table.frame] = now
        for role in 1..<9 where table.roles & 1 << role != 0 {
            for value in table.copy { forEachLink(value, role) { release($0, $1) } }
        }
    }

    // MARK: Writes

    /// Bytes of a watched frame were written.
    /// - Parameter address: a machine address; the bytes lie within one frame.
    func written(_ address: UInt64, size: Int, _ origin: Origin, at now: Moment) {
        let guest = address &- memory.guestBase
        guard let table = table(guest >> 12) else { return }
        let first = Int(guest >> 3) & 511
        let last = Int((guest &+ UInt64(size) &- 1) >> 3) & 511
        for index in first...max(first, last) { update(table, index, origin, now) }
        guard !table.isReferenced else { return }
        table.writesSinceUse += 1
        if table.writesSinceUse > limits.writesToData { unwatch(table, now) }
    }

    private func update(_ table: Table, _ index: Int, _ origin: Origin, _ now: Moment) {
        guard
            let value = memory.load(
                UInt64.self, at: machineAddress(table.frame) + UInt64(index) &* 8)
        else { return }
        let old = table.copy[index]
        guard value != old else { return }
        table.copy[index] = value
        if table.versions[index] == nil {
            table.versions[index] = [Version(value: old, from: 0, origin: nil)]
            versionCount += 1
        }
        table.versions[index]?.append(Version(value: value, from: now, origin: origin))
        versionCount += 1
        for role in 1..<9 where table.roles & 1 << role != 0 {
            // The new first, so that what both name is not thought to be free in between.
            forEachLink(value, role) { retain($0, $1, at: now) }
            forEachLink(old, role) { release($0, $1) }
        }
    }

    /// Whether more versions are kept than the limit allows.
    var isOverfull: Bool { versionCount > limits.versions }

    /// Drops all that is not in force.
    func forget(at now: Moment) {
        for case let table? in tables {
            for versions in table.versions.values where !forgotGlobal {
                forgotGlobal = versions.contains { Self.mayBeGlobal($0.value) }
            }
            table.versions = [:]
            table.unknown = nil
        }
        left = [:]
        versionCount = 0
        forgottenBefore = now
    }

    /// Whether a quadword may hold a present entry with G.
    private static func mayBeGlobal(_ value: UInt64) -> Bool {
        value & 0x101 == 0x101 || value >> 32 & 0x101 == 0x101
    }

    // MARK: Reading

    /// The entry of `bytes` bytes at a guest-physical address as it is now; nil where there is no
    /// RAM.
    @inline(__always)
    func current(_ address: UInt64, _ bytes: UInt64) -> UInt64? {
        guard let table = table(address >> 12) else {
            guard isRAM(address >> 12) else { return nil }
            let value = memory.load(
                UInt64.self, at: MachineAddress(memory.guestBase &+ (address & ~7)))
            return Self.part(value ?? .max, address, bytes)
        }
        return Self.part(table.copy[Int(address >> 3) & 511], address, bytes)
    }

    /// Whether memory holds what was told: a difference is a write that nobody told of.
    func isFaithful(_ address: UInt64) -> Bool {
        guard let table = table(address >> 12) else { return true }
        return memory.load(UInt64.self, at: MachineAddress(memory.guestBase &+ (address & ~7)))
            == table.copy[Int(address >> 3) & 511]
    }

    @inline(__always)
    private static func part(_ value: UInt64, _ address: UInt64, _ bytes: UInt64) -> UInt64 {
        bytes == 8 ? value : value >> ((address & 4) &* 8) & 0xffff_ffff
    }

    /// One value of an entry with the span in which it held.
    struct Held {
        var value: UInt64
        var span: Span
        var origin: Origin?
    }

    /// What the entry at a guest-physical address held, oldest first.
    func values(_ address: UInt64, _ bytes: UInt64) -> [Held] {
        guard let table = table(address >> 12) else { return [] }
        let index = Int(address >> 3) & 511
        guard let versions = table.versions[index] else {
            return [Held(value: Self.part(table.copy[index], address, bytes), span: .ever)]
        }
        var held: [Held] = []
        for version in versions {
            let value = Self.part(version.value, address, bytes)
            // The other half of the quadword was written.
            if held.last?.value == value { continue }
            if !held.isEmpty { held[held.count - 1].span.to = version.from }
            held.append(
                Held(
                    value: value, span: Span(from: version.from, to: .max),
                    origin: version.origin))
        }
        return held
    }
}

/// How much the oracle keeps.
package struct OracleLimits: Sendable {
    /// How many tables may be watched at once; each takes about 5 KiB of host memory.
    package var tables: Int
    /// How many versions of entries may be kept, and how many operations; some 50 bytes each.
    package var versions: Int
    /// How many writes a table without references sees before it counts as data.
    package var writesToData: Int

    package init(tables: Int = 1 << 16, versions: Int = 1 << 22, writesToData: Int = 32) {
        self.tables = tables
        self.versions = versions
        self.writesToData = writesToData
    }
}
