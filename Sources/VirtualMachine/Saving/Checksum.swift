import CXXHash

/// An XXH3-64 checksum of bytes that come in pieces. It finds damage, not forgery.
@safe package final class Checksum {
    // Invariant: a state that XXH3_createState made, freed in deinit only.
    private let state: OpaquePointer

    /// Nil where there is no memory for it.
    package init?() {
        guard let made = unsafe XXH3_createState() else { return nil }
        unsafe state = made
        _ = unsafe XXH3_64bits_reset(state)
    }

    deinit { _ = unsafe XXH3_freeState(state) }

    /// Adds bytes at the end.
    package func add(_ bytes: UnsafeRawBufferPointer) {
        if unsafe bytes.isEmpty { return }
        _ = unsafe XXH3_64bits_update(state, bytes.baseAddress, bytes.count)
    }

    /// The checksum of all that was added.
    package var value: UInt64 { unsafe XXH3_64bits_digest(state) }

    /// The checksum of some bytes.
    package static func of(_ bytes: [UInt8]) -> UInt64 {
        unsafe bytes.withUnsafeBytes { unsafe XXH3_64bits($0.baseAddress, $0.count) }
    }
}
