import MachineMemory
import X86

/// The slow path of memory accesses: everything that the software TLB does not answer.
extension Processor {
    /// Reads `size` (1…8) bytes; nil after raising a fault or an exit.
    /// - Parameter supervisor: an implicit supervisor access, whatever the CPL.
    @inline(never)
    func readSlowly(_ address: UInt64, size: Int, supervisor: Bool) -> UInt64? {
        let kind = supervisor ? AccessKind.implicit : explicitKind
        let inPage = Int(pageSize - address & 0xfff)
        if size <= inPage {
            guard let machine = translate(address, kind),
                supervisor || isAligned(address, size: size)
            else { return nil }
            if !supervisor { core.noteDataAccess(address, size: size, write: false) }
            return readMachine(machine, size: size)
        }
        let second = linear(address &+ UInt64(inPage), supervisor: supervisor)
        guard let low = translate(address, kind), let high = translate(second, kind),
            supervisor || isAligned(address, size: size)
        else { return nil }
        if !supervisor { core.noteDataAccess(address, size: size, write: false) }
        let lowPart = readMachine(low, size: inPage)
        return lowPart | readMachine(high, size: size - inPage) << UInt64(inPage * 8)
    }

    /// Writes the low `size` (1…8) bytes of `value`; false after raising a fault or an exit, with
    /// nothing written.
    @inline(never)
    func writeSlowly(_ address: UInt64, _ value: UInt64, size: Int, supervisor: Bool) -> Bool {
        let kind = (supervisor ? AccessKind.implicit : explicitKind).union(.write)
        let inPage = Int(pageSize - address & 0xfff)
        if size <= inPage {
            guard let machine = translate(address, kind),
                supervisor || isAligned(address, size: size),
                reserveRecords(wholeInstruction: false)
            else { return false }
            if !supervisor { core.noteDataAccess(address, size: size, write: true) }
            writeMachine(machine, value, size: size, note: lastNote)
            return true
        }
        let second = linear(address &+ UInt64(inPage), supervisor: supervisor)
        guard let low = translate(address, kind) else { return false }
        let lowNote = lastNote
        guard let high = translate(second, kind), supervisor || isAligned(address, size: size)
        else { return false }
        let highNote = lastNote
        guard reserveRecords(wholeInstruction: false) else { return false }
        if !supervisor { core.noteDataAccess(address, size: size, write: true) }
        writeMachine(low, value, size: inPage, note: lowNote)
        writeMachine(
            high, value >> UInt64(inPage * 8), size: size - inPage, note: highNote)
        return true
    }

    /// Whether an explicit access to `size` (up to 4096) bytes would be permitted now; raises the
    /// fault or exit if not. A write probe sets A and D, and makes sure that the records of the
    /// write have room.
    @inline(never)
    func probe(_ address: UInt64, size: Int, write: Bool) -> Bool {
        let kind = write ? explicitKind.union(.write) : explicitKind
        guard translate(address, kind) != nil else { return false }
        let last = linear(address &+ UInt64(size - 1))
        if last & ~0xfff != address & ~0xfff {
            guard translate(last & ~0xfff, kind) != nil else { return false }
        }
        guard isAligned(address, size: size) else { return false }
        return !write || reserveRecords(wholeInstruction: true)
    }

    /// Whether an explicit access is aligned where that is checked; raises #AC(0) if not. It comes
    /// after page faults (SDM Vol. 3A Table 6-2). Operands of no power of two must be aligned to
    /// their parts, but for the x87 unit's of 10 bytes, which go by 8 (Table 6-7).
    private func isAligned(_ address: UInt64, size: Int) -> Bool {
        guard core.checksAlignment else { return true }
        let part = size == 10 ? 8 : min(UInt64(size & -size), 8)
        if address & (part &- 1) == 0 { return true }
        _ = core.raise(.alignmentCheck)
        return false
    }

    /// The rights of explicit accesses at the current CPL.
    var explicitKind: AccessKind { core.state.cpl == 3 ? .user : [] }

    /// Linear addresses wrap at 4 GiB outside 64-bit mode; those of system structures only
    /// outside IA-32e mode.
    private func linear(_ address: UInt64, supervisor: Bool = false) -> UInt64 {
        core.state.mode == .long64 || supervisor && core.isLongModeActive
            ? address : address & 0xffff_ffff
    }

    /// A host pointer to the bytes from `address` to the end of its page, for an access of
    /// up to `size` bytes within the page that needs no slow path; nil where it does (devices,
    /// traced pages, code) or where it faults: `State.pending` tells.
    func hostPointer(_ address: UInt64, write: Bool) -> UnsafeMutableRawPointer? {
        let kind = write ? explicitKind.union(.write) : explicitKind
        guard let machine = translate(address, kind) else { return nil }
        guard machine < memory.arenaBytes, !core.watchesPage(address), !core.checksAlignment
        else { return nil }
        let flags = unsafe memory.frameFlags[Int(machine >> 12)]
        guard flags & FrameFlags.memory != 0 else { return nil }
        if write && (flags & FrameFlags.slowWrites != 0 || lastNote != .none) { return nil }
        return unsafe memory.base + Int(machine)
    }

    // MARK: Machine addresses

    /// Reads up to 8 bytes within one page: from memory, or from the device bus.
    func readMachine(_ address: UInt64, size: Int) -> UInt64 {
        if address < memory.arenaBytes,
            unsafe memory.frameFlags[Int(address >> 12)] & FrameFlags.memory != 0
        {
            let pointer = unsafe memory.base + Int(address)
            switch size {
            case 1: return UInt64(unsafe pointer.load(as: UInt8.self))
            case 2: return UInt64(unsafe pointer.loadUnaligned(as: UInt16.self))
            case 4: return UInt64(unsafe pointer.loadUnaligned(as: UInt32.self))
            case 8: return unsafe pointer.loadUnaligned(as: UInt64.self)
            default:
                var value: UInt64 = 0
                for byte in 0..<size {
                    let part = unsafe pointer.load(fromByteOffset: byte, as: UInt8.self)
                    value |= UInt64(part) << UInt64(byte * 8)
                }
                return value
            }
        }
        statistics.deviceAccesses += 1
        core.leaveBlock()
        return platform.readDevice(MachineAddress(address), size: size)
    }

    /// Writes up to 8 bytes within one page, noting them first where the page asks for it.
    private func writeMachine(_ address: UInt64, _ value: UInt64, size: Int, note: WriteNote) {
        guard address < memory.arenaBytes,
            unsafe memory.frameFlags[Int(address >> 12)] & FrameFlags.memory != 0
        else {
            statistics.deviceAccesses += 1
            core.leaveBlock()
            platform.writeDevice(MachineAddress(address), size: size, value: value)
            return
        }
        // The record is visible no later than the write. Model: steps R2, R3.
        if note != .none { self.note(note, address, value, size: size) }
        let pointer = unsafe memory.base + Int(address)
        switch size {
        case 1: unsafe pointer.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
        case 2: unsafe pointer.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
        case 4: unsafe pointer.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
        case 8: unsafe pointer.storeBytes(of: value, as: UInt64.self)
        default:
            for byte in 0..<size {
                unsafe pointer.storeBytes(
                    of: UInt8(truncatingIfNeeded: value >> UInt64(byte * 8)), toByteOffset: byte,
                    as: UInt8.self)
            }
        }
        let flags = unsafe memory.frameFlags[Int(address >> 12)]
        guard flags & FrameFlags.slowWrites != 0 else { return }
        if flags & FrameFlags.watched != 0 {
            memory.noteWrite(
                address, size: size, by: .processor(index, rip: runningRIP, retired: retired))
        }
        if flags & FrameFlags.code != 0 {
            memory.codeWritten(address, size: size)
            core.leaveBlock()
        }
    }
}
