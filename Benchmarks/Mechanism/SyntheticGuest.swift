import Glibc
import Hypervisor
import MachineMemory
import Processor
import X86

/// A machine whose guest does nothing but paging, at level 0 in 64-bit mode.
///
/// ```
///  guest-physical                              guest virtual
///  0x1_0000   code                             0              the first 2 MiB, one large page
///  0x10_0000  tables above the lowest level    area           what is touched: 2 MiB a table
///  64 MiB     the pages that are mapped        directMap      all of RAM, by large pages
///  128 MiB    tables of the lowest level
/// ```
/// Each table of the lowest level maps `pagesPerTable` pages. The first `hotTables` of them are
/// worked on; all others are touched once, so that they have a shadow page.
final class SyntheticGuest {
    static let hotTables: UInt64 = 100
    /// So few that a round of writes does not make the shadow give a table up.
    static let pagesPerTable: UInt64 = 64
    /// How many pages a round touches, and entries it writes.
    static let round = hotTables * pagesPerTable

    private static let area: UInt64 = 0x80_0000_0000
    private static let directMap: UInt64 = 0x4000_0000_0000
    private static let code: UInt64 = 0x1_0000
    private static let mappedPages: UInt64 = 64 << 20
    private static let lowestTables: UInt64 = 128 << 20
    /// P, R/W, A and D.
    private static let entryBits: UInt64 = 0x63

    /// A guest program: its bytes, and where they lie.
    private struct Program {
        var address: UInt64
        var bytes: [UInt8]
    }

    /// 2: mov ecx, 64; 1: mov al, [rsi]; add rsi, rbx; dec rcx; jnz 1b; add rsi, r8; dec rdx;
    /// jnz 2b; hlt.
    private static let touch = Program(
        address: code,
        bytes: [
            0xb9, 0x40, 0, 0, 0, 0x8a, 0x06, 0x48, 0x01, 0xde, 0x48, 0xff, 0xc9, 0x75, 0xf6, 0x4c,
            0x01, 0xc6, 0x48, 0xff, 0xca, 0x75, 0xe9, 0xf4,
        ])
    /// 1: mov al, [rsi]; add rsi, rbx; dec rcx; jnz 1b; hlt.
    private static let stride = Program(
        address: code + 0x100,
        bytes: [0x8a, 0x06, 0x48, 0x01, 0xde, 0x48, 0xff, 0xc9, 0x75, 0xf6, 0xf4])
    /// 2: mov ecx, 64; 1: mov [rdi], rax; add rax, r9; add rdi, 8; dec rcx; jnz 1b; add rdi, r8;
    /// dec rdx; jnz 2b; hlt.
    private static let edit = Program(
        address: code + 0x200,
        bytes: [
            0xb9, 0x40, 0, 0, 0, 0x48, 0x89, 0x07, 0x4c, 0x01, 0xc8, 0x48, 0x83, 0xc7, 0x08, 0x48,
            0xff, 0xc9, 0x75, 0xf1, 0x4c, 0x01, 0xc7, 0x48, 0xff, 0xca, 0x75, 0xe4, 0xf4,
        ])
    /// 1: invlpg [rsi]; dec rcx; jnz 1b; hlt.
    private static let invalidate = Program(
        address: code + 0x300,
        bytes: [0x0f, 0x01, 0x3e, 0x48, 0xff, 0xc9, 0x75, 0xf8, 0xf4])

    let hypervisor: Hypervisor
    private let memory: MachineMemory
    private let processor: Processor
    /// Host nanoseconds spent in answering full and filling buffers.
    private var drainTime: UInt64 = 0
    private var nextUpperTable: UInt64 = 0x10_0000

    /// Makes a machine with `tables` (from `hotTables` up) tables of the lowest level, all of them
    /// shadowed.
    init(_ technique: Technique, tables: UInt64) throws {
        let end = Self.lowestTables + tables * pageSize
        let guestBytes = end + (64 << 20)
        let shadowBytes = (tables + tables / 64 + 4096) * pageSize
        memory = try MachineMemory(
            guestBytes: guestBytes,
            hypervisorBytes: Hypervisor.hypervisorBytes(
                for: technique, shadowBytes: shadowBytes, processors: 1, guestBytes: guestBytes))
        processor = Processor(
            memory: memory, platform: NoPlatform(), model: .penumbraV2, index: 0)
        processor.use(.standard)
        hypervisor = try Hypervisor(
            memory: memory, processors: [processor], technique: technique,
            shadowBytes: shadowBytes)
        makeTables(tables)
        start()
        // All tables get a shadow page; the hot ones all of their entries.
        run(
            Self.stride,
            [(.rsi, Self.area), (.rbx, 2 << 20), (.rcx, tables)])
        _ = touchAll()
    }

    /// How many shadow pages there are.
    var shadowPages: UInt64 { hypervisor.ledger.shadowPagesLive }

    // MARK: Rounds

    /// Touches every page of the hot tables; host nanoseconds.
    func touchAll() -> UInt64 {
        run(
            Self.touch,
            [
                (.rsi, Self.area), (.rbx, pageSize), (.rdx, Self.hotTables),
                (.r8, (2 << 20) - Self.pagesPerTable * pageSize),
            ])
    }

    /// Writes every entry of the hot tables, so that each maps another page than before
    /// (`generation` differs by 1); host nanoseconds, and those of the drains among them.
    func editAll(generation: UInt64) -> (all: UInt64, drains: UInt64) {
        drainTime = 0
        let all = run(
            Self.edit,
            [
                (.rdi, Self.directMap + Self.lowestTables), (.rdx, Self.hotTables),
                (.rax, Self.mappedPages + generation % 2 * pageSize | Self.entryBits),
                (.r9, pageSize), (.r8, pageSize - Self.pagesPerTable * 8),
            ])
        return (all, drainTime)
    }

    /// Executes INVLPG `count` times; host nanoseconds.
    func invalidate(_ count: UInt64) -> UInt64 {
        run(Self.invalidate, [(.rsi, Self.area), (.rcx, count)])
    }

    /// Runs a program until it halts; host nanoseconds.
    @discardableResult
    private func run(_ program: Program, _ registers: [(GeneralRegister, UInt64)]) -> UInt64 {
        for (register, value) in registers { processor[register] = value }
        processor.jump(to: program.address)
        let begin = Self.now()
        while true {
            let exit = processor.run(until: .max)
            switch exit {
            case .halted: return Self.now() &- begin
            case .bufferThreshold, .bufferFull:
                let before = Self.now()
                _ = hypervisor.handle(exit, processor: 0)
                drainTime &+= Self.now() &- before
            default:
                guard hypervisor.handle(exit, processor: 0) else { stop("unexpected \(exit)") }
            }
        }
    }

    private static func now() -> UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    // MARK: The guest's tables

    private func poke(_ address: UInt64, _ value: UInt64) {
        memory.store(value, at: memory.machineAddress(of: GuestPhysicalAddress(address)))
    }

    private func makeTables(_ tables: UInt64) {
        let root = newUpperTable()
        map(0, 0, root, .directory)
        for page in 0..<(Self.ramEnd(Self.lowestTables + tables * pageSize) >> 21) + 1 {
            map(Self.directMap + page << 21, page << 21, root, .directory)
        }
        for table in 0..<tables {
            let address = Self.ramEnd(Self.lowestTables + table * pageSize)
            map(Self.area + table << 21, address, root, .directory, isTable: true)
            for page in 0..<(table < Self.hotTables ? Self.pagesPerTable : 1) {
                poke(
                    address + page * 8,
                    Self.mappedPages + page * pageSize | Self.entryBits)
            }
        }
        for program in [Self.touch, Self.stride, Self.edit, Self.invalidate] {
            memory.write(
                program.bytes.span,
                at: memory.machineAddress(of: GuestPhysicalAddress(program.address)))
        }
    }

    /// Where byte `offset` of RAM lies: there is a hole below 4 GiB.
    private static func ramEnd(_ offset: UInt64) -> UInt64 {
        offset < MachineMemory.lowLimit
            ? offset : offset - MachineMemory.lowLimit + MachineMemory.highStart
    }

    private func newUpperTable() -> UInt64 {
        defer { nextUpperTable += pageSize }
        return nextUpperTable
    }

    /// Makes the directory entry of an address name a large page or a table.
    private func map(
        _ address: UInt64, _ target: UInt64, _ root: UInt64, _ last: PageLevel,
        isTable: Bool = false
    ) {
        var table = root
        for level in [PageLevel.pml4, .directoryPointer] {
            let slot = table + UInt64(GuestVirtualAddress(address).index(at: level)) * 8
            let machine = memory.machineAddress(of: GuestPhysicalAddress(slot))
            if memory.load(UInt64.self, at: machine) ?? 0 == 0 {
                poke(slot, newUpperTable() | Self.entryBits)
            }
            table = (memory.load(UInt64.self, at: machine) ?? 0) & PagingEntry.addressMask
        }
        let slot = table + UInt64(GuestVirtualAddress(address).index(at: last)) * 8
        poke(slot, target | Self.entryBits | (isTable ? 0 : PagingEntry.largeBit))
    }

    private func start() {
        var registers = BootRegisters()
        registers.cr0 = CR0.protectionEnable | CR0.paging | CR0.writeProtect
        registers.cr3 = 0x10_0000
        registers.cr4 = CR4.physicalAddressExtension
        registers.efer = EFER.longModeEnable | EFER.longModeActive
        registers.setFlatSegments64()
        processor.setBootState(registers)
        hypervisor.start()
    }
}
