/// Pages that the kernel has mapped for the program, in words of 8 bytes; zero at first.
@safe struct Memory {
    static let pageSize = 4096
    static let wordsPerPage = pageSize / 8

    let address: Int
    /// The size in bytes.
    let size: Int

    /// Maps memory. With `isShared` processes that are forked later share it.
    init(pages: Int, isShared: Bool = false) {
        size = pages * Memory.pageSize
        // PROT_READ | PROT_WRITE; MAP_ANONYMOUS with MAP_SHARED or MAP_PRIVATE.
        address = System.call(.mmap, 0, size, 3, isShared ? 0x21 : 0x22, -1)
        // MADV_NOHUGEPAGE, so that every kernel has pages of 4 KiB here; one that has no large ones
        // refuses the advice.
        System.attempt(.madvise, address, size, 15)
    }

    /// Memory that is mapped already.
    init(address: Int, size: Int) {
        self.address = address
        self.size = size
    }

    /// Unmaps it. The value must not be used any more.
    func unmap() { System.call(.munmap, address, size) }

    /// Lets it be written, or read only.
    func protect(writable: Bool) { System.call(.mprotect, address, size, writable ? 3 : 1) }

    /// A word, counted from the start; it must lie within.
    subscript(word: Int) -> UInt64 {
        get { unsafe pointer(word).pointee }
        nonmutating set { unsafe pointer(word).pointee = newValue }
    }

    /// Sets all bytes.
    func fill(with byte: UInt8) { Memory.set(address, Int32(byte), size) }

    /// Copies as much from another memory, which is not smaller.
    func copy(_ other: Memory) { Memory.move(address, other.address, size) }

    @_extern(c, "memset") private static func set(_ target: Int, _ byte: Int32, _ size: Int)
    @_extern(c, "memcpy") private static func move(_ target: Int, _ source: Int, _ size: Int)

    /// A byte, counted from the start; it must lie within.
    subscript(byte byte: Int) -> UInt8 {
        unsafe UnsafePointer(bitPattern: address &+ byte).unsafelyUnwrapped.pointee
    }

    /// The four single-precision numbers of two words, counted in vectors from the start.
    subscript(vector vector: Int) -> SIMD4<Float> {
        get { unsafe UnsafePointer(vectors + vector).pointee }
        nonmutating set { unsafe vectors[vector] = newValue }
    }

    private var vectors: UnsafeMutablePointer<SIMD4<Float>> {
        unsafe UnsafeMutablePointer(bitPattern: address).unsafelyUnwrapped
    }

    @inline(__always)
    private func pointer(_ word: Int) -> UnsafeMutablePointer<UInt64> {
        // Mapped memory does not lie at address 0.
        unsafe UnsafeMutablePointer(bitPattern: address &+ word &* 8).unsafelyUnwrapped
    }
}
