import MachineMemory
import Processor
import Testing
import X86

extension Processor {
    func takeCompletedWrites() -> [UInt64] {
        var records: [UInt64] = []
        takeCompletedWrites { records = $0 }
        return records
    }
}

/// Writes to protected pages (T set, D clear), and how the hypervisor has them completed.
@Suite struct CompletedWriteTests {
    private let small = BareMachine.small
    /// P, R/W, U/S, A.
    private let rights: UInt64 = 0x27
    private let traced = PagingEntry.tracedBit

    /// A machine under shadow paging whose `small` pages 0…2 are at 0x40_0000…: two protected
    /// ones, and one that is clean.
    private func protected() throws -> BareMachine {
        let machine = try BareMachine()
        for page in 0..<8 as Range<UInt64> {
            machine.memory.store(page << 21 | 0xe7, at: MachineAddress(0x3000 + page * 8))
        }
        machine.mapSmall([
            0x40_0000 | rights | traced, 0x40_1000 | rights | traced, 0x40_2000 | rights,
        ])
        machine.processor.control.paging = .shadow(root: MachineAddress(0x1000))
        machine.processor.invalidateAll()
        machine.processor[.rsi] = small
        return machine
    }

    /// Goes on with the step that has exited, and expects it to complete.
    private func complete(_ machine: BareMachine) -> [UInt64] {
        machine.processor.control.completesProtectedWrites = true
        #expect(machine.processor.run(until: .max) == .writeCompleted)
        #expect(!machine.processor.control.completesProtectedWrites)
        return machine.processor.takeCompletedWrites()
    }

    @Test func `a write exits, is completed once, and the next one exits again`() throws {
        let machine = try protected()
        // ADD [RSI], RAX; ADD [RSI], RAX
        machine.processor[.rax] = 5
        let code: [UInt8] = [0x48, 0x01, 0x06, 0x48, 0x01, 0x06]
        let retired = machine.processor.retired
        let fault = Exit.pageFault(GuestVirtualAddress(small), .write)
        #expect(machine.run(code, count: 2) == fault)
        #expect(machine.processor.retired == retired)
        #expect(complete(machine) == [0x40_0000 | 3])
        #expect(machine.processor.retired == retired + 1)
        #expect(machine.memory.load(UInt64.self, at: MachineAddress(0x40_0000)) == 5)
        #expect(machine.processor.run(until: .max) == fault)
        #expect(complete(machine) == [0x40_0000 | 3])
        #expect(machine.memory.load(UInt64.self, at: MachineAddress(0x40_0000)) == 10)
        #expect(machine.processor.takeCompletedWrites() == [])
    }

    @Test func `reads of a protected page are plain, and no read lets a write through`() throws {
        let machine = try protected()
        // MOV RAX, [RSI]; MOV [RSI], RAX
        let code: [UInt8] = [0x48, 0x8b, 0x06, 0x48, 0x89, 0x06]
        #expect(machine.run(code, count: 1) == .limit)
        #expect(
            machine.processor.run(until: .max)
                == .pageFault(GuestVirtualAddress(small), .write))
    }

    @Test func `CMPXCHG16B is completed whole`() throws {
        let machine = try protected()
        machine.processor[.rax] = 0
        machine.processor[.rdx] = 0
        machine.processor[.rbx] = 11
        machine.processor[.rcx] = 12
        #expect(
            machine.run([0x48, 0x0f, 0xc7, 0x0e], count: 1)
                == .pageFault(GuestVirtualAddress(small), .write))
        #expect(complete(machine) == [0x40_0000 | 3, 0x40_0008 | 3])
        #expect(machine.memory.load(UInt64.self, at: MachineAddress(0x40_0000)) == 11)
        #expect(machine.memory.load(UInt64.self, at: MachineAddress(0x40_0008)) == 12)
    }

    @Test func `a repeated instruction is completed an iteration at a time`() throws {
        let machine = try protected()
        let retired = machine.processor.retired
        // Two plain quadwords below the protected page, three in it: REP MOVSQ.
        machine.processor[.rsi] = 0x60_0000
        machine.processor[.rdi] = small &- 16
        machine.processor[.rcx] = 5
        for index in 0..<5 as Range<UInt64> {
            machine.memory.store(index + 1, at: MachineAddress(0x60_0000 + index * 8))
        }
        var exit = machine.run([0xf3, 0x48, 0xa5], count: 1)
        for index in 0..<3 as Range<UInt64> {
            #expect(exit == .pageFault(GuestVirtualAddress(small + index * 8), .write))
            #expect(machine.processor[.rcx] == 3 - index)
            #expect(machine.processor.retired == retired)
            #expect(complete(machine) == [0x40_0000 + index * 8 | 3])
            exit = index < 2 ? machine.processor.run(until: retired + 1) : .limit
        }
        #expect(machine.processor.retired == retired + 1)
        #expect(machine.processor[.rcx] == 0)
        for index in 0..<3 as Range<UInt64> {
            #expect(
                machine.memory.load(UInt64.self, at: MachineAddress(0x40_0000 + index * 8))
                    == index + 3)
        }
    }

    @Test func `a write over the boundary of two protected pages is one step`() throws {
        let machine = try protected()
        // MOV qword [small + 0xffc], -1
        let code: [UInt8] = [
            0x48, 0xc7, 0x04, 0x25, 0xfc, 0x0f, 0x40, 0, 0xff, 0xff, 0xff, 0xff,
        ]
        #expect(
            machine.run(code, count: 1)
                == .pageFault(GuestVirtualAddress(small + 0xffc), .write))
        #expect(complete(machine) == [0x40_0ff8 | 2, 0x40_1000 | 2])
    }

    @Test func `a clean page is not protected: the step exits for it with nothing written`() throws
    {
        let machine = try protected()
        // MOV qword [small + 0x1ffc], -1
        let code: [UInt8] = [
            0x48, 0xc7, 0x04, 0x25, 0xfc, 0x1f, 0x40, 0, 0xff, 0xff, 0xff, 0xff,
        ]
        #expect(
            machine.run(code, count: 1)
                == .pageFault(GuestVirtualAddress(small + 0x1ffc), .write))
        machine.processor.control.completesProtectedWrites = true
        #expect(
            machine.processor.run(until: .max)
                == .pageFault(GuestVirtualAddress(small + 0x2000), .write))
        #expect(machine.processor.takeCompletedWrites() == [])
        #expect(machine.memory.load(UInt64.self, at: MachineAddress(0x40_1ff8)) == 0)
        // The hypervisor makes it dirty, and the step goes on.
        machine.mapSmall([0x40_2000 | rights | PagingEntry.dirtyBit], from: 2)
        #expect(machine.processor.run(until: .max) == .writeCompleted)
        #expect(machine.processor.takeCompletedWrites() == [0x40_1ff8 | 2])
        #expect(machine.memory.load(UInt32.self, at: MachineAddress(0x40_2000)) == .max)
    }

    @Test func `rights bind a step too`() throws {
        let machine = try protected()
        machine.mapSmall([0x40_0000 | rights & ~PagingEntry.writableBit | traced])
        machine.processor.control.completesProtectedWrites = true
        #expect(
            machine.run([0x48, 0x01, 0x06], count: 1)
                == .pageFault(GuestVirtualAddress(small), .write))
    }

    @Test func `an event whose frame lies in a protected page is delivered in one step`() throws {
        let machine = try protected()
        // A gate for #UD at 0x70000 + 6 × 16, and a flat code segment 0x10 in the GDT.
        machine.memory.store(
            UInt64(0x0001_8e00_0010_0000), at: MachineAddress(0x7_0000 + 6 * 16))
        machine.memory.store(UInt64(0x00af_9b00_0000_ffff), at: MachineAddress(0x7_1010))
        // LIDT [0x72000]; LGDT [0x72010]; UD2
        machine.memory.store(UInt64(0x0007_0000_0fff), at: MachineAddress(0x7_2000))
        machine.memory.store(UInt64(0x0007_1000_0fff), at: MachineAddress(0x7_2010))
        let code: [UInt8] = [
            0x0f, 0x01, 0x1c, 0x25, 0x00, 0x20, 0x07, 0x00,
            0x0f, 0x01, 0x14, 0x25, 0x10, 0x20, 0x07, 0x00,
            0x0f, 0x0b,
        ]
        machine.processor[.rsp] = small + 0x800
        let exit = machine.run(code, count: 3)
        guard case .pageFault(_, let kind) = exit else {
            Issue.record("\(exit)")
            return
        }
        #expect(kind.contains(.write))
        let records = complete(machine)
        // SS, RSP, RFLAGS, CS, RIP.
        #expect(Set(records) == Set((1...5).map { 0x40_0800 - $0 * 8 | 3 }))
        #expect(machine.processor.rip == 0x1_0000)
        #expect(machine.processor[.rsp] == small + 0x800 - 40)
    }

    @Test func `a write that is recorded in one page and protected in the next does both`() throws {
        let machine = try protected()
        machine.mapSmall([0x40_0000 | rights | PagingEntry.dirtyBit | traced])
        machine.processor.control.trace.isEnabled = true
        machine.processor.control.trace.base = MachineAddress(0x60_0000)
        machine.processor.control.trace.threshold = 1
        machine.processor.invalidateAll()
        // MOV qword [small + 0xffc], -1
        let code: [UInt8] = [
            0x48, 0xc7, 0x04, 0x25, 0xfc, 0x0f, 0x40, 0, 0xff, 0xff, 0xff, 0xff,
        ]
        #expect(
            machine.run(code, count: 1)
                == .pageFault(GuestVirtualAddress(small + 0x1000), .write))
        #expect(machine.processor.traceProducer == 0)
        machine.processor.control.completesProtectedWrites = true
        // The exit stands for the end of the step, too.
        #expect(machine.processor.run(until: .max) == .bufferThreshold)
        #expect(!machine.processor.control.completesProtectedWrites)
        #expect(machine.processor.takeCompletedWrites() == [0x40_1000 | 2])
        #expect(machine.processor.traceProducer == 1)
        #expect(
            machine.memory.load(UInt64.self, at: MachineAddress(0x60_0000)) == 0x40_0ff8 | 2)
    }

    @Test func `an interrupt that comes first is a step of its own`() throws {
        let machine = try SystemMachine(.long)
        machine.processor.jump(to: SystemMachine.code)
        machine.processor.flags = RFLAGS.interruptEnable | 2
        machine.platform.interrupts = [0x40]
        machine.processor.interruptRequested = true
        machine.processor.control.completesProtectedWrites = true
        let retired = machine.processor.retired
        #expect(machine.proceed() == .writeCompleted)
        // Its frame may be in a page that a shadow follows: nothing of the handler has run.
        #expect(machine.processor.rip == SystemMachine.handlers + 0x40 * 16)
        #expect(machine.processor.retired == retired)
        #expect(!machine.processor.control.completesProtectedWrites)
    }
}
