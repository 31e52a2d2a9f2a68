import MachineMemory
import Testing
import X86

@Suite struct MachineMemoryTests {
    @Test func `the hole between low and high memory has no memory`() throws {
        let memory = try MachineMemory(guestBytes: 4 << 30, hypervisorBytes: 0)
        #expect(memory.isGuestMemory(GuestPhysicalAddress(0xbfff_fff8), size: 8))
        #expect(!memory.isGuestMemory(GuestPhysicalAddress(0xbfff_fff9), size: 8))
        #expect(!memory.isGuestMemory(GuestPhysicalAddress(0xc000_0000), size: 1))
        #expect(!memory.isGuestMemory(GuestPhysicalAddress(0xffff_ffff), size: 1))
        #expect(memory.isGuestMemory(GuestPhysicalAddress(0x1_0000_0000), size: 4096))
        #expect(memory.isGuestMemory(GuestPhysicalAddress(0x1_3fff_fff8), size: 8))
        #expect(!memory.isGuestMemory(GuestPhysicalAddress(0x1_4000_0000), size: 1))
    }

    @Test func `with hypervisor frames guest physical is not machine`() throws {
        let memory = try MachineMemory(guestBytes: 1 << 20, hypervisorBytes: 5 << 20)
        #expect(memory.guestBase == 1 << 30)
        let machine = memory.machineAddress(of: GuestPhysicalAddress(0x1234))
        #expect(machine.rawValue == (1 << 30) + 0x1234)
        #expect(memory.guestAddress(of: machine) == GuestPhysicalAddress(0x1234))
        // Hypervisor frames are memory only as far as they were asked for.
        #expect(memory.isMemory(MachineAddress((5 << 20) - 8), size: 8))
        #expect(!memory.isMemory(MachineAddress(5 << 20), size: 1))
    }

    @Test func `addresses at the top of the address space do not wrap into memory`() throws {
        let memory = try MachineMemory(guestBytes: 1 << 20, hypervisorBytes: 1 << 20)
        #expect(!memory.isMemory(MachineAddress(.max), size: 8))
        #expect(!memory.isMemory(MachineAddress(.max - 6), size: 8))
        #expect(!memory.isGuestMemory(GuestPhysicalAddress(0 &- memory.guestBase), size: 8))
        #expect(memory.load(UInt64.self, at: MachineAddress(.max - 3)) == nil)
        #expect(!memory.store(UInt8(1), at: MachineAddress(.max)))
    }

    @Test func `a store is read back and a compare-and-swap needs the expected value`() throws {
        let memory = try MachineMemory(guestBytes: 1 << 20, hypervisorBytes: 0)
        let address = MachineAddress(0x1001)
        #expect(memory.store(UInt64(0x0102_0304_0506_0708), at: address))
        #expect(memory.load(UInt16.self, at: address) == 0x0708)
        let slot = MachineAddress(0x2000)
        #expect(!memory.compareAndSwap(at: slot, expected: 1 as UInt64, desired: 2))
        #expect(memory.compareAndSwap(at: slot, expected: 0 as UInt64, desired: 2 << 32 | 2))
        #expect(memory.load(UInt64.self, at: slot) == 2 << 32 | 2)
        #expect(!memory.compareAndSwap(at: slot, expected: 1 as UInt32, desired: 3))
        #expect(memory.compareAndSwap(at: slot, expected: 2 as UInt32, desired: 3))
        #expect(memory.load(UInt64.self, at: slot) == 2 << 32 | 3)
    }

    @Test func `bytes are written whole or not at all`() throws {
        let memory = try MachineMemory(guestBytes: 1 << 20, hypervisorBytes: 0)
        let bytes: [UInt8] = [1, 2, 3, 4]
        let isWritten = memory.write(bytes.span, at: MachineAddress(0x100))
        #expect(isWritten)
        #expect(memory.read(at: MachineAddress(0x100), count: 4) == bytes)
        let runsOver = memory.write(bytes.span, at: MachineAddress((1 << 20) - 2))
        #expect(!runsOver)
        #expect(memory.read(at: MachineAddress((1 << 20) - 2), count: 2) == [0, 0])
        #expect(memory.read(at: MachineAddress((1 << 20) - 2), count: 3) == nil)
    }

    @Test func `the digest tells contents and places apart and not how they came about`() throws {
        let a = try MachineMemory(guestBytes: 1 << 20, hypervisorBytes: 0)
        let b = try MachineMemory(guestBytes: 1 << 20, hypervisorBytes: 1 << 20)
        let empty = a.guestDigest()
        #expect(empty == b.guestDigest())
        a.store(UInt64(7), at: a.machineAddress(of: GuestPhysicalAddress(0x3008)))
        #expect(a.guestDigest() != empty)
        b.store(UInt64(7), at: b.machineAddress(of: GuestPhysicalAddress(0x4008)))
        #expect(a.guestDigest() != b.guestDigest())
        b.store(UInt64(0), at: b.machineAddress(of: GuestPhysicalAddress(0x4008)))
        b.store(UInt64(7), at: b.machineAddress(of: GuestPhysicalAddress(0x3008)))
        // The hypervisor's own frames are not the guest's.
        b.store(UInt64(9), at: MachineAddress(0x100))
        #expect(a.guestDigest() == b.guestDigest())
    }

    @Test func `impossible sizes are refused with the size`() {
        #expect(throws: MachineMemoryError.badGuestSize(0)) {
            try MachineMemory(guestBytes: 0, hypervisorBytes: 0)
        }
        #expect(throws: MachineMemoryError.badGuestSize(4097)) {
            try MachineMemory(guestBytes: 4097, hypervisorBytes: 0)
        }
        #expect(throws: MachineMemoryError.badHypervisorSize(1 << 40)) {
            try MachineMemory(guestBytes: 4096, hypervisorBytes: 1 << 40)
        }
    }
}

@Suite struct ExecutableMemoryTests {
    @Test("cold code has the second half to itself")
    func cold() throws {
        let memory = try #require(ExecutableMemory(capacity: 8192))
        #expect(memory.nextColdAddress == memory.base + 4096)
        #expect(memory.appendCold([0x90, 0xc3]) == memory.base + 4096)
        #expect(memory.nextColdAddress == memory.base + 4112)
        #expect(memory.append([UInt8](repeating: 0x90, count: 4097)) == nil)
        #expect(memory.append([UInt8](repeating: 0x90, count: 4096)) == memory.base)
        #expect(memory.appendCold([UInt8](repeating: 0x90, count: 4081)) == nil)
        memory.removeAll()
        #expect(memory.append([UInt8](repeating: 0x90, count: 4097)) == memory.base)
        #expect(memory.appendCold([0x90]) == nil)
    }

    @Test func `code runs from the executable view and a full region says so`() throws {
        let memory = try #require(ExecutableMemory(capacity: 4096))
        // mov eax, 42; ret
        let address = try #require(memory.append([0xb8, 42, 0, 0, 0, 0xc3]))
        #expect(address % 16 == 0)
        typealias Function = @convention(c) () -> Int32
        // The bytes above are a leaf function of this signature.
        let function = unsafe unsafeBitCast(address, to: Function.self)
        let result = function()
        #expect(result == 42)
        #expect(memory.append([UInt8](repeating: 0x90, count: 4096)) == nil)
        memory.removeAll()
        #expect(memory.used == 0)
    }
}
