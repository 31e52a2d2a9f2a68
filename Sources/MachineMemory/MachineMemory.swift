import Glibc
import X86

/// The modelled machine's memory: one sparse host mapping, indexed by machine address.
///
/// ```
///  machine address
///  0                    guestBase                                  guestBase + top of guest RAM
///  ┌────────────────────┬──────────────┬──────────┬────────────────┐
///  │ hypervisor frames  │ low guest RAM│  (hole)  │ high guest RAM │  no memory: the device bus
///  └────────────────────┴──────────────┴──────────┴────────────────┘
/// ```
/// Guest physical address `g` is machine address `guestBase + g`, for RAM and for devices alike.
/// With `guestBase` 0 there are no hypervisor frames and guest physical *is* machine: the
/// technique `bare`. The shadow techniques put the guest elsewhere, so that a guest address used
/// where a machine address belongs is a wrong address and not a lucky one.
///
/// The mapping is anonymous and untouched pages cost nothing. Its address never changes, which is
/// what makes the raw host addresses in the processor's software TLB safe for the machine's
/// lifetime.
@safe public final class MachineMemory {
    /// Where guest-physical address 0 lies; a multiple of 1 GiB so that large pages stay aligned.
    public let guestBase: UInt64
    /// The size in bytes of guest RAM in all.
    public let guestBytes: UInt64
    /// The end of guest RAM below the hole for devices, in guest-physical bytes.
    public let lowGuestBytes: UInt64
    /// The bytes of RAM from 4 GiB up.
    public let highGuestBytes: UInt64
    /// The size of the arena: machine addresses at or beyond it have no memory.
    public let arenaBytes: UInt64
    /// The host address of machine address 0.
    package let base: UnsafeMutableRawPointer
    /// One byte a machine frame, `FrameFlags`; shared with the processor.
    package let frameFlags: UnsafeMutablePointer<UInt8>
    /// How many frames `frameFlags` describes.
    public let frameCount: UInt64
    /// The code caches of the machine's processors.
    var codeCaches: [WeakCodeCache] = []
    /// Who is told of writes to watched frames.
    package weak var writeObserver: (any MemoryWriteObserver)? {
        didSet { isObserved = writeObserver != nil }
    }
    /// Whether there ever was one: nothing of it is looked at otherwise.
    var isObserved = false
    /// How many of them hold code of a frame; frames of which none does are not in it.
    var codeHolders: [UInt64: Int] = [:]

    /// Where RAM below the hole for devices ends at most, in guest-physical bytes: 3 GiB.
    public static let lowLimit: UInt64 = 0xc000_0000
    /// Where RAM above the hole starts, in guest-physical bytes: 4 GiB.
    public static let highStart: UInt64 = 0x1_0000_0000

    /// Reserves the arena.
    /// - Parameters:
    ///   - guestBytes: guest RAM, a multiple of 4 KiB.
    ///   - hypervisorBytes: machine memory for shadow tables and buffers; 0 for `bare`.
    public init(guestBytes: UInt64, hypervisorBytes: UInt64) throws(MachineMemoryError) {
        let gigabyte: UInt64 = 1 << 30
        guard guestBytes > 0, guestBytes % pageSize == 0, guestBytes <= 1 << 38 else {
            throw .badGuestSize(guestBytes)
        }
        guard hypervisorBytes <= 1 << 36 else { throw .badHypervisorSize(hypervisorBytes) }
        guestBase = (hypervisorBytes + gigabyte - 1) / gigabyte * gigabyte
        self.guestBytes = guestBytes
        lowGuestBytes = min(guestBytes, Self.lowLimit)
        highGuestBytes = guestBytes - lowGuestBytes
        arenaBytes =
            guestBase + (highGuestBytes > 0 ? Self.highStart + highGuestBytes : lowGuestBytes)
        frameCount = arenaBytes / pageSize
        guard let arena = unsafe Self.reserve(Int(arenaBytes)) else {
            throw .noAddressSpace(arenaBytes)
        }
        guard let flags = unsafe Self.reserve(Int(frameCount)) else {
            unsafe munmap(arena, Int(arenaBytes))
            throw .noAddressSpace(frameCount)
        }
        unsafe base = arena
        unsafe frameFlags = flags.bindMemory(to: UInt8.self, capacity: Int(frameCount))
        markMemory(0..<hypervisorBytes / pageSize)
        let first = guestBase / pageSize
        markMemory(first..<first + lowGuestBytes / pageSize)
        let high = first + Self.highStart / pageSize
        markMemory(high..<high + highGuestBytes / pageSize)
    }

    deinit {
        unsafe munmap(base, Int(arenaBytes))
        unsafe munmap(frameFlags, Int(frameCount))
    }

    private static func reserve(_ bytes: Int) -> UnsafeMutableRawPointer? {
        let address = unsafe mmap(
            nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        return unsafe address == MAP_FAILED ? nil : address
    }

    private func markMemory(_ frames: Range<UInt64>) {
        for frame in frames where frame < frameCount {
            unsafe frameFlags[Int(frame)] |= FrameFlags.memory
        }
    }

    /// Whether memory answers at every byte of `size` bytes from `address`.
    public func isMemory(_ address: MachineAddress, size: Int) -> Bool {
        let last = address.rawValue &+ UInt64(size) &- 1
        guard size > 0, last >= address.rawValue, last < arenaBytes else { return false }
        var frame = address.rawValue >> 12
        while frame <= last >> 12 {
            if unsafe frameFlags[Int(frame)] & FrameFlags.memory == 0 { return false }
            frame += 1
        }
        return true
    }

    /// The machine address of a guest-physical one. There may be no memory at it.
    public func machineAddress(of guest: GuestPhysicalAddress) -> MachineAddress {
        MachineAddress(guest.rawValue &+ guestBase)
    }

    /// The guest-physical address of a machine address that lies in the guest's part.
    public func guestAddress(of machine: MachineAddress) -> GuestPhysicalAddress {
        GuestPhysicalAddress(machine.rawValue &- guestBase)
    }

    /// Whether guest RAM answers at every byte of `size` bytes from `address`.
    public func isGuestMemory(_ address: GuestPhysicalAddress, size: Int) -> Bool {
        // A guest-physical address near 2^64 must not wrap into hypervisor frames.
        address.rawValue < arenaBytes && isMemory(machineAddress(of: address), size: size)
    }

    /// Reads a little-endian integer; nil where no memory answers.
    public func load<W: FixedWidthInteger>(_ type: W.Type, at address: MachineAddress) -> W? {
        guard isMemory(address, size: MemoryLayout<W>.size) else { return nil }
        return unsafe base.loadUnaligned(fromByteOffset: Int(address.rawValue), as: W.self)
    }

    /// Writes a little-endian integer; false where no memory answers.
    ///
    /// This is the hypervisor's, the devices' and the loader's way in. It does not pass through a
    /// traced translation and drops no decoded code: the callers see to both.
    /// - Parameter writer: whose write it is, for those who watch the frame.
    @discardableResult
    public func store<W: FixedWidthInteger>(
        _ value: W, at address: MachineAddress, by writer: MemoryWriter = .host
    ) -> Bool {
        guard isMemory(address, size: MemoryLayout<W>.size) else { return false }
        unsafe base.storeBytes(of: value, toByteOffset: Int(address.rawValue), as: W.self)
        noteWrite(address.rawValue, size: MemoryLayout<W>.size, by: writer)
        return true
    }

    /// Replaces the 8-byte entry at `address` if it still holds `expected`.
    /// - Parameter writer: whose write it is, for those who watch the frame.
    /// - Returns: whether it did. False too where no memory answers.
    public func compareAndSwap(
        at address: MachineAddress, expected: UInt64, desired: UInt64,
        by writer: MemoryWriter = .hypervisor
    ) -> Bool {
        // One host thread runs all virtual processors, so a plain exchange is atomic to the guest.
        guard load(UInt64.self, at: address) == expected else { return false }
        return store(desired, at: address, by: writer)
    }

    /// The same for a 4-byte entry.
    public func compareAndSwap(
        at address: MachineAddress, expected: UInt32, desired: UInt32,
        by writer: MemoryWriter = .hypervisor
    ) -> Bool {
        guard load(UInt32.self, at: address) == expected else { return false }
        return store(desired, at: address, by: writer)
    }

    /// Copies bytes in; false, and nothing written, unless memory answers at all of them.
    @discardableResult
    public func write(_ bytes: Span<UInt8>, at address: MachineAddress) -> Bool {
        if bytes.isEmpty { return true }
        guard isMemory(address, size: bytes.count) else { return false }
        unsafe bytes.withUnsafeBytes { source in
            unsafe (base + Int(address.rawValue)).copyMemory(
                from: source.baseAddress.unsafelyUnwrapped, byteCount: source.count)
        }
        noteWrite(address.rawValue, size: bytes.count, by: .host)
        return true
    }

    /// Copies `count` bytes out; nil unless memory answers at all of them.
    public func read(at address: MachineAddress, count: Int) -> [UInt8]? {
        if count == 0 { return [] }
        guard isMemory(address, size: count) else { return nil }
        return unsafe [UInt8](
            UnsafeRawBufferPointer(start: base + Int(address.rawValue), count: count))
    }

    /// Fills one frame with zeroes. The frame must have memory.
    public func clear(_ frame: MachineFrame) {
        precondition(isMemory(frame.base, size: Int(pageSize)), "no memory in the frame")
        unsafe (base + Int(frame.base.rawValue)).initializeMemory(
            as: UInt8.self, repeating: 0, count: Int(pageSize))
    }
}

/// What `MachineMemory.frameFlags` says of a frame.
public enum FrameFlags {
    /// Memory answers in this frame.
    @inlinable public static var memory: UInt8 { 1 }
    /// Instructions decoded from this frame are cached.
    @inlinable public static var code: UInt8 { 2 }
    /// Writes to this frame are told to `MachineMemory.writeObserver`.
    @inlinable public static var watched: UInt8 { 4 }
    /// Writes to a frame with one of these take the slow path.
    @inlinable public static var slowWrites: UInt8 { code | watched }
}

/// Why machine memory could not be made.
public enum MachineMemoryError: Error, Equatable, CustomStringConvertible {
    case badGuestSize(UInt64)
    case badHypervisorSize(UInt64)
    case noAddressSpace(UInt64)

    public var description: String {
        switch self {
        case .badGuestSize(let bytes):
            "guest memory of \(bytes) bytes is not possible: give a multiple of 4 KiB up to 256 GiB"
        case .badHypervisorSize(let bytes):
            "\(bytes) bytes of shadow memory are not possible: give at most 64 GiB"
        case .noAddressSpace(let bytes):
            "the host has no address space for \(bytes) bytes: give the guest less memory"
        }
    }
}
