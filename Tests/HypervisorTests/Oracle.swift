import Hypervisor
import MachineMemory
import X86

/// An independent reading of the guest's tables.
enum Oracle {
    struct Translation {
        var page: UInt64
        var writable: Bool
        var user: Bool
        var executeDisable: Bool
        var dirty: Bool
        var global: Bool
    }

    /// Nil where nothing may be mapped: not present, not accessed, or malformed.
    static func walk(
        _ machine: TestMachine, _ address: UInt64, needsAccessed: Bool = true
    ) -> Translation? {
        let mode = machine.mode
        if mode.cr4 & CR4.physicalAddressExtension == 0 {
            return walkTwoLevel(machine, address, needsAccessed)
        }
        let width = mode.physicalAddressBits
        let mask: UInt64 = (1 << width - 1) & 0xf_ffff_ffff_f000
        var reserved: UInt64 = 0xf_ffff_ffff_f000 & ~mask
        if mode.efer & EFER.executeDisableEnable == 0 { reserved |= 1 << 63 }
        var shifts: [UInt64] = [39, 30, 21, 12]
        var table = mode.cr3 & mask
        if mode.efer & EFER.longModeActive == 0 {
            reserved |= 0x7ff << 52
            shifts = [21, 12]
            let pointer = mode.pointers[Int(address >> 30) & 3]
            if pointer & 1 == 0 { return nil }
            table = pointer & mask
        } else if mode.cr4 & CR4.fiveLevelPaging != 0 {
            shifts = [48, 39, 30, 21, 12]
        }
        var writable = true
        var user = true
        var executeDisable = false
        for shift in shifts {
            let raw = machine.quadword(table + (address >> shift & 511) * 8)
            let isLeaf = shift == 12 || raw & 0x80 != 0
            if raw & 1 == 0 || needsAccessed && raw & 0x20 == 0 { return nil }
            if raw & reserved != 0 { return nil }
            if shift >= 39 && isLeaf { return nil }
            if shift == 30 && isLeaf && !mode.hasGigabytePages { return nil }
            if isLeaf && shift > 12 && raw & ((1 << shift) - 1) & ~0x1fff != 0 { return nil }
            writable = writable && raw & 2 != 0
            user = user && raw & 4 != 0
            executeDisable = executeDisable || raw >> 63 != 0
            if isLeaf {
                let base = raw & mask & ~((1 << shift) - 1)
                return Translation(
                    page: base + address & ((1 << shift) - 1) & ~0xfff, writable: writable,
                    user: user, executeDisable: executeDisable, dirty: raw & 0x40 != 0,
                    global: raw & 0x100 != 0)
            }
            table = raw & mask
        }
        return nil
    }

    private static func walkTwoLevel(
        _ machine: TestMachine, _ address: UInt64, _ needsAccessed: Bool
    ) -> Translation? {
        let wanted: UInt64 = needsAccessed ? 0x21 : 1
        let directory = machine.doubleword(machine.mode.cr3 & ~0xfff + (address >> 22 & 1023) * 4)
        if directory & wanted != wanted { return nil }
        if directory & 0x80 != 0 && machine.mode.cr4 & CR4.pageSizeExtensions != 0 {
            let base = directory & 0xffc0_0000 | (directory >> 13 & 0xff) << 32
            if directory & 1 << 21 != 0 || base >> machine.mode.physicalAddressBits != 0 {
                return nil
            }
            return Translation(
                page: base + address & 0x3f_f000, writable: directory & 2 != 0,
                user: directory & 4 != 0, executeDisable: false, dirty: directory & 0x40 != 0,
                global: directory & 0x100 != 0)
        }
        let entry = machine.doubleword(directory & ~0xfff + (address >> 12 & 1023) * 4)
        if entry & wanted != wanted { return nil }
        return Translation(
            page: entry & ~0xfff, writable: entry & directory & 2 != 0,
            user: entry & directory & 4 != 0, executeDisable: false, dirty: entry & 0x40 != 0,
            global: entry & 0x100 != 0)
    }

    /// The rights table of SDM Vol. 3A §4.6.1, line by line.
    static func permits(
        _ kind: AccessKind, _ mode: GuestMode, writable: Bool, user: Bool, executeDisable: Bool
    ) -> Bool {
        let isUser = kind.contains(.user)
        let isWrite = kind.contains(.write)
        if kind.contains(.fetch) {
            if executeDisable { return false }
            if isUser { return user }
            return !user || mode.cr4 >> 20 & 1 == 0
        }
        if isUser { return user && (writable || !isWrite) }
        let smap = mode.cr4 >> 21 & 1 == 1
        if user && smap && (kind.contains(.implicit) || !mode.alignmentCheck) { return false }
        return !isWrite || writable || mode.cr0 >> 16 & 1 == 0
    }
}

extension TestMachine {
    /// Guest memory, all ones where there is none.
    func quadword(_ guest: UInt64) -> UInt64 {
        memory.load(UInt64.self, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
            ?? .max
    }

    /// Guest memory, all ones where there is none.
    func doubleword(_ guest: UInt64) -> UInt64 {
        memory.load(UInt32.self, at: memory.machineAddress(of: GuestPhysicalAddress(guest)))
            .map(UInt64.init) ?? 0xffff_ffff
    }
}
