import MachineMemory
import Processor
import Testing
import X86

/// Nested paging: the guest's tables and a second dimension below them.
@Suite struct NestedPagingTests {
    /// Guest-physical 0 is this machine address.
    private let base: UInt64 = 8 << 20
    /// Where the second dimension's tables are.
    private let second: UInt64 = 0x10_0000
    /// P, R/W, U/S, A, D: the hypervisor's entries.
    private let all: UInt64 = 0x67

    /// A machine whose guest-physical 0…4 MiB lie at `base`, mapped by the second dimension with
    /// 4 KiB pages in its first 2 MiB and a large page above. The guest's tables map its virtual
    /// 0…2 MiB with 4 KiB pages and 2…4 MiB with a large one.
    private func nested() throws -> BareMachine {
        let machine = try BareMachine()
        func poke(_ address: UInt64, _ value: UInt64) {
            machine.memory.store(value, at: MachineAddress(address))
        }
        poke(second, second + 0x1000 | all)
        poke(second + 0x1000, second + 0x2000 | all)
        poke(second + 0x2000, second + 0x3000 | all)
        poke(second + 0x2008, base + 2 << 20 | all | PagingEntry.largeBit)
        for page in 0..<512 as Range<UInt64> {
            poke(second + 0x3000 + page * 8, base + page << 12 | all)
        }
        // The guest's: user and writable, A and D clear.
        poke(base + 0x1000, 0x2007)
        poke(base + 0x2000, 0x3007)
        poke(base + 0x3000, 0x4007)
        poke(base + 0x3008, 2 << 20 | 7 | PagingEntry.largeBit)
        for page in 0..<512 as Range<UInt64> {
            poke(base + 0x4000 + page * 8, page << 12 | 7)
        }
        machine.processor.control.paging = .nested(root: MachineAddress(second))
        machine.processor.invalidateAll()
        return machine
    }

    private func run(_ machine: BareMachine, _ bytes: [UInt8], count: UInt64 = 1) -> Exit {
        machine.store(bytes, at: base + BareMachine.code)
        return machine.proceed(from: BareMachine.code, count: count)
    }

    private func peek(_ machine: BareMachine, _ guest: UInt64) -> UInt64? {
        machine.memory.load(UInt64.self, at: MachineAddress(base + guest))
    }

    /// Unmaps a guest-physical page of the first 2 MiB in the second dimension.
    private func setSecond(_ machine: BareMachine, _ guest: UInt64, _ entry: UInt64) {
        machine.memory.store(entry, at: MachineAddress(second + 0x3000 + guest >> 9 & 0xff8))
        machine.processor.invalidateAll()
    }

    @Test func `a walk of four levels on four reads 24 entries, once`() throws {
        let machine = try nested()
        // MOV RAX, [RSI]; MOV RAX, [RSI]: the fetch is a walk as well.
        machine.processor[.rsi] = 0x5000
        machine.memory.store(UInt64(77), at: MachineAddress(base + 0x5000))
        let code: [UInt8] = [0x48, 0x8b, 0x06, 0x48, 0x8b, 0x06]
        #expect(run(machine, code, count: 2) == .limit)
        #expect(machine.processor[.rax] == 77)
        #expect(machine.processor.statistics.walkReferences == 48)
        // A large page in both dimensions: 3 × (4 + 1) + 3.
        machine.processor[.rsi] = 0x20_0000
        #expect(machine.proceed(from: BareMachine.code, count: 1) == .limit)
        #expect(machine.processor.statistics.walkReferences == 48 + 18)
    }

    @Test func `A and D are set in the guest's tables and not in the second dimension`() throws {
        let machine = try nested()
        let clean: UInt64 = base + 0x6000 | all & ~PagingEntry.accessedBit
        setSecond(machine, 0x6000, clean)
        machine.processor[.rsi] = 0x6000
        #expect(run(machine, [0x48, 0x89, 0x06]) == .limit)
        #expect(peek(machine, 0x4000 + 6 * 8) == 0x6067)
        #expect(peek(machine, 0x3000) == 0x4027)
        #expect(
            machine.memory.load(UInt64.self, at: MachineAddress(second + 0x3000 + 6 * 8)) == clean)
    }

    @Test func `what the second dimension does not map exits, pages and tables alike`() throws {
        let machine = try nested()
        machine.processor[.rsi] = 0x7abc
        setSecond(machine, 0x7000, 0)
        let code: [UInt8] = [0x48, 0x89, 0x06]
        #expect(
            run(machine, code)
                == .secondDimensionFault(GuestPhysicalAddress(0x7abc), .write))
        setSecond(machine, 0x7000, base + 0x7000 | all & ~PagingEntry.writableBit)
        #expect(
            run(machine, code)
                == .secondDimensionFault(GuestPhysicalAddress(0x7abc), .write))
        setSecond(machine, 0x7000, base + 0x7000 | all)
        setSecond(machine, 0x4000, 0)
        #expect(
            run(machine, code)
                == .secondDimensionFault(
                    GuestPhysicalAddress(0x4000 + BareMachine.code >> 9), .fetch))
        // Tables may be read and not written: the exit is for A.
        machine.memory.store(UInt64(0x7007), at: MachineAddress(base + 0x4000 + 7 * 8))
        setSecond(machine, 0x4000, base + 0x4000 | all & ~PagingEntry.writableBit)
        #expect(
            run(machine, code)
                == .secondDimensionFault(
                    GuestPhysicalAddress(0x4000 + 7 * 8), .write))
        setSecond(machine, 0x4000, base + 0x4000 | all)
        let retired = machine.processor.retired
        #expect(run(machine, code) == .limit)
        #expect(machine.processor.retired == retired + 1)
    }

    @Test func `a table where no memory answers reads as all ones`() throws {
        let machine = try nested()
        machine.memory.store(UInt64(0x9007), at: MachineAddress(base + 0x3010))
        setSecond(machine, 0x9000, 0xff_ffff_f000 | all)
        machine.processor[.rsi] = 0x40_0000
        // The guest has no IDT: a page fault ends in a triple fault.
        #expect(run(machine, [0x48, 0x8b, 0x06]) == .tripleFault)
        #expect(machine.processor.cr2 == 0x40_0000)
    }

    @Test func `a guest's page fault does not exit`() throws {
        let machine = try nested()
        machine.memory.store(UInt64(0), at: MachineAddress(base + 0x4000 + 8 * 8))
        machine.processor[.rsi] = 0x8000
        #expect(run(machine, [0x48, 0x8b, 0x06]) == .tripleFault)
        #expect(machine.processor.cr2 == 0x8000)
    }

    @Test func `INVLPG ends every part of a page that is large in the guest alone`() throws {
        let machine = try nested()
        // Guest virtual 4 MiB is a large page over the second dimension's small ones.
        machine.memory.store(
            UInt64(7) | PagingEntry.largeBit, at: MachineAddress(base + 0x3010))
        machine.memory.store(UInt64(1), at: MachineAddress(base + 0xa000))
        machine.memory.store(UInt64(2), at: MachineAddress(base + 0x20_a000))
        machine.processor[.rsi] = 0x40_a000
        machine.processor[.rdi] = 0x40_0000
        // MOV RAX, [RSI]; MOV RBX, [RSI]; INVLPG [RDI]; MOV RCX, [RSI]
        let code: [UInt8] = [
            0x48, 0x8b, 0x06, 0x48, 0x8b, 0x1e, 0x0f, 0x01, 0x3f, 0x48, 0x8b, 0x0e,
        ]
        #expect(run(machine, code) == .limit)
        machine.memory.store(
            UInt64(2 << 20 | 7) | PagingEntry.largeBit, at: MachineAddress(base + 0x3010))
        let limit = machine.processor.retired + 3
        #expect(machine.processor.run(until: limit) == .limit)
        #expect(machine.processor[.rax] == 1)
        #expect(machine.processor[.rbx] == 1, "stale, as a TLB may be")
        #expect(machine.processor[.rcx] == 2)
    }
}
