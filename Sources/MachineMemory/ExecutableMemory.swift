import CHost
import Glibc

/// Host memory for generated code, mapped twice: once writable, once executable, never both.
///
/// Bytes are appended through the writable view; the returned address lies in the executable one.
/// x86 hosts keep instruction fetch coherent with stores of the same memory.
@safe public final class ExecutableMemory {
    private let writable: UnsafeMutableRawPointer
    private let executable: UnsafeMutableRawPointer
    /// The size in bytes of the region.
    public let capacity: Int
    /// How many bytes are taken.
    public private(set) var used = 0
    /// The same of the code that is seldom executed, which lies in the second half.
    public private(set) var coldUsed = 0

    /// Maps `capacity` bytes (rounded up to pages); nil where the host forbids executable memory.
    public init?(capacity: Int) {
        let bytes = (max(capacity, 1) + 4095) & ~4095
        // Memory of its own, not a file's: by that `perf` knows that code in it is named by a map.
        let write = unsafe mmap(
            nil, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        guard unsafe write != MAP_FAILED else { return nil }
        let execute = unsafe penumbra_map_again(write, bytes)
        guard unsafe execute != MAP_FAILED else {
            unsafe munmap(write, bytes)
            return nil
        }
        guard unsafe mprotect(execute, bytes, PROT_READ | PROT_EXEC) == 0 else {
            unsafe munmap(write, bytes)
            unsafe munmap(execute, bytes)
            return nil
        }
        unsafe writable = write.unsafelyUnwrapped
        unsafe executable = execute.unsafelyUnwrapped
        self.capacity = bytes
    }

    deinit {
        unsafe munmap(writable, capacity)
        unsafe munmap(executable, capacity)
    }

    /// Appends code, 16-byte aligned.
    /// - Returns: the host address at which it runs; nil when the region is full.
    public func append(_ code: [UInt8]) -> UInt? {
        let start = (used + 15) & ~15
        guard start + code.count <= (coldUsed == 0 ? capacity : coldStart) else { return nil }
        used = start + code.count
        return copy(code, to: start)
    }

    /// Appends code that is seldom executed, 16-byte aligned, so that the rest lies densely.
    /// - Returns: the host address at which it runs; nil when the second half is full.
    public func appendCold(_ code: [UInt8]) -> UInt? {
        let start = coldStart + (coldUsed + 15) & ~15
        guard used <= coldStart, start + code.count <= capacity else { return nil }
        coldUsed = start + code.count - coldStart
        return copy(code, to: start)
    }

    /// - Parameter start: from where on the region has room for it.
    private func copy(_ code: [UInt8], to start: Int) -> UInt {
        unsafe code.withUnsafeBytes { bytes in
            if let source = bytes.baseAddress {
                unsafe (writable + start).copyMemory(from: source, byteCount: bytes.count)
            }
        }
        return unsafe UInt(bitPattern: executable + start)
    }

    private var coldStart: Int { capacity / 2 & ~15 }

    /// The address of the first byte that is executed.
    public var base: UInt { unsafe UInt(bitPattern: executable) }

    /// Where code that is appended next will run.
    public var nextAddress: UInt { base + UInt((used + 15) & ~15) }

    /// Where cold code that is appended next will run.
    public var nextColdAddress: UInt { base + UInt(coldStart + (coldUsed + 15) & ~15) }

    /// Replaces bytes of code. What lies beyond the code is left alone.
    /// - Parameter offset: from `base`.
    public func replace(_ bytes: [UInt8], at offset: Int) {
        guard offset >= 0, offset <= used - bytes.count else { return }
        unsafe bytes.withUnsafeBytes { source in
            if let start = source.baseAddress {
                unsafe (writable + offset).copyMemory(from: start, byteCount: source.count)
            }
        }
    }

    /// Forgets all code but the first `kept` bytes.
    public func removeAll(keeping kept: Int) {
        used = min(used, max(kept, 0))
        coldUsed = 0
    }

    /// Forgets all code. No address handed out before may be called any more.
    public func removeAll() { removeAll(keeping: 0) }
}
