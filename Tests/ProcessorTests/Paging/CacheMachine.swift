import MachineMemory
import Processor
import Testing
import X86

/// A machine in which everything that translation caches may hold is in them, and stale.
///
/// Two address spaces, PCID 1 and 2, are alike. `plant` has each `Probe` used, so that it is cached,
/// and then changes the entry that it came from: what reads 1 came from a cache, what reads 2 from
/// the tables as they are now.
///
/// ```
///  0x20_0000 frame of 1   0x20_1000 frame of 2   0x21_0000 tables   4 MiB page of 1   6 MiB of 2
/// ```
final class CacheMachine {
    /// Something cached.
    enum Probe: CaseIterable {
        /// The page at `page`, in PCID 1.
        case page
        /// The page after it.
        case neighbour
        /// A page of 2 MiB, in PCID 1.
        case large
        /// The page at `page`, in PCID 2.
        case pageInOther
        /// A global page, cached while PCID 1 was current; and one, while PCID 2 was.
        case global
        case globalOfOther
        /// The directory entry that leads to `page`, in PCID 1.
        case structure
        /// Another directory entry in PCID 1.
        case structureElsewhere
        /// The directory entry that leads to `page` in PCID 2.
        case structureInOther
    }

    static let page: UInt64 = 1 << 39
    static let neighbour = page + 0x1000
    static let globalPage = page + 0x2000
    static let globalOfOther = page + 0x3000
    /// Not cached; in the table of `page`.
    private static let unused = page + 0x9000
    static let large = page + 0x20_0000
    /// In that page, another 4 KiB.
    static let largePart = large + 0x5000
    private static let elsewhere = page + 0x40_0000

    static let one: UInt64 = 0x20_0000
    static let two: UInt64 = 0x20_1000
    static let largeOne: UInt64 = 4 << 20
    static let largeTwo: UInt64 = 6 << 20
    /// CR4 while a test runs.
    static let cr4 =
        CR4.physicalAddressExtension | CR4.pageGlobalEnable | CR4.pcidEnable

    let system: SystemMachine
    var processor: Processor { system.processor }

    init(_ hardware: String) throws {
        system = try SystemMachine(.long, hardware: Hardware(parsing: hardware))
        system.store(UInt64(1), at: Self.one)
        system.store(UInt64(2), at: Self.two)
        for part in 0..<512 as Range<UInt64> {
            system.store(UInt64(1), at: Self.largeOne + part << 12)
            system.store(UInt64(2), at: Self.largeTwo + part << 12)
        }
        // Code and stack are the supervisor's, so that SMEP and SMAP can be on.
        for part in 0..<4 as Range<UInt64> {
            system.store(part << 21 | 0x83, at: 0x3000 + part * 8)
        }
        system.processor.invalidateAll()
        for pcid in 1...2 as ClosedRange<UInt64> {
            system.store(try system.load(UInt64.self, at: 0x1000), at: Self.root(pcid))
            system.store(Self.table(pcid, 1) | 7, at: Self.root(pcid) + 8)
            system.store(Self.table(pcid, 2) | 7, at: Self.table(pcid, 1))
            system.store(Self.table(pcid, 3) | 7, at: Self.directory(pcid, Self.page))
            system.store(Self.largeOne | 0x87, at: Self.directory(pcid, Self.large))
            system.store(Self.table(pcid, 4) | 7, at: Self.directory(pcid, Self.elsewhere))
            for (address, bits) in [
                (Self.page, 5), (Self.neighbour, 7), (Self.globalPage, 0x105),
                (Self.globalOfOther, 0x105), (Self.unused, 7),
            ] as [(UInt64, UInt64)] {
                system.store(Self.one | bits, at: Self.table(pcid, 3) + address >> 9 & 0xff8)
                system.store(Self.two | bits, at: Self.table(pcid, 5) + address >> 9 & 0xff8)
            }
            for page in 0..<2 as Range<UInt64> {
                system.store(Self.one | 7, at: Self.table(pcid, 4) + page * 8)
                system.store(Self.two | 7, at: Self.table(pcid, 6) + page * 8)
            }
        }
        control(4, Self.cr4)
        enter(1)
    }

    /// Table `number` of a PCID; number 0 is its root.
    private static func table(_ pcid: UInt64, _ number: UInt64) -> UInt64 {
        0x21_0000 + pcid << 16 + number << 12
    }
    static func root(_ pcid: UInt64) -> UInt64 { table(pcid, 0) }
    /// Where the directory entry for an address is.
    static func directory(_ pcid: UInt64, _ address: UInt64) -> UInt64 {
        table(pcid, 2) + address >> 18 & 0xff8
    }
    /// Where the entry for a page below `page`'s directory entry is.
    static func entry(_ pcid: UInt64, _ address: UInt64) -> UInt64 {
        table(pcid, 3) + address >> 9 & 0xff8
    }

    // MARK: Instructions

    /// Writes a control register.
    func control(_ number: UInt8, _ value: UInt64) {
        system.run(ControlTests.moveToControl(number, value))
    }

    /// Makes a PCID current, with nothing dropped.
    func enter(_ pcid: UInt64) { control(3, Self.root(pcid) | pcid | CR3.noFlush) }

    /// What the guest reads at an address; nil where it faults.
    func read(_ address: UInt64) -> UInt64? {
        system.run([0x48, 0xbe] + bytes(address) + [0x48, 0x8b, 0x06, 0xf4])
        return system.haltedVector == nil ? processor[.rax] : nil
    }

    /// Whether the guest can write at an address.
    func write(_ address: UInt64) -> Bool {
        system.run([0x48, 0xbe] + bytes(address) + [0x48, 0x89, 0x46, 0x08, 0xf4])
        return system.haltedVector == nil
    }

    func invalidatePage(_ address: UInt64) {
        system.run([0x48, 0xbe] + bytes(address) + [0x0f, 0x01, 0x3e, 0xf4])
    }

    func invalidateContext(type: UInt64, _ pcid: UInt64, _ address: UInt64) {
        system.store(pcid, at: SystemMachine.data)
        system.store(address, at: SystemMachine.data + 8)
        system.run(
            [0x48, 0xbe] + bytes(SystemMachine.data) + [0x48, 0xb8] + bytes(type)
                + [0x66, 0x0f, 0x38, 0x82, 0x06, 0xf4])
    }

    // MARK: Probes

    /// Has everything cached, and then changes every entry. PCID 1 is current at the end.
    func plant() {
        enter(2)
        #expect(read(Self.page) == 1)
        #expect(read(Self.globalOfOther) == 1)
        enter(1)
        for address in [
            Self.page, Self.neighbour, Self.globalPage, Self.large, Self.largePart, Self.elsewhere,
        ] {
            #expect(read(address) == 1)
        }
        for pcid in 1...2 as ClosedRange<UInt64> {
            for address in [Self.page, Self.globalPage, Self.globalOfOther, Self.neighbour] {
                let bits: UInt64 =
                    address == Self.page ? 5 : address == Self.neighbour ? 7 : 0x105
                system.store(Self.two | bits, at: Self.entry(pcid, address))
            }
            system.store(Self.table(pcid, 5) | 7, at: Self.directory(pcid, Self.page))
            system.store(Self.largeTwo | 0x87, at: Self.directory(pcid, Self.large))
            system.store(Self.table(pcid, 6) | 7, at: Self.directory(pcid, Self.elsewhere))
        }
    }

    /// What is cached still. PCIDs 1 and 2 must be as they were.
    func kept() -> Set<Probe> {
        var kept: Set<Probe> = []
        func look(_ probe: Probe, _ address: UInt64) {
            let value = read(address)
            #expect(value == 1 || value == 2, "\(probe)")
            if value == 1 { kept.insert(probe) }
        }
        enter(1)
        // Structures first: walks for the others would find new ones.
        look(.structure, Self.unused)
        look(.structureElsewhere, Self.elsewhere + 0x1000)
        look(.page, Self.page)
        look(.neighbour, Self.neighbour)
        look(.large, Self.largePart)
        look(.global, Self.globalPage)
        look(.globalOfOther, Self.globalOfOther)
        enter(2)
        look(.structureInOther, Self.unused)
        look(.pageInOther, Self.page)
        return kept
    }
}
