import CZstandard

/// Compresses bytes that come in pieces into one Zstandard frame.
@safe package final class Compressor {
    /// Fast rather than small: most of a guest's pages are zero, and those do not come here.
    private static let level: Int32 = 1

    // Invariants: a context that ZSTD_createCCtx made, and memory for what it gives out; both are
    // freed in deinit only.
    private let context: OpaquePointer
    private let output: UnsafeMutableRawBufferPointer

    /// Nil where there is no memory for it.
    package init?() {
        guard let made = unsafe ZSTD_createCCtx() else { return nil }
        unsafe context = made
        unsafe output = .allocate(byteCount: ZSTD_CStreamOutSize(), alignment: 16)
        _ = unsafe ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, Self.level)
    }

    deinit {
        _ = unsafe ZSTD_freeCCtx(context)
        unsafe output.deallocate()
    }

    /// Compresses bytes; with `ends`, the frame is complete after them.
    /// - Parameter sink: is given what comes out, in pieces.
    /// - Returns: false where there is no memory for it.
    package func add<E: Error>(
        _ bytes: UnsafeRawBufferPointer, ends: Bool = false,
        to sink: (UnsafeRawBufferPointer) throws(E) -> Void
    ) throws(E) -> Bool {
        var input = unsafe ZSTD_inBuffer(src: bytes.baseAddress, size: bytes.count, pos: 0)
        while true {
            var made = unsafe ZSTD_outBuffer(dst: output.baseAddress, size: output.count, pos: 0)
            let left = unsafe ZSTD_compressStream2(
                context, &made, &input, ends ? ZSTD_e_end : ZSTD_e_continue)
            if ZSTD_isError(left) != 0 { return false }
            try unsafe sink(UnsafeRawBufferPointer(rebasing: output[..<made.pos]))
            if unsafe ends ? left == 0 : input.pos == input.size { return true }
        }
    }
}

/// Decompresses one Zstandard frame, piece by piece, into memory of the caller's.
@safe final class Decompressor {
    /// The largest window that a frame may ask for, of which the context keeps a copy: 8 MiB.
    /// `Compressor` uses less.
    private static let largestWindow: Int32 = 23
    private static let inputBytes = 256 << 10

    // Invariants: a context that ZSTD_createDCtx made, and memory for its input; both are freed in
    // deinit only. `unread` lies within `input`.
    private let context: OpaquePointer
    private let input: UnsafeMutableRawBufferPointer
    private var unread = 0..<0
    /// Whether the frame is complete.
    private(set) var hasEnded = false

    /// Nil where there is no memory for it.
    init?() {
        guard let made = unsafe ZSTD_createDCtx() else { return nil }
        unsafe context = made
        unsafe input = .allocate(byteCount: Self.inputBytes, alignment: 16)
        _ = unsafe ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, Self.largestWindow)
    }

    deinit {
        _ = unsafe ZSTD_freeDCtx(context)
        unsafe input.deallocate()
    }

    /// Whether nothing is left of the input that it has taken.
    var isEmpty: Bool { unread.isEmpty }

    /// Fills memory with what comes next, or, where there is none, takes the end of the frame.
    /// - Parameter source: puts the next bytes of the frame into a buffer, as many as it likes, and
    ///   says how many; 0 at their end.
    /// - Returns: whether that could be done; false where the frame ends too soon or is damaged.
    func fill<E: Error>(
        _ memory: UnsafeMutableRawBufferPointer,
        from source: (UnsafeMutableRawBufferPointer) throws(E) -> Int
    ) throws(E) -> Bool {
        var made = unsafe ZSTD_outBuffer(dst: memory.baseAddress, size: memory.count, pos: 0)
        while unsafe memory.isEmpty ? !hasEnded : made.pos < made.size {
            if hasEnded { return false }
            if unread.isEmpty {
                unread = unsafe 0..<min(try source(input), input.count)
                if unread.isEmpty { return false }
            }
            let piece = unsafe UnsafeRawBufferPointer(rebasing: input[unread])
            var taken = unsafe ZSTD_inBuffer(src: piece.baseAddress, size: piece.count, pos: 0)
            let before = unsafe made.pos
            let status = unsafe ZSTD_decompressStream(context, &made, &taken)
            if ZSTD_isError(status) != 0 { return false }
            hasEnded = status == 0
            unread = unsafe unread.lowerBound + taken.pos..<unread.upperBound
            // Nothing moves where the frame has contents left, and no memory is there for them.
            if unsafe !hasEnded && taken.pos == 0 && made.pos == before { return false }
        }
        return true
    }
}
