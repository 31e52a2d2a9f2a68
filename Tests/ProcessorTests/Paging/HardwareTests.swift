import MachineMemory
import Processor
import Testing
import X86

/// Hardware that is as awkward as the architecture lets it be.
@Suite struct HardwareTests {
    // MARK: The textual form

    @Test(
        "hardware is parsed from what it describes itself as",
        arguments: [
            "default", "tlb=keep", "tlb=random:0", "tlb=random:18446744073709551615",
            "tlb=speculative", "tlb=fragment", "tlb=keep,tlb=speculative,tlb=fragment",
            "tlb=random:7,tlb=fragment,erratum=invlpg-global-pcid,erratum=cached-not-accessed",
            "erratum=invlpg-one-part,erratum=invpcid-keeps-structures,erratum=cr3-keeps-structures",
        ])
    func roundTrip(_ text: String) throws {
        #expect(try Hardware(parsing: text).description == text)
    }

    @Test("hardware is described in one order")
    func order() throws {
        #expect(
            try Hardware(parsing: "erratum=invlpg-one-part,tlb=fragment,tlb=keep").description
                == "tlb=keep,tlb=fragment,erratum=invlpg-one-part")
        #expect(Hardware().description == "default")
    }

    @Test("what is no hardware is refused, and what is allowed is said")
    func refused() throws {
        func error(_ text: String) -> HardwareError? {
            do { _ = try Hardware(parsing: text) } catch { return error }
            return nil
        }
        #expect(error("") == .unknown(""))
        #expect(error("keep") == .unknown("keep"))
        #expect(error("tlb=keep,") == .unknown(""))
        #expect(error("default,tlb=keep") == .unknown("default"))
        #expect(error("tlb=random") == .unknown("tlb=random"))
        #expect(error("tlb=random:") == .badSeed(""))
        #expect(error("tlb=random:-1") == .badSeed("-1"))
        #expect(error("tlb=random:1,tlb=random:2") == .twoReplacements)
        #expect(error("tlb=keep,tlb=random:2") == .twoReplacements)
        #expect(error("tlb=keep,tlb=keep") == .doubled("tlb=keep"))
        #expect(error("erratum=f00f") == .unknownErratum("f00f"))
        let text = try #require(error("erratum=f00f")).description
        for erratum in Erratum.allCases { #expect(text.contains(erratum.rawValue)) }
        for error in [.unknown("x"), .badSeed("x"), .doubled("x"), .twoReplacements]
            as [HardwareError]
        {
            #expect(!error.description.contains("\n"))
        }
    }

    // MARK: keep

    /// Reads `count` pages of a huge one, each for its own 4 KiB, and returns the misses.
    private func read(_ machine: CacheMachine, pages count: UInt64) -> UInt64 {
        let before = machine.processor.statistics.tlbMisses
        // mov rsi, …; mov rcx, …; again: mov al, [rsi]; add rsi, 4096; dec rcx; jnz again; hlt
        let code: [UInt8] =
            [0x48, 0xbe] + bytes(2 << 39 as UInt64) + [0x48, 0xb9] + bytes(count)
            + [0x8a, 0x06, 0x48, 0x81, 0xc6, 0x00, 0x10, 0x00, 0x00, 0x48, 0xff, 0xc9, 0x75, 0xf2]
            + [0xf4]
        machine.system.memory.write(code.span, at: MachineAddress(SystemMachine.code))
        machine.processor.codeChanged(in: MachineAddress(SystemMachine.code).frame)
        machine.processor.jump(to: SystemMachine.code)
        let limit = machine.processor.retired + 4 * count + 8
        #expect(machine.processor.run(until: limit) == .halted)
        return machine.processor.statistics.tlbMisses - before
    }

    @Test("tlb=keep evicts nothing, up to a ceiling on what the host has to hold")
    func ceiling() throws {
        let machine = try CacheMachine("tlb=keep,tlb=fragment")
        // Two pages of 1 GiB, in which no memory answers.
        let table: UInt64 = 0x23_0000
        machine.system.store(table | 7, at: CacheMachine.root(1) + 16)
        machine.system.store(UInt64(1 << 30 | 0x87), at: table)
        machine.system.store(UInt64(2 << 30 | 0x87), at: table + 8)
        #expect(read(machine, pages: 200_000) >= 200_000)
        #expect(read(machine, pages: 200_000) == 0)
        #expect(read(machine, pages: 300_000) >= 100_000)
        // All went once on the way, and is cached anew.
        #expect(read(machine, pages: 200_000) >= 200_000)
        #expect(read(machine, pages: 200_000) == 0)
        #expect(machine.read(CacheMachine.page) == 1)
    }

    // MARK: random

    @Test("tlb=random evicts more than a full TLB does, the same with the same seed alone")
    func random() throws {
        func misses(_ hardware: String) throws -> UInt64 {
            let machine = try CacheMachine(hardware)
            for _ in 0..<50 {
                for address in [CacheMachine.page, CacheMachine.neighbour, CacheMachine.large] {
                    #expect(machine.read(address) == 1)
                    machine.invalidatePage(CacheMachine.globalPage)
                }
            }
            return machine.processor.statistics.tlbMisses
        }
        let one = try misses("tlb=random:1")
        #expect(try misses("tlb=random:1") == one)
        #expect(try misses("tlb=random:2") != one)
        #expect(try misses("default") < one)
    }

    // MARK: speculative

    @Test("tlb=speculative caches what no access asked for, where A is set, and changes nothing")
    func speculative() throws {
        func look(_ hardware: String, _ entry: UInt64) throws -> UInt64? {
            let machine = try CacheMachine(hardware)
            let slot = CacheMachine.entry(1, CacheMachine.neighbour)
            machine.system.store(entry, at: slot)
            #expect(machine.read(CacheMachine.page) == 1)
            #expect(try machine.system.load(UInt64.self, at: slot) == entry)
            #expect(machine.processor.statistics.pageFaults == 0)
            machine.system.store(CacheMachine.two | 7, at: slot)
            return machine.read(CacheMachine.neighbour)
        }
        let accessed = CacheMachine.one | 0x27
        #expect(try look("default", accessed) == 2)
        #expect(try look("tlb=speculative", accessed) == 1)
        // Not accessed, not present, or reserved: nothing may be cached.
        #expect(try look("tlb=speculative", CacheMachine.one | 7) == 2)
        #expect(try look("tlb=speculative", CacheMachine.one | 0x26) == 2)
        #expect(try look("tlb=speculative", accessed | 1 << 51) == 2)
    }

    @Test("what was speculated on is cached without D, and a write sets it")
    func speculativeDirty() throws {
        let machine = try CacheMachine("tlb=speculative,tlb=keep")
        let slot = CacheMachine.entry(1, CacheMachine.neighbour)
        machine.system.store(CacheMachine.one | 0x27, at: slot)
        #expect(machine.read(CacheMachine.page) == 1)
        #expect(machine.write(CacheMachine.neighbour))
        #expect(try machine.system.load(UInt64.self, at: slot) == CacheMachine.one | 0x67)
    }

    // MARK: fragment

    @Test("tlb=fragment caches a large page by 4 KiB")
    func fragment() throws {
        func misses(_ hardware: String) throws -> UInt64 {
            let machine = try CacheMachine(hardware)
            _ = machine.read(CacheMachine.large)
            let before = machine.processor.statistics.tlbMisses
            for part in 1...16 as ClosedRange<UInt64> {
                #expect(machine.read(CacheMachine.large + part << 12) == 1)
            }
            return machine.processor.statistics.tlbMisses - before
        }
        #expect(try misses("default") == 0)
        #expect(try misses("tlb=fragment") == 16)
        #expect(try misses("tlb=fragment,tlb=keep") == 16)
    }

    @Test(
        "INVLPG drops all parts of a page by the size that it was cached with",
        arguments: ["tlb=fragment", "tlb=fragment,tlb=keep", "erratum=invlpg-one-part"])
    func resized(_ hardware: String) throws {
        let machine = try CacheMachine(hardware)
        for part in 0..<2 as Range<UInt64> {
            #expect(machine.read(CacheMachine.large + part << 12) == 1)
        }
        // The same addresses are two pages of 4 KiB now.
        let table: UInt64 = 0x23_0000
        for part in 0..<2 as Range<UInt64> {
            machine.system.store(CacheMachine.two | 7, at: table + part * 8)
        }
        machine.system.store(table | 7, at: CacheMachine.directory(1, CacheMachine.large))
        machine.invalidatePage(CacheMachine.large + 0x1000)
        #expect(machine.read(CacheMachine.large + 0x1000) == 2)
        let isFaulty = hardware.hasPrefix("erratum")
        #expect(machine.read(CacheMachine.large) == (isFaulty ? 1 : 2))
    }

    // MARK: Errata

    @Test("erratum=cached-not-accessed leaves A clear, and caches the translation")
    func notAccessed() throws {
        let machine = try CacheMachine("erratum=cached-not-accessed")
        let slot = CacheMachine.entry(1, CacheMachine.neighbour)
        #expect(machine.read(CacheMachine.neighbour) == 1)
        #expect(try machine.system.load(UInt64.self, at: slot) == CacheMachine.one | 7)
        machine.system.store(CacheMachine.two | 7, at: slot)
        #expect(machine.read(CacheMachine.neighbour) == 1)
    }
}
